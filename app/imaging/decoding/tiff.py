"""Opens a TIFF so that only the page that is read has to be intact: libvips would walk the whole chain, and fail."""

import mmap
from pathlib import Path

import pyvips


def ending_with(path: Path, next_page: tuple[int, int] | None) -> pyvips.Source:
    """The file as a source.

    Args:
        path: of the file.
        next_page: the place, and the length, of the offset that leads on from the page; None where none does.
    """
    if next_page is None:
        return pyvips.Source.new_from_file(str(path))
    at, length = next_page
    with path.open("rb") as file:
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)  # only what is changed takes memory
    content[at : at + length] = bytes(length)
    return pyvips.Source.new_from_memory(content)
