"""The metadata of the uploaded file. They are passed on with the pixels, also through files between tasks."""

import re
from html import escape
from pathlib import Path
from typing import Any

import pyvips
from pydantic import Base64Bytes, BaseModel, ConfigDict

from app.imaging.colours import icc
from app.imaging.colours.colour import PROFILE
from app.imaging.metadata import gain_map
from app.imaging.metadata.exif import ARTIST, COPYRIGHT, read_exif, signed
from app.imaging.metadata.iptc import read_iptc, unwrapped, wrapped
from app.imaging.metadata.previews import without_previews
from app.imaging.metadata.side_data import side_data
from app.imaging.metadata.xmp import read_xmp
from app.imaging.probe import ImageHeader
from app.imaging.recipe import INTERMEDIATE_SUFFIX
from app.parameters import KeepMetadata, visible_line

KEPT = {"none": "none", "copyright": "exif:xmp", "icc": "icc", "all": "exif:xmp:iptc:icc"}  # in libvips' words
MARK = "PixTools/1 "  # before the origin in the description of a file between two tasks
MAX_LINE = 500  # characters of a name or a notice
MAX_BLOCK = 1_000_000  # bytes; cameras and editors write far less
THUMBNAIL = "jpeg-thumbnail-data"  # libvips' name for that of EXIF in any format
BLOCKS = ("exif-data", "xmp-data", "iptc-data")
MOTION = {"page-height", "delay", "loop"}  # what an animation needs
USUAL_DENSITY = 72 / 25.4  # pixels in a millimetre: what programs take where a file says nothing
UNKNOWN_DENSITY = (1.0, 1.0)  # in libvips' words

_XMP_ORIENTATION = re.compile(rb"(tiff:Orientation(?:=[\"']|>))\d")
_RIGHTS = """<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/">{properties}</rdf:Description>
</rdf:RDF></x:xmpmeta>"""
_CREATOR = "<dc:creator><rdf:Seq><rdf:li>{}</rdf:li></rdf:Seq></dc:creator>"
_NOTICE = '<dc:rights><rdf:Alt><rdf:li xml:lang="x-default">{}</rdf:li></rdf:Alt></dc:rights>'


