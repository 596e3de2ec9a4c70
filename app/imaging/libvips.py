"""Settings of libvips. Nothing happens on import: a process that decodes images calls `configure` first."""

import pyvips

from app.formats import FORMATS


def configure(concurrency: int) -> None:
    """Allow only the supported formats, and turn off the cache.

    Every other loader is blocked, not only those that libvips itself calls untrusted: formats that cannot be uploaded
    must not be reachable by accident. The operation cache is off because it recognises a file by its name: a second
    file of the same name would show the pixels of the first.

    Args:
        concurrency: number of threads per image.
    """
    pyvips.operation_block_set("VipsForeignLoad", True)
    for loader in {format_.loader_class for format_ in FORMATS.values()} - {None}:
        pyvips.operation_block_set(f"VipsForeignLoad{loader}", False)
    pyvips.cache_set_max(0)
    pyvips.concurrency_set(concurrency)
