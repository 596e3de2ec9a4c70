"""Opens a TIFF file of which only one page has to be intact; libvips alone would read all directories, and fail."""

import mmap
from pathlib import Path

import pyvips


def ending_with(path: Path, next_page: tuple[int, int] | None) -> pyvips.Source:
    """Open a file as if it ended with a page: the offset of the next directory is set to zero in a private mapping.

    Args:
        path: path of the file.
        next_page: position and length in bytes of the page's offset to the next directory; None: there is none.
    """
    if next_page is None:
        return pyvips.Source.new_from_file(str(path))
    at, length = next_page
    with path.open("rb") as file:
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)  # only what is changed takes memory
    content[at : at + length] = bytes(length)
    return pyvips.Source.new_from_memory(content)
