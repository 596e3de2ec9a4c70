"""The parameters of all operations, with their limits."""

from typing import Annotated, Any, Literal, Self
from unicodedata import category

from pydantic import BaseModel, ConfigDict, Field, model_validator

from app import glyphs

MAX_SIDE = 16384  # pixels; AVIF and WebP allow little more, and libvips needs a limit

UNSEEN = {"Cc", "Co", "Cs", "Zl", "Zp"}  # control, private, surrogate, ends of line and paragraph

Side = Annotated[int, Field(ge=1, le=MAX_SIDE)]
Quality = Annotated[int, Field(ge=1, le=100)]
Colour = Annotated[str, Field(pattern=r"^#[0-9a-fA-F]{6}$")]
ColourWithAlpha = Annotated[str, Field(pattern=r"^#([0-9a-fA-F]{6}|[0-9a-fA-F]{8})$")]
Share = Annotated[float, Field(ge=0, le=1)]
PaletteSize = Literal[2, 4, 8, 16, 32, 64, 128, 256]
PngPaletteSize = Literal[2, 4, 16, 256]  # PNG numbers the colours of a palette with 1, 2, 4 or 8 bits
KeepMetadata = Literal["none", "copyright", "icc", "all"]
Place = Literal["center", "north", "northeast", "east", "southeast", "south", "southwest", "west", "northwest"]
Gravity = Place | Literal["attention"]
WebFormat = Literal["avif", "webp", "jpeg"]
PixelRatio = Annotated[float, Field(ge=1, le=4)]
WEB_MIN_WIDTH, WEB_MAX_WIDTH, WEB_MAX_IMAGES = 320, 1920, 20  # where `web` chooses the widths itself
SIZES = r"^[A-Za-z0-9 ():,.%+*/<>=-]+$"
#: an http address, or a path: no other scheme, and nothing that would end a name in `srcset`
BASE_URL = (
    r"^(https?://[A-Za-z0-9.:\[\]-]+(/[A-Za-z0-9._~!$&()*+;=:@%/-]*)?"
    r"|/?[A-Za-z0-9._~!$&()*+;=@%-][A-Za-z0-9._~!$&()*+;=@%/-]*|/)$"
)
ASSET_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"
AssetName = Annotated[str, Field(pattern=ASSET_NAME)]
FocalPoint = Annotated[
    list[Share],
    Field(
        min_length=2,
        max_length=2,
        description="Point to keep near the middle, as shares of width and height from the top left: `[0.3, 0.4]`. It "
        "overrides `gravity`.",
        examples=[[0.3, 0.4]],
    ),
]


def visible_line(text: str) -> str:
    """The text without line breaks, control characters and noncharacters.

    Joiners, direction marks, the soft hyphen and all spaces are kept: Persian, Hindi, Hebrew and emoji need them.
    """
    return "".join(
        character for character in text if category(character) not in UNSEEN and not _is_no_character(character)
    )


def _is_no_character(character: str) -> bool:
    """Whether a code point is a Unicode noncharacter. Unassigned ones are allowed, since they may be new emoji."""
    number = ord(character)
    return number & 0xFFFE == 0xFFFE or 0xFDD0 <= number <= 0xFDEF


