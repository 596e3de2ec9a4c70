"""The registry of operations.

A new operation is one file in `imaging/`, one entry in `OPERATIONS` and one golden image; `make docs` writes its rows
of docs/operations.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from app.formats import FORMATS
from app.parameters import (
    AvifParams,
    BlurParams,
    CropParams,
    DenoiseParams,
    FlipParams,
    GifParams,
    GrayscaleParams,
    JpegParams,
    MetadataParams,
    Params,
    PngParams,
    ResizeParams,
    RotateParams,
    SharpenParams,
    TiffParams,
    TrimParams,
    WatermarkParams,
    WebParams,
    WebpParams,
)


class Queue(StrEnum):
    """The queues with work, each with its own worker deployment."""

    #: pixel work by libvips, job bookkeeping
    DEFAULT = "default_queue"
    #: small pixel work and the start of trees, for the spare process of each pixel worker
    SMALL = "small_queue"
    #: neural networks, one at a time per worker
    ML = "ml_inference_queue"
    #: attempts at webhooks, which mostly wait for other servers; in threads
    WEBHOOK = "webhook_queue"
    #: inputs that are fetched; in threads
    FETCH = "fetch_queue"


class AssetKind(StrEnum):
    """The kind of a stored file."""

    IMAGE = "image"
    FONT = "font"


#: carries no work: messages that were given up wait here until they are recorded
DEAD_LETTER_QUEUE = "dead_letter_queue"
#: name of the step that fetches the input of a job; no tree may use it
FETCH = "fetch"


@dataclass(frozen=True, kw_only=True)
class Operation:
    """An operation, as registered in `OPERATIONS`."""

    #: name in an operation tree and in results
    name: str
    params: type[Params]
    #: `module:function`, imported by the worker on first use, so that the API never loads libvips or a network
    handler: str
    #: name of the Celery task
    task: str
    queue: Queue = Queue.DEFAULT
    #: format of the output; None keeps the one of the input
    format: str | None = None
    #: rough CPU time per pixel, which distinguishes small work; see `scheduling/effort.py`
    nanoseconds: float
    #: `module:function` that processes all frames of an animation together, if they depend on one another
    frames_handler: str | None = None
    #: `module:function` that has the decoder do part of the work
    on_load: str | None = None
    #: True: the image may have another size afterwards
    resizes: bool = False
    #: True: 16 bits per channel stay 16
    deep: bool = False
    #: `module:function` that names its files, from its parameters and the size of the image; None: it writes one file.
    #: Such an operation is the last of its branch, and `format` is that of the file which lists the others
    bundle: str | None = None
    #: parameters that name a stored file, and the kind that it must have
    assets: Mapping[str, AssetKind] = field(default_factory=dict, hash=False)
    #: True: it processes or writes all frames of an animation
    animated: bool = False
    #: True: its result is a PNG unless an operation says otherwise: the input's format might be lossy
    lossless: bool = False
    #: parameters for `/docs` and for the tests that run every operation
    example: dict[str, object]

    @property
    def gives_image(self) -> bool:
        """Whether another operation can process its output."""
        return self.format is None or FORMATS[self.format].is_image

    @property
    def encodes(self) -> bool:
        """Whether it encodes a file, and leaves the pixels unchanged."""
        return self.format is not None and self.gives_image


RESIZE = Operation(
    name="resize",
    params=ResizeParams,
    handler="app.imaging.resize:run",
    frames_handler="app.imaging.resize:run_frames",
    on_load="app.imaging.resize:on_load",
    resizes=True,
    task="pixtools.resize",
    nanoseconds=15,
    deep=True,
    animated=True,
    example={"width": 1280},
)
CROP = Operation(
    name="crop",
    params=CropParams,
    handler="app.imaging.crop:run",
    frames_handler="app.imaging.crop:run_frames",
    resizes=True,
    task="pixtools.crop",
    nanoseconds=5,
    deep=True,
    animated=True,
    example={"width": 800, "height": 600},
)
ROTATE = Operation(
    name="rotate",
    params=RotateParams,
    handler="app.imaging.rotate:run",
    task="pixtools.rotate",
    nanoseconds=30,
    deep=True,
    animated=True,
    example={"angle": 90},
)
FLIP = Operation(
    name="flip",
    params=FlipParams,
    handler="app.imaging.flip:run",
    task="pixtools.flip",
    nanoseconds=5,
    deep=True,
    animated=True,
    example={},
)
TRIM = Operation(
    name="trim",
    params=TrimParams,
    handler="app.imaging.trim:run",
    frames_handler="app.imaging.trim:run_frames",
    resizes=True,
    task="pixtools.trim",
    nanoseconds=200,
    deep=True,
    animated=True,
    example={},
)
BLUR = Operation(
    name="blur",
    params=BlurParams,
    handler="app.imaging.blur:run",
    task="pixtools.blur",
    nanoseconds=90,
    deep=True,
    animated=True,
    example={"sigma": 3},
)
SHARPEN = Operation(
    name="sharpen",
    params=SharpenParams,
    handler="app.imaging.sharpen:run",
    task="pixtools.sharpen",
    nanoseconds=100,
    deep=True,
    animated=True,
    example={},
)
GRAYSCALE = Operation(
    name="grayscale",
    params=GrayscaleParams,
    handler="app.imaging.grayscale:run",
    task="pixtools.grayscale",
    nanoseconds=7,
    deep=True,
    animated=True,
    example={},
)
WATERMARK = Operation(
    name="watermark",
    params=WatermarkParams,
    handler="app.imaging.watermark:run",
    frames_handler="app.imaging.watermark:run_frames",
    task="pixtools.watermark",
    nanoseconds=20,
    deep=True,
    animated=True,
    assets={"image": AssetKind.IMAGE, "font": AssetKind.FONT},
    example={"text": "PixTools"},
)
CONVERT_WEBP = Operation(
    name="convert_webp",
    params=WebpParams,
    handler="app.imaging.convert_webp:save",
    task="pixtools.convert_webp",
    nanoseconds=110,
    format="webp",
    animated=True,
    example={"quality": 80},
)
CONVERT_AVIF = Operation(
    name="convert_avif",
    params=AvifParams,
    handler="app.imaging.convert_avif:save",
    task="pixtools.convert_avif",
    nanoseconds=260,
    format="avif",
    example={"quality": 65},
)
CONVERT_JPEG = Operation(
    name="convert_jpeg",
    params=JpegParams,
    handler="app.imaging.convert_jpeg:save",
    task="pixtools.convert_jpeg",
    nanoseconds=30,
    format="jpeg",
    example={"quality": 80},
)
CONVERT_PNG = Operation(
    name="convert_png",
    params=PngParams,
    handler="app.imaging.convert_png:save",
    task="pixtools.convert_png",
    nanoseconds=160,
    format="png",
    deep=True,
    example={},
)
CONVERT_GIF = Operation(
    name="convert_gif",
    params=GifParams,
    handler="app.imaging.convert_gif:save",
    task="pixtools.convert_gif",
    nanoseconds=850,
    format="gif",
    animated=True,
    example={},
)
CONVERT_TIFF = Operation(
    name="convert_tiff",
    params=TiffParams,
    handler="app.imaging.convert_tiff:save",
    task="pixtools.convert_tiff",
    nanoseconds=50,
    format="tiff",
    deep=True,
    example={},
)
METADATA = Operation(
    name="metadata",
    params=MetadataParams,
    handler="app.imaging.metadata.describe:describe",
    task="pixtools.metadata",
    nanoseconds=10,
    format="json",
    deep=True,
    example={},
)
WEB = Operation(
    name="web",
    params=WebParams,
    handler="app.imaging.web:save",
    bundle="app.imaging.responsive.breakpoints:outlines",
    on_load="app.imaging.responsive.breakpoints:on_load",
    task="pixtools.web",
    nanoseconds=700,
    format="json",
    deep=True,
    example={"widths": [320, 640, 1280]},
)
DENOISE = Operation(
    name="denoise",
    params=DenoiseParams,
    handler="app.ml.denoise:run",
    task="pixtools.denoise",
    nanoseconds=1_000_000,
    queue=Queue.ML,
    deep=True,
    lossless=True,
    example={"strength": 1.0},
)


def _registry(*operations: Operation) -> dict[str, Operation]:
    registry = {operation.name: operation for operation in operations}
    if len(registry) != len(operations):
        raise RuntimeError("two operations share a name")
    return registry


OPERATIONS = _registry(
    *(RESIZE, CROP, ROTATE, FLIP, TRIM, BLUR, SHARPEN, GRAYSCALE, WATERMARK),
    *(CONVERT_WEBP, CONVERT_AVIF, CONVERT_JPEG, CONVERT_PNG, CONVERT_GIF, CONVERT_TIFF),
    *(METADATA, WEB, DENOISE),
)

#: for each format, the operation that writes it if no operation names a format
ENCODERS = {operation.format: operation for operation in OPERATIONS.values() if operation.encodes}
