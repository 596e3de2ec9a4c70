"""The kinds of TIFF that the decoder supports; others are refused by name, because the files are not damaged."""

from app.errors import UnsupportedImage

_COMPRESSIONS = {1, 2, 3, 4, 5, 7, 8, 32771, 32773, 32946, 50001}
_IN_TILES_ONLY = {33003, 33005, 34712}  # JPEG 2000
_NAMES = {
    6: "old-style JPEG",
    32766: "NeXT",
    32809: "ThunderScan",
    33003: "JPEG 2000 in strips",
    33005: "JPEG 2000 in strips",
    34661: "JBIG",
    34676: "SGI LogLuv",
    34677: "SGI LogLuv",
    34712: "JPEG 2000 in strips",
    34713: "Nikon raw",
    34887: "LERC",
    34892: "lossy DNG",
    34925: "LZMA",
    34933: "PNG",
    34934: "JPEG XR",
    50000: "Zstandard",
    50002: "JPEG XL",
    52546: "JPEG XL",
}
_RAW = {32803, 34892}  # colour filter array, linear raw
_LOG = {32844, 32845}
_CIELAB = 8
_COMPLEX = {5, 6}


def refuse_unsupported(*, compression: int, photometric: int, bits: int, sample_format: int, tiled: bool) -> None:
    """Refuse kinds of TIFF that the decoder cannot decode, or would decode wrongly.

    Raises:
        UnsupportedImage: the decoder does not support the file; the error names the reason.
    """
    if photometric in _RAW:
        raise UnsupportedImage("The TIFF holds raw sensor data of a camera; please develop it first.")
    if compression not in _COMPRESSIONS | (_IN_TILES_ONLY if tiled else set()):
        name = _NAMES.get(compression, f"number {compression}")
        raise UnsupportedImage(f"The compression of the TIFF, {name}, is not supported; use LZW or deflate.")
    if photometric in _LOG or sample_format in _COMPLEX:
        raise UnsupportedImage("LogLuv and complex samples of TIFF are not supported.")
    if bits > 32:
        raise UnsupportedImage(f"TIFF samples of {bits} bits are not supported; use at most 32 bits.")
    if photometric == _CIELAB and bits == 8:
        raise UnsupportedImage("TIFF in CIELAB of 8 bits is not supported; use 16 bits or RGB.")