class Params(BaseModel):
    """Parameters of an operation: unknown names are errors, and values are immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def in_plan(self) -> dict[str, Any]:
        """The parameters in the form in which a plan stores them.

        Defaults are included, so that a later version with other defaults gives the same result. Unused options, whose
        default is null, are left out, so that a worker of an earlier version that lacks a new option can still run
        every step without it.
        """
        fields = type(self).model_fields
        values = self.model_dump()
        return {name: value for name, value in values.items() if value is not None or fields[name].default is not None}


class ResizeParams(Params):
    """Scale to a width, a height or a box; the aspect ratio is kept unless `fit` is `fill`."""

    model_config = ConfigDict(json_schema_extra={"anyOf": [{"required": ["width"]}, {"required": ["height"]}]})

    width: Side | None = Field(
        None, description="Target width in pixels; a width, a height or both are needed.", examples=[1280]
    )
    height: Side | None = Field(None, description="Target height in pixels.")
    fit: Literal["inside", "outside", "cover", "contain", "fill"] = Field(
        "inside",
        description="How to fit into a width and a height: `inside` stays within the box, `outside` covers the box "
        "without cutting, `cover` fills it and cuts off the rest, `contain` stays within it and pads it, `fill` "
        "distorts.",
    )
    gravity: Gravity = Field(
        "center",
        description="The part that `cover` keeps, and where `contain` puts the image; `attention` keeps the most "
        "eye-catching part and is only for `cover`.",
    )
    focal_point: FocalPoint | None = None
    background: ColourWithAlpha = Field(
        "#ffffff", description="Colour that `contain` pads with; two more digits are alpha."
    )
    enlarge: bool = Field(False, description="Whether an image smaller than the target may grow.")
    linear: bool = Field(
        False,
        description="Scale in linear light: fine bright detail stays bright. Slower, since the decoder cannot scale.",
    )

    @model_validator(mode="after")
    def _needs_a_side(self) -> Self:
        if self.width is None and self.height is None:
            raise ValueError("a width, a height or both are needed")
        if self.gravity == "attention" and self.fit == "contain":
            raise ValueError("the gravity `attention` is for `cover`; nothing is cut off by `contain`")
        return self


class CropParams(Params):
    """Cut out a rectangle, by its corner or by gravity."""

    model_config = ConfigDict(json_schema_extra={"dependentRequired": {"left": ["top"], "top": ["left"]}})

    width: Side = Field(description="Pixels.", examples=[800])
    height: Side = Field(description="Pixels.", examples=[600])
    left: Annotated[int, Field(ge=0, le=MAX_SIDE)] | None = Field(
        None,
        description="Left edge, together with `top`. An area outside the image fails the step with "
        "`area_outside_image`.",
    )
    top: Annotated[int, Field(ge=0, le=MAX_SIDE)] | None = Field(None, description="Top edge, together with `left`.")
    gravity: Gravity = Field(
        "center", description="Without `left` and `top`: the part that is kept, at most the whole image."
    )
    focal_point: FocalPoint | None = None

    @model_validator(mode="after")
    def _corner_is_whole(self) -> Self:
        if (self.left is None) != (self.top is None):
            raise ValueError("`left` and `top` go together: give both or neither")
        return self


class RotateParams(Params):
    """Rotate clockwise; quarter turns are lossless, other angles enlarge the canvas."""

    angle: float = Field(ge=-360, le=360, description="Degrees clockwise.", examples=[90])
    background: ColourWithAlpha = Field(
        "#ffffff", description="Colour of the corners that open, except at quarter turns; two more digits are alpha."
    )


class FlipParams(Params):
    """Mirror."""

    direction: Literal["horizontal", "vertical", "both"] = Field(
        "horizontal", description="`horizontal` exchanges left and right, `vertical` top and bottom."
    )


class TrimParams(Params):
    """Cut off a border of one colour."""

    threshold: float = Field(10, ge=0, le=255, description="How far from the border's colour still counts as border.")
    background: Colour | None = Field(
        None,
        description="Colour of the border; default: that of the top left pixel. The step reports the area that was "
        "kept.",
    )


class BlurParams(Params):
    """Blur (Gaussian)."""

    sigma: float = Field(ge=0.3, le=100, description="Standard deviation in pixels.", examples=[3])


class SharpenParams(Params):
    """Sharpen lightness, not colour; flat areas are sharpened less than edges, so that noise stays low."""

    sigma: float = Field(0.5, ge=0.3, le=10, description="Size of the detail that is sharpened, in pixels.")
    flat: float = Field(0.0, ge=0, le=100, description="Strength in flat areas.")
    edges: float = Field(3.0, ge=0, le=100, description="Strength at edges.")


class GrayscaleParams(Params):
    """Convert to grey: one channel with the luminance, computed in linear sRGB light; transparency is kept."""


class WatermarkParams(Params):
    """Put a stored image or a line of text over the image; one of the two is needed."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [{"required": ["image"]}, {"required": ["text"]}],
            "dependentRequired": {"font": ["text"]},
        }
    )

    image: AssetName | None = Field(None, description="Name of an image that was stored with PUT /assets.")
    text: Annotated[str, Field(min_length=1, max_length=200)] | None = Field(
        None, description="One line of text, instead of an image.", examples=["© Ann"]
    )
    colour: ColourWithAlpha = Field("#ffffff", description="Colour of the text; two more digits are alpha.")
    font: AssetName | None = Field(
        None,
        description="Name of a font that was stored with PUT /assets, for the text; a character that it lacks is drawn "
        "in another font. Default: DejaVu Sans.",
        examples=["brand.ttf"],
    )
    gravity: Place = Field("southeast", description="Where the mark is.")
    scale: float = Field(0.25, gt=0, le=1, description="Width of the mark, as a share of the image's width.")
    margin: float = Field(
        0.03, ge=0, le=0.5, description="Distance to the border, as a share of the image's shorter side."
    )
    opacity: Share = Field(0.6, description="1 hides the image under the mark.")
    repeat: bool = Field(False, description="Repeat the mark over the whole image, with the margin between marks.")

    @model_validator(mode="after")
    def _needs_one_mark(self) -> Self:
        if (self.image is None) == (self.text is None):
            raise ValueError("either an `image` or a `text` is needed")
        if self.font is not None and self.text is None:
            raise ValueError("`font` is for a `text`; an `image` takes none")
        if self.text is not None and not (visible_line(self.text) == self.text and self.text.strip()):
            raise ValueError("the text must be one line of visible characters")
        # the characters of a stored font are checked by the worker
        if self.text is not None and self.font is None and (lacking := glyphs.missing(self.text, cjk=False)):
            raise ValueError(f"no font of this server has the character {glyphs.describe(lacking)}")
        return self


