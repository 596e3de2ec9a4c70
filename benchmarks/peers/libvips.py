"""Bare libvips in one process: reads one job per line from standard input, and answers when its files are written.

    python libvips.py SOURCE FOLDER thumbnail|shrink

`thumbnail` is the usual call; `shrink` lets the JPEG decoder halve the image, as PixTools does.
"""

import sys
from pathlib import Path

import pyvips

WIDTH = 1280
SAVE = {
    "webp": lambda image, path: image.webpsave(path, Q=80, effort=4, keep="none"),
    "jpeg": lambda image, path: image.jpegsave(
        path, Q=80, interlace=True, optimize_coding=True, subsample_mode="on", keep="none"
    ),
    "avif": lambda image, path: image.heifsave(
        path, compression="av1", Q=50, effort=2, subsample_mode="on", keep="none"
    ),
}


def thumbnail(source: str) -> pyvips.Image:
    return pyvips.Image.thumbnail(source, WIDTH)


def shrink(source: str) -> pyvips.Image:
    image = pyvips.Image.jpegload(source, shrink=2, access="sequential")
    return image.thumbnail_image(WIDTH)


def main(source: str, folder: str, way: str) -> None:
    pyvips.cache_set_max(0)
    pyvips.concurrency_set(1)
    for line in sys.stdin:
        image = {"thumbnail": thumbnail, "shrink": shrink}[way](source)
        formats = list(SAVE) if line.strip() == "three" else [line.strip()]
        if len(formats) > 1:
            image = image.copy_memory()
        for name in formats:
            SAVE[name](image, str(Path(folder) / f"{name}.{name}"))
        print("done", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
