"""The registry of operations: a list that can be read.

A new operation is one file in `imaging/`, one entry in `OPERATIONS`, one thin task and one golden image.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

MAX_SIDE = 16384  # pixels; AVIF and WebP cannot go much further and libvips needs a bound

Side = Annotated[int, Field(ge=1, le=MAX_SIDE)]
Quality = Annotated[int, Field(ge=1, le=100)]
Colour = Annotated[str, Field(pattern=r"^#[0-9a-fA-F]{6}$")]


class Queue(StrEnum):
    """Every queue that carries work; one worker deployment each."""

    #: pixel work by libvips, job bookkeeping
    DEFAULT = "default_queue"
    #: neural networks, one at a time per worker
    ML = "ml_inference_queue"


class Params(BaseModel):
    """Parameters of an operation: unknown names are errors, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ResizeParams(Params):
    """Scale to a width, a height or a box; the aspect ratio is kept unless `fit` is `fill`."""

    width: Side | None = Field(None, description="Target width in pixels.", examples=[1280])
    height: Side | None = Field(None, description="Target height in pixels.")
    fit: Literal["inside", "outside", "cover", "fill"] = Field(
        "inside",
        description="With both sides given: `inside` fits into the box, `outside` covers it at least, "
        "`cover` fills it and cuts off what is over at the centre, `fill` distorts.",
    )
    enlarge: bool = Field(False, description="Whether an image smaller than the target may grow.")

    @model_validator(mode="after")
    def _needs_a_side(self) -> Self:
        if self.width is None and self.height is None:
            raise ValueError("resize needs a width, a height or both")
        return self


class WebpParams(Params):
    """Encode as WebP."""

    quality: Quality = 80
    effort: int = Field(4, ge=0, le=6, description="0 is fastest, 6 gives the smallest file.")
    lossless: bool = False


class AvifParams(Params):
    """Encode as AVIF."""

    quality: Quality = 50
    effort: int = Field(2, ge=0, le=9, description="0 is fastest, 9 gives the smallest file.")
    lossless: bool = False


class JpegParams(Params):
    """Encode as JPEG."""

    quality: Quality = 80
    progressive: bool = True
    background: Colour = Field("#ffffff", description="Colour under transparent pixels.")


class PngParams(Params):
    """Encode as PNG."""

    compression: int = Field(6, ge=0, le=9, description="0 is fastest, 9 gives the smallest file.")


class DenoiseParams(Params):
    """Remove noise, of a strength that need not be known, by a neural network (DnCNN)."""

    strength: float = Field(1.0, ge=0, le=1, description="How much of the noise is removed.")
    profile: Literal["exact"] = Field("exact", description="`exact` is the network in float32.")
    if_noisy: float | None = Field(
        None,
        ge=0,
        le=100,
        description="Leave the image alone when its noise is weaker: a standard deviation on the scale of 8 bit.",
        examples=[5],
    )


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One entry of the registry."""

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
    #: whether 16 bits per channel stay 16
    deep: bool = False
    #: whether its result is a PNG when no operation says otherwise: the format of the input would add losses
    lossless: bool = False
    #: parameters for `/docs` and for the tests that run every operation
    example: dict[str, object]


RESIZE = Operation(
    name="resize",
    params=ResizeParams,
    handler="app.imaging.resize:run",
    task="pixtools.resize",
    example={"width": 1280},
)
CONVERT_WEBP = Operation(
    name="convert_webp",
    params=WebpParams,
    handler="app.imaging.convert_webp:save",
    task="pixtools.convert_webp",
    format="webp",
    example={"quality": 80},
)
CONVERT_AVIF = Operation(
    name="convert_avif",
    params=AvifParams,
    handler="app.imaging.convert_avif:save",
    task="pixtools.convert_avif",
    format="avif",
    example={"quality": 50},
)
CONVERT_JPEG = Operation(
    name="convert_jpeg",
    params=JpegParams,
    handler="app.imaging.convert_jpeg:save",
    task="pixtools.convert_jpeg",
    format="jpeg",
    example={"quality": 80},
)
CONVERT_PNG = Operation(
    name="convert_png",
    params=PngParams,
    handler="app.imaging.convert_png:save",
    task="pixtools.convert_png",
    format="png",
    deep=True,
    example={},
)
DENOISE = Operation(
    name="denoise",
    params=DenoiseParams,
    handler="app.ml.denoise:run",
    task="pixtools.denoise",
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


OPERATIONS = _registry(RESIZE, CONVERT_WEBP, CONVERT_AVIF, CONVERT_JPEG, CONVERT_PNG, DENOISE)

#: the operation whose encoder writes a format when no operation asked for one
ENCODERS = {operation.format: operation for operation in OPERATIONS.values() if operation.format}

CONTENT_TYPES = {
    "jpeg": "image/jpeg",
    "png": "image/png",
    "webp": "image/webp",
    "avif": "image/avif",
    "gif": "image/gif",
    "tiff": "image/tiff",
}

EXTENSIONS = {"jpeg": "jpg", "tiff": "tif"}  # where it is not the format's own name