def _default(params: Params, name: str) -> int:
    return int(type(params).model_fields[name].default)


class QualityTarget(Params):
    """The target that a written file has to meet, by a search for its quality."""

    max_bytes: int | None = Field(
        None,
        ge=1,
        description="Largest size of the file; `quality` is then the highest quality that is tried.",
        examples=[100_000],
    )
    min_ssim: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Required similarity to the image: gives the smallest file with this SSIM, whatever `quality` "
        "says.",
        examples=[0.98],
    )

    @property
    def is_unconstrained(self) -> bool:
        """True if neither `max_bytes` nor `min_ssim` is set."""
        return self.max_bytes is None and self.min_ssim is None

    @property
    def is_quick(self) -> bool:
        """Whether the file is encoded once, and in no more time than with the default parameters."""
        return self.is_unconstrained


class Encoding(QualityTarget):
    """The parameters of all formats that can contain metadata."""

    keep_metadata: KeepMetadata = Field(
        "none",
        description="`copyright` keeps the author and the owner of the rights, `icc` the image's own colours with "
        "their profile, `all` everything except thumbnails, also the place and serial numbers.",
    )


class WebpParams(Encoding):
    """Encode as WebP."""

    quality: Quality = Field(80, description="Higher is closer to the image and larger.")
    effort: int = Field(4, ge=0, le=6, description="0 is fastest, 6 gives the smallest file.")
    lossless: bool = Field(False, description="Keep every pixel as it is; `quality` has no effect.")

    @property
    def is_quick(self) -> bool:
        return super().is_quick and not self.lossless and self.effort <= _default(self, "effort")


class AvifParams(Encoding):
    """Encode as AVIF."""

    quality: Quality = Field(65, description="Higher is closer to the image and larger.")
    effort: int = Field(2, ge=0, le=9, description="0 is fastest, 9 gives the smallest file.")
    lossless: bool = Field(False, description="Keep every pixel as it is; `quality` has no effect.")
    chroma: Literal["auto", "4:2:0", "4:4:4"] = Field(
        "auto", description="Resolution of colour; `auto` is 4:4:4 from quality 90 on, 4:2:0 below."
    )

    @property
    def is_quick(self) -> bool:
        return super().is_quick and not self.lossless and self.effort <= _default(self, "effort")


