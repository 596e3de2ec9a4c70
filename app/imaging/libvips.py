"""How this process uses libvips. Nothing happens on import: a process that decodes calls `configure` first."""

import pyvips

from app.formats import FORMATS


def configure(concurrency: int) -> None:
    """Allow the supported formats only, and share nothing between images.

    Every other loader is blocked, not only those that libvips itself calls untrusted: formats that cannot be uploaded
    must not be reachable by accident. The operation cache is off because it recognises a file by its name: a second
    file of the same name would show the pixels of the first.

    Args:
        concurrency: threads that work on one image.
    """
    pyvips.operation_block_set("VipsForeignLoad", True)
    for loader in {format_.loader_class for format_ in FORMATS.values()} - {None}:
        pyvips.operation_block_set(f"VipsForeignLoad{loader}", False)
    pyvips.cache_set_max(0)
    pyvips.concurrency_set(concurrency)