class Origin(BaseModel):
    """Everything about the upload that is not in its pixels."""

    model_config = ConfigDict(frozen=True)

    format: str
    #: of the file, whether they are read or not
    frames: int = 1
    #: milliseconds that each frame is shown
    delays: tuple[int, ...] = ()
    #: how often an animation is shown; 0 is for ever
    loop: int = 0
    #: name of its ICC profile
    profile: str | None = None
    #: EXIF, XMP and IPTC as they are, by libvips' names
    blocks: dict[str, Base64Bytes] = {}
    #: whether it has an ICC profile, or names its colours in another way
    has_profile: bool = False
    #: per channel
    bits: int = 8
    #: whether EXIF holds a thumbnail
    thumbnail: bool = False
    #: what is lost already, since it is not read; see `losses`
    losses: dict[str, dict[str, Any]] = {}
    #: bytes of the blocks that are too large to travel along
    oversized: dict[str, int] = {}
    #: whether it holds an HDR gain map, which only fits to the pixels that it came with
    gain_map: bool = False
    #: pixels in a millimetre, across and down; None: the file does not say
    density: tuple[float, float] | None = None

    @classmethod
    def of(cls, image: pyvips.Image, path: Path, header: ImageHeader, losses: dict[str, Any]) -> "Origin":
        """The origin of an image that was just opened: the file between tasks holds that of the upload.

        Args:
            image: as its file has it.
            path: of the file.
            header: of the file.
            losses: what is lost by opening it.
        """
        if path.suffix == INTERMEDIATE_SUFFIX:
            description = str(_field(image, "image-description", ""))
            return cls.model_validate_json(description.removeprefix(MARK))
        blocks = {name: block for name in BLOCKS if (block := _block(image, name))}
        density = image.xres, image.yres
        found = side_data(path, header.format)
        has_gain_map = gain_map.is_in(path, header.format)
        if has_gain_map and "sub_images" in found:
            found["sub_images"] -= 1
        if found.get("profile") and not image.get_typeof(PROFILE):  # which the decoder has left out
            losses = losses | {"profile": {"reason": "broken"}}
        return cls.model_construct(
            format=header.format,
            frames=max(header.frames, found.get("frames", 1)),
            delays=tuple(_field(image, "delay", [])),
            loop=int(_field(image, "loop", 0)),
            profile=icc.description(_field(image, PROFILE, b"")),
            has_profile=bool(image.get_typeof(PROFILE)),
            bits=8 if image.format == "uchar" else 16,
            thumbnail=bool(image.get_typeof(THUMBNAIL)),
            losses=losses | {name: {"reason": "unread"} for name in ("sub_images", "exif", "xmp") if found.get(name)},
            blocks={name: block for name, block in blocks.items() if len(block) < MAX_BLOCK},
            oversized={name: len(block) for name, block in blocks.items() if len(block) >= MAX_BLOCK},
            gain_map=has_gain_map,
            density=None if density == UNKNOWN_DENSITY else density,
        )

    def described_by(self, image: pyvips.Image) -> pyvips.Image:
        """The image with its origin as description, for the file between two tasks."""
        image = image.copy()
        image.set_type(pyvips.GValue.gstr_type, "image-description", MARK + self.model_dump_json())
        return image

    def onto(self, image: pyvips.Image, keep: KeepMetadata, format_: str) -> pyvips.Image:
        """The image with that of its origin which may leave, and nothing else."""
        image = bare(image, but=PROFILE if keep in {"icc", "all"} else "")
        image = self._with_density(image, keep)
        if keep == "all":
            for name, block in self.clean_blocks.items():
                image.set_type(pyvips.GValue.blob_type, name, _prepared(name, block, format_))
            image.set_type(pyvips.GValue.gint_type, "orientation", 1)
        if keep == "copyright":
            self._sign(image)
        return image

    def _with_density(self, image: pyvips.Image, keep: KeepMetadata) -> pyvips.Image:
        """PNG and TIFF always have one; it is the source's only where everything is kept, in every format."""
        across, down = self.density if self.density and keep == "all" else (USUAL_DENSITY, USUAL_DENSITY)
        image = image.copy(xres=across, yres=down)
        image.set_type(pyvips.GValue.gstr_type, "resolution-unit", "in")
        return image

    @property
    def clean_blocks(self) -> dict[str, bytes]:
        """The blocks without pictures of the original."""
        cleaned = {name: without_previews(name, block) for name, block in self.blocks.items()}
        return {name: block for name, block in cleaned.items() if block}

    def _sign(self, image: pyvips.Image) -> None:
        creator, notice = self.creator, self.copyright
        if not creator and not notice:
            return
        texts = {tag: text for tag, text in ((ARTIST, creator), (COPYRIGHT, notice)) if text}
        image.set_type(pyvips.GValue.blob_type, "exif-data", signed(texts))
        properties = _CREATOR.format(escape(creator)) if creator else ""
        properties += _NOTICE.format(escape(notice)) if notice else ""
        image.set_type(pyvips.GValue.blob_type, "xmp-data", _RIGHTS.format(properties=properties).encode())

    @property
    def creator(self) -> str | None:
        """Who made the image."""
        return self._first("Artist", "by_line", "dc:creator")

    @property
    def copyright(self) -> str | None:
        """Whose the image is."""
        return self._first("Copyright", "copyright_notice", "dc:rights")

    def _first(self, exif_name: str, iptc_name: str, xmp_name: str) -> str | None:
        found = (
            read_exif(self.block("exif-data")).get("image", {}).get(exif_name),
            read_iptc(self.block("iptc-data")).get(iptc_name),
            read_xmp(self.block("xmp-data")).get(xmp_name),
        )
        return next((text for text in map(_line, found) if text), None)

    def block(self, name: str) -> bytes:
        return self.blocks.get(name, b"")


def _line(value: Any) -> str:
    """What people read in a value that may be anything; without characters that XML cannot hold."""
    texts = [text for text in (value if isinstance(value, list) else [value]) if isinstance(text, str)]
    return visible_line(", ".join(texts))[:MAX_LINE]


def bare(image: pyvips.Image, but: str = "") -> pyvips.Image:
    """The image without anything that says where it comes from; what an animation needs stays.

    By what may stay: loaders put more and more next to the pixels, thumbnails of the original included.
    """
    image = image.copy()
    kept = {but, *(MOTION if image.get_page_height() < image.height else ())}
    for name in image.get_fields():
        if name not in kept:
            image.remove(name)  # of the fields that every image has, this does nothing
    return image


def _field(image: pyvips.Image, name: str, otherwise: Any) -> Any:
    return image.get(name) if image.get_typeof(name) else otherwise


def _prepared(name: str, block: bytes, format_: str) -> bytes:
    """The block for a file of this format; without the orientation that pixels had, which libvips rewrites in EXIF."""
    if name == "xmp-data":
        return gain_map.unclaimed(_XMP_ORIENTATION.sub(rb"\g<1>1", block))
    if name == "iptc-data":
        # libvips 8.18 gives libtiff a count of words where it takes one of bytes: only a quarter would be written
        return wrapped(block) if format_ == "jpeg" else block.ljust(4 * len(block), b"\0")
    return block


def _block(image: pyvips.Image, name: str) -> bytes:
    block = bytes(_field(image, name, b""))
    return unwrapped(block) if name == "iptc-data" else block