class JpegParams(Encoding):
    """Encode as JPEG."""

    quality: Quality = Field(80, description="Higher is closer to the image and larger.")
    progressive: bool = Field(True, description="Load as a whole picture that gets sharper.")
    chroma: Literal["auto", "4:2:0", "4:4:4"] = Field(
        "auto", description="Resolution of colour; `auto` is 4:4:4 from quality 90 on, 4:2:0 below."
    )
    background: Colour = Field("#ffffff", description="Colour under transparent pixels.")
    trellis: bool = Field(
        False, description="Trellis quantization: the file is a tenth smaller and takes three times as long."
    )

    @property
    def is_quick(self) -> bool:
        return super().is_quick and not self.trellis


class PngParams(Encoding):
    """Encode as PNG."""

    compression: int = Field(6, ge=0, le=9, description="0 is fastest, 9 gives the smallest file.")
    progressive: bool = Field(False, description="Load as a whole picture that gets sharper; the file is larger.")
    colours: PngPaletteSize | None = Field(
        None, description="Use a palette of at most this many colours: far smaller, with losses."
    )
    dither: Share = Field(1.0, description="With a palette: strength of the dithering that makes up for lost colours.")


class GifParams(QualityTarget):
    """Encode as GIF."""

    colours: PaletteSize = Field(256, description="Largest number of colours in the palette.")
    dither: Share = Field(1.0, description="Strength of the dithering that makes up for lost colours.")
    effort: int = Field(7, ge=1, le=10, description="1 is fastest, 10 finds the best palette.")

    @property
    def is_quick(self) -> bool:
        return super().is_quick and self.effort <= _default(self, "effort")


class TiffParams(Encoding):
    """Encode as TIFF, without loss."""

    compression: Literal["none", "lzw", "deflate"] = Field("lzw", description="All of these are lossless.")


class MetadataParams(Params):
    """Report the file's metadata as JSON; ends a branch."""

    gps: bool = Field(False, description="Whether to report where the photograph was taken.")
    colours: int = Field(5, ge=0, le=16, description="Largest number of dominant colours to report.")


