"""The file formats: their names, signatures, decoders and abilities are all here.

A new format is one entry here, a module that walks its structure and, if it is written, an encoder.
"""

from dataclasses import dataclass
from typing import Literal

Block = Literal["exif", "xmp", "iptc"]
#: bytes at their offsets, all of which a file has
Signature = tuple[tuple[int, bytes], ...]


@dataclass(frozen=True, kw_only=True)
class Format:
    """One file format. References are `module:function`."""

    name: str
    media_type: str
    extension: str
    #: how files begin: one of these
    signatures: tuple[Signature, ...] = ()
    #: checks that a file is complete and reads its header, without decoding it; None: it is never an input
    probe: str | None = None
    #: libvips' operation that decodes it, and the class that has to be allowed for that
    loader: str | None = None
    loader_class: str | None = None
    #: opens a path instead of libvips' loader
    opened_by: str | None = None
    #: decodes the pixels, given the path and a divisor, where libvips would miss damage; None where it cannot
    pixels_by: str | None = None
    #: raises where a file lacks pixels that libvips would make up
    checked_by: str | None = None
    #: gives a decoded image the colours and alpha that libvips ignores
    understood_by: str | None = None
    #: the kind of defects that end decoding
    fail_on: Literal["none", "warning"] = "warning"
    #: option of the loader that divides the size while decoding: by a divisor, or to a share
    shrinks_by: Literal["shrink", "scale"] | None = None
    #: finds the data that a file has besides its picture, as far as libvips does not report them
    looked_into_by: str | None = None
    #: whether several frames are one picture in motion; if not, they are pages
    motion: bool = False
    #: whether all of its frames are read
    animated: bool = False
    #: whether the picture may be any of several pages, which the header names
    has_pages: bool = False
    #: blocks of metadata that a written file can hold
    blocks: frozenset[Block] = frozenset()
    #: bytes of EXIF or IPTC at most
    max_block: int | None = None
    #: whether a written file can hold an ICC profile
    profile: bool = True
    #: whether pixels may be transparent
    alpha: bool = True
    #: whether files may hold an HDR gain map
    gain_map: bool = False
    #: name of the format that a result has when nothing else was asked for; default: its own
    written_as: str | None = None
    #: whether only some deployments can decode it
    optional: bool = False

    @property
    def decoders(self) -> tuple[str, ...]:
        """References to all its decoders besides libvips."""
        references = (self.opened_by, self.pixels_by, self.checked_by, self.understood_by)
        return tuple(reference for reference in references if reference)

    @property
    def is_input(self) -> bool:
        """Whether clients may upload it."""
        return self.probe is not None

    @property
    def is_result(self) -> bool:
        """Whether jobs may write it."""
        return self.written_as is None

    @property
    def is_image(self) -> bool:
        """Whether it has pixels."""
        return self.media_type.startswith("image/")

    def begins(self, prefix: bytes) -> bool:
        """Whether the first bytes of a file are those of this format."""
        return any(
            all(prefix[offset : offset + len(mark)] == mark for offset, mark in signature)
            for signature in self.signatures
        )


JPEG = Format(
    name="jpeg",
    media_type="image/jpeg",
    extension="jpg",
    signatures=(((0, b"\xff\xd8\xff"),),),
    probe="app.imaging.probe.jpeg:read_jpeg",
    loader="jpegload_source",
    loader_class="Jpeg",
    pixels_by="app.imaging.decoding.jpeg:load",
    fail_on="none",  # `pixels_by` sees all damage, and libvips takes odd headers for some
    shrinks_by="shrink",
    looked_into_by="app.imaging.metadata.side_data:in_jpeg",
    blocks=frozenset({"exif", "xmp", "iptc"}),
    max_block=65_533,  # of one segment
    alpha=False,
    gain_map=True,
)
PNG = Format(
    name="png",
    media_type="image/png",
    extension="png",
    signatures=(((0, b"\x89PNG\r\n\x1a\n"),),),
    probe="app.imaging.probe.formats:read_png",
    loader="pngload_source",
    loader_class="Png",
    looked_into_by="app.imaging.metadata.side_data:in_png",
    motion=True,
    blocks=frozenset({"exif", "xmp"}),
)
WEBP = Format(
    name="webp",
    media_type="image/webp",
    extension="webp",
    signatures=(((0, b"RIFF"), (8, b"WEBP")),),
    probe="app.imaging.probe.formats:read_webp",
    loader="webpload_source",
    loader_class="Webp",
    shrinks_by="scale",
    motion=True,
    animated=True,
    blocks=frozenset({"exif", "xmp"}),
)
GIF = Format(
    name="gif",
    media_type="image/gif",
    extension="gif",
    signatures=(((0, b"GIF87a"),), ((0, b"GIF89a"),)),
    probe="app.imaging.probe.gif:read_gif",
    loader="gifload_source",
    loader_class="Nsgif",
    checked_by="app.imaging.decoding.gif:check",
    fail_on="none",  # `checked_by` sees all damage
    motion=True,
    animated=True,
    profile=False,
)
TIFF = Format(
    name="tiff",
    media_type="image/tiff",
    extension="tif",
    signatures=(
        ((0, b"II*\0"),),
        ((0, b"MM\0*"),),
        ((0, b"II+\0\x08\0\0\0"),),  # 64-bit offsets
        ((0, b"MM\0+\0\x08\0\0"),),
    ),
    probe="app.imaging.probe.tiff:read_tiff",
    loader="tiffload_source",
    loader_class="Tiff",
    understood_by="app.imaging.decoding.samples:shown",
    looked_into_by="app.imaging.metadata.side_data:in_tiff",
    has_pages=True,
    blocks=frozenset({"xmp", "iptc"}),
)
AVIF = Format(
    name="avif",
    media_type="image/avif",
    extension="avif",
    signatures=(((4, b"ftyp"),),),  # HEIC as well: the probe distinguishes them by their brands
    probe="app.imaging.probe.heif:read_heif",
    loader="heifload_source",
    loader_class="Heif",
    understood_by="app.imaging.decoding.heif_colours:with_meaning",
    looked_into_by="app.imaging.metadata.side_data:in_heif",
    motion=True,
    blocks=frozenset({"exif", "xmp"}),
    gain_map=True,
)
HEIC = Format(
    name="heic",
    media_type="image/heic",
    extension="heic",
    probe="app.imaging.probe.heif:read_heif",
    opened_by="app.imaging.decoding.heic:load",
    understood_by="app.imaging.decoding.heif_colours:with_meaning",
    looked_into_by="app.imaging.metadata.side_data:in_heif",
    gain_map=True,
    written_as="jpeg",
    optional=True,
)
JSON = Format(name="json", media_type="application/json", extension="json", profile=False)
HTML = Format(name="html", media_type="text/html", extension="html", profile=False)

FORMATS = {format_.name: format_ for format_ in (JPEG, PNG, WEBP, GIF, TIFF, AVIF, HEIC, JSON, HTML)}
