"""The metadata of the uploaded file. It stays with the pixels, even in the intermediate files between tasks."""

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

KEPT = {"none": "none", "copyright": "exif:xmp", "icc": "icc", "all": "exif:xmp:iptc:icc"}  # libvips' option `keep`
MARK = "PixTools/1 "  # precedes the origin in the description of an intermediate file
MAX_LINE = 500  # characters of a name or a notice
MAX_BLOCK = 1_000_000  # bytes; cameras and editors write far less
THUMBNAIL = "jpeg-thumbnail-data"  # libvips' name for the EXIF thumbnail in any format
BLOCKS = ("exif-data", "xmp-data", "iptc-data")
MOTION = {"page-height", "delay", "loop"}  # fields that an animation needs
USUAL_DENSITY = 72 / 25.4  # pixels per millimetre: the default of most programs
UNKNOWN_DENSITY = (1.0, 1.0)  # libvips' value for files without a density

_XMP_ORIENTATION = re.compile(rb"(tiff:Orientation(?:=[\"']|>))\d")
_RIGHTS = """<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/">{properties}</rdf:Description>
</rdf:RDF></x:xmpmeta>"""
_CREATOR = "<dc:creator><rdf:Seq><rdf:li>{}</rdf:li></rdf:Seq></dc:creator>"
_NOTICE = '<dc:rights><rdf:Alt><rdf:li xml:lang="x-default">{}</rdf:li></rdf:Alt></dc:rights>'


class Origin(BaseModel):
    """Everything known about the upload besides its pixels."""

    model_config = ConfigDict(frozen=True)

    format: str
    #: all frames of the file, including those that are not decoded
    frames: int = 1
    #: how long each frame is shown, in milliseconds
    delays: tuple[int, ...] = ()
    #: how often an animation plays; 0 means for ever
    loop: int = 0
    #: name of the ICC profile
    profile: str | None = None
    #: EXIF, XMP and IPTC as in the file, by libvips' names; IPTC as bare records
    blocks: dict[str, Base64Bytes] = {}
    #: True: the file has an ICC profile or describes its colours in another way
    has_profile: bool = False
    #: bits per channel
    bits: int = 8
    #: True: EXIF contains a thumbnail
    thumbnail: bool = False
    #: the parts that the decoder could not read; see `losses`
    losses: dict[str, dict[str, Any]] = {}
    #: sizes in bytes of the blocks that are too large to keep
    oversized: dict[str, int] = {}
    #: True: the file contains an HDR gain map, which fits only the original pixels
    gain_map: bool = False
    #: pixels per millimetre, horizontally and vertically; None if the file does not say
    density: tuple[float, float] | None = None

    @classmethod
    def of(cls, image: pyvips.Image, path: Path, header: ImageHeader, losses: dict[str, Any]) -> "Origin":
        """The origin of an image that was just opened; an intermediate file contains the origin of the upload.

        Args:
            image: the image as decoded from the file.
            path: the file.
            header: header of the file.
            losses: losses during decoding.
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
        if found.get("profile") and not image.get_typeof(PROFILE):  # the decoder could not read it
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
        """The image with this origin as its description, for an intermediate file."""
        image = image.copy()
        image.set_type(pyvips.GValue.gstr_type, "image-description", MARK + self.model_dump_json())
        return image

    def onto(self, image: pyvips.Image, keep: KeepMetadata, format_: str) -> pyvips.Image:
        """The image with only those fields of its origin that `keep` allows in a result."""
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
        """Set the density: the source's if everything is kept, else 72 dpi, because PNG and TIFF always state one."""
        across, down = self.density if self.density and keep == "all" else (USUAL_DENSITY, USUAL_DENSITY)
        image = image.copy(xres=across, yres=down)
        image.set_type(pyvips.GValue.gstr_type, "resolution-unit", "in")
        return image

    @property
    def clean_blocks(self) -> dict[str, bytes]:
        """The blocks without previews of the original; see `previews`."""
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
        """The author of the image."""
        return self._first("Artist", "by_line", "dc:creator")

    @property
    def copyright(self) -> str | None:
        """The copyright notice."""
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
    """The text of a value of any type, on one line and without characters that XML cannot hold."""
    texts = [text for text in (value if isinstance(value, list) else [value]) if isinstance(text, str)]
    return visible_line(", ".join(texts))[:MAX_LINE]


def bare(image: pyvips.Image, but: str = "") -> pyvips.Image:
    """The image without metadata, except for the field `but` and the fields that an animation needs.

    The fields to keep are listed, not those to remove, because new loaders add fields, e.g. thumbnails.
    """
    image = image.copy()
    kept = {but, *(MOTION if image.get_page_height() < image.height else ())}
    for name in image.get_fields():
        if name not in kept:
            image.remove(name)  # does nothing for the fields that every image has
    return image


def _field(image: pyvips.Image, name: str, otherwise: Any) -> Any:
    return image.get(name) if image.get_typeof(name) else otherwise


def _prepared(name: str, block: bytes, format_: str) -> bytes:
    """The block for a file of this format. The orientation is reset in XMP; in EXIF libvips does that."""
    if name == "xmp-data":
        return gain_map.unclaimed(_XMP_ORIENTATION.sub(rb"\g<1>1", block))
    if name == "iptc-data":
        # libvips 8.18 passes libtiff the length in words instead of bytes, so that only a quarter would be written
        return wrapped(block) if format_ == "jpeg" else block.ljust(4 * len(block), b"\0")
    return block


def _block(image: pyvips.Image, name: str) -> bytes:
    block = bytes(_field(image, name, b""))
    return unwrapped(block) if name == "iptc-data" else block