class WebParams(Params):
    """Make the files for a web page: images in several widths and formats, placeholders, a manifest, a `<picture>`."""

    model_config = ConfigDict(
        json_schema_extra={
            "dependentRequired": {
                "dpr": ["width"],
                "width": ["dpr"],
                **{name: ["bytes_step"] for name in ("min_width", "max_width", "max_images")},
            }
        }
    )

    widths: Annotated[list[Side], Field(min_length=1, max_length=16)] | None = Field(
        None,
        description="Widths in pixels, never above the image's own. Default, without `dpr` and `bytes_step`: 320, "
        "640, 1280 and 1920.",
        examples=[[320, 640, 1280]],
    )
    formats: list[WebFormat] = Field(
        ["avif", "webp", "jpeg"],
        min_length=1,
        max_length=3,
        description="Formats of the images. Browsers take the first one that they support of AVIF, WebP and JPEG.",
    )
    quality: Quality | None = Field(
        None, description="Quality in every format; default: 65 for AVIF, 80 for the others."
    )
    width: Side | None = Field(
        None, description="Width in CSS pixels of an image that is always shown in one size; needs `dpr`."
    )
    dpr: Annotated[list[PixelRatio], Field(min_length=1, max_length=8)] | None = Field(
        None, description="Device pixel ratios; an image is made for each.", examples=[[1, 2, 3]]
    )
    bytes_step: Annotated[int, Field(ge=1000, le=10_000_000)] | None = Field(
        None,
        description="Choose as few widths as possible, so that each file is at most this many bytes larger than the "
        "next smaller one; measured in the first format.",
        examples=[30_000],
    )
    min_width: Side | None = Field(None, description="Smallest width, with `bytes_step`; default: 320.")
    max_width: Side | None = Field(None, description="Largest width, with `bytes_step`; default: 1920.")
    max_images: Annotated[int, Field(ge=2, le=50)] | None = Field(
        None,
        description="Largest number of widths, with `bytes_step`; default: 20. If more are needed, the step fails.",
    )
    min_ssim: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Required similarity to the image: gives the smallest files with this SSIM, whatever `quality` "
        "says.",
        examples=[0.97],
    )
    sizes: Annotated[str, Field(pattern=SIZES, max_length=500)] = Field(
        "100vw", description="Width at which the page shows the image, as the `sizes` of HTML; not with `dpr`."
    )
    alt: Annotated[str, Field(max_length=1000)] = Field("", description="Alternative text of the image.")
    loading: Literal["lazy", "eager"] = Field("lazy", description="`eager` for images that are visible at once.")
    base_url: Annotated[str, Field(pattern=BASE_URL, max_length=1000)] | None = Field(
        None,
        description="Address of the folder that the files will be in; it is put before their names.",
        examples=["https://cdn.example/img"],
    )
    background: Colour = Field("#ffffff", description="Colour under transparent pixels in JPEG.")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        ways = [name for name in ("widths", "dpr", "bytes_step") if getattr(self, name) is not None]
        if len(ways) > 1:
            raise ValueError(f"`{ways[0]}` and `{ways[1]}` exclude each other: both say which widths there are")
        if (self.width is None) != (self.dpr is None):
            raise ValueError("`width` and `dpr` go together: give both or neither")
        bounds = [name for name in ("min_width", "max_width", "max_images") if getattr(self, name) is not None]
        if bounds and self.bytes_step is None:
            raise ValueError(f"`{bounds[0]}` is for `bytes_step`")
        if self.least_width > self.most_width:
            raise ValueError(f"`min_width` is {self.least_width}, above a `max_width` of {self.most_width}")
        if len(set(self.formats)) < len(self.formats):
            raise ValueError("each of `formats` may be named once")
        if visible_line(self.alt) != self.alt:
            raise ValueError("`alt` must be one line of visible characters")
        return self

    @property
    def least_width(self) -> int:
        """The smallest width in pixels that `bytes_step` may choose."""
        return self.min_width or min(WEB_MIN_WIDTH, self.max_width or WEB_MIN_WIDTH)

    @property
    def most_width(self) -> int:
        """The largest width in pixels that `bytes_step` may choose."""
        return self.max_width or max(WEB_MAX_WIDTH, self.min_width or WEB_MAX_WIDTH)

    @property
    def most_images(self) -> int:
        """The greatest number of widths that `bytes_step` may choose."""
        return self.max_images or WEB_MAX_IMAGES

    @property
    def is_quick(self) -> bool:
        """Whether each file is encoded only once."""
        return self.bytes_step is None and self.min_ssim is None

    def of_encoder(self, format_: str) -> AvifParams | WebpParams | JpegParams:
        """The parameters for the encoder of a format."""
        given = {"min_ssim": self.min_ssim} | ({} if self.quality is None else {"quality": self.quality})
        if format_ == "jpeg":
            return JpegParams(background=self.background, **given)
        return (AvifParams if format_ == "avif" else WebpParams)(**given)


class DenoiseParams(Params):
    """Remove noise with a neural network; its strength need not be known."""

    strength: float = Field(1.0, ge=0, le=1, description="How much of the noise is removed.")
    profile: Literal["exact", "fast", "camera", "auto"] = Field(
        "exact",
        description="`exact` is DnCNN. `fast` is a network that takes the measured noise as an input, and is several "
        "times as fast. `camera` is the same network for the noise of cameras, which is stronger in the shadows and "
        "smoothed by demosaicing and JPEG. `auto` chooses `camera` for noise that is smoothed like that, `fast` for "
        "noise that depends on light or colour, otherwise `exact`.",
    )
    if_noisy: float | None = Field(
        None,
        ge=0,
        le=100,
        description="Leave the image as it is if its noise is weaker than this standard deviation, on the scale of 8 "
        "bits.",
        examples=[5],
    )
