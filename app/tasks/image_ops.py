"""One thin task per pixel operation. A linear run of operations is one task: the one of its last operation."""

from celery.signals import worker_ready

from app.operations import (
    BLUR,
    CONVERT_AVIF,
    CONVERT_GIF,
    CONVERT_JPEG,
    CONVERT_PNG,
    CONVERT_TIFF,
    CONVERT_WEBP,
    CROP,
    FLIP,
    METADATA,
    RESIZE,
    ROTATE,
    SHARPEN,
    TRIM,
    WATERMARK,
)
from app.tasks import spare
from app.tasks.planned import task_of
from app.tasks.runtime import resources

resize = task_of(RESIZE)
crop = task_of(CROP)
rotate = task_of(ROTATE)
flip = task_of(FLIP)
trim = task_of(TRIM)
blur = task_of(BLUR)
sharpen = task_of(SHARPEN)
watermark = task_of(WATERMARK)
convert_webp = task_of(CONVERT_WEBP)
convert_avif = task_of(CONVERT_AVIF)
convert_jpeg = task_of(CONVERT_JPEG)
convert_png = task_of(CONVERT_PNG)
convert_gif = task_of(CONVERT_GIF)
convert_tiff = task_of(CONVERT_TIFF)
metadata = task_of(METADATA)


@worker_ready.connect
def _warm(**_: object) -> None:
    """Whoever needs the spare process is in a hurry."""
    if spare.is_one():
        resources().sandbox.warm()
