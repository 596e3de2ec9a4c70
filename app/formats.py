"""The file formats: names, signatures, decoders and capabilities.

A new format needs one entry here, a module that parses its structure and, if it can be a result, an encoder.
"""

from dataclasses import dataclass
from typing import Literal

Block = Literal["exif", "xmp", "iptc"]
#: pairs of an offset and the bytes there; a file has to match all of them
Signature = tuple[tuple[int, bytes], ...]


@dataclass(frozen=True, kw_only=True)
class Format:
    """One file format. Functions are named as `module:function`."""

    name: str
    media_type: str
    extension: str
    #: alternatives, one of which a file has to match
    signatures: tuple[Signature, ...] = ()
    #: reads the header and checks that the file is complete, without decoding; None: the format is not an input
    probe: str | None = None
    #: libvips operation that decodes the format, and the libvips class that must be unblocked for it
    loader: str | None = None
    loader_class: str | None = None
    #: function that opens a path in place of libvips' loader
    opened_by: str | None = None
    #: function of a path and a divisor that decodes the pixels if libvips would miss damage; returns None if it cannot
    pixels_by: str | None = None
    #: function that raises an error if pixels are missing that libvips would fill in
    checked_by: str | None = None
    #: function that corrects colours and alpha of a decoded image where libvips ignores what the file says
    understood_by: str | None = None
    #: least severe defect that stops libvips: its option `fail_on`
    fail_on: Literal["none", "warning"] = "warning"
    #: loader option for a smaller size while decoding: `shrink` takes a divisor, `scale` a factor below 1
    shrinks_by: Literal["shrink", "scale"] | None = None
    #: function that finds data besides the picture that libvips does not report
    looked_into_by: str | None = None
    #: True: several frames are an animation; False: they are pages
    motion: bool = False
    #: True: all frames of an animation are read; False: only the first
    animated: bool = False
    #: True: the header says which of the pages is the picture
    has_pages: bool = False
    #: metadata blocks that a result can contain
    blocks: frozenset[Block] = frozenset()
    #: largest EXIF or IPTC block in bytes
    max_block: int | None = None
    #: True: a result can contain an ICC profile
    profile: bool = True
    #: True: pixels may be transparent
    alpha: bool = True
    #: True: a file may contain an HDR gain map
    gain_map: bool = False
    #: default format of results for such an input; None: the same format
    written_as: str | None = None
    #: True: only some deployments can decode it
    optional: bool = False

    @property
    def decoders(self) -> tuple[str, ...]:
        """The names of all decoding functions that supplement libvips."""
        references = (self.opened_by, self.pixels_by, self.checked_by, self.understood_by)
        return tuple(reference for reference in references if reference)

    @property
    def is_input(self) -> bool:
        """Whether clients may upload this format."""
        return self.probe is not None

    @property
    def is_result(self) -> bool:
        """Whether jobs may write this format."""
        return self.written_as is None

    @property
    def is_image(self) -> bool:
        """Whether files of this format have pixels."""
        return self.media_type.startswith("image/")

    def begins(self, prefix: bytes) -> bool:
        """Whether the first bytes of a file are a signature of this format."""
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
    fail_on="none",  # `pixels_by` detects all damage; libvips would also reject harmless oddities in headers
    shrinks_by="shrink",
    looked_into_by="app.imaging.metadata.side_data:in_jpeg",
    blocks=frozenset({"exif", "xmp", "iptc"}),
    max_block=65_533,  # the largest segment
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
    fail_on="none",  # `checked_by` detects all damage
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
