"""Pillow in one process: the decoder halves the image (`draft`), and Lanczos does the rest. Jobs are as in libvips.py.

python pillow.py SOURCE FOLDER
"""

import sys
from pathlib import Path

from PIL import Image

WIDTH = 1280
SAVE = {
    "webp": {"quality": 80, "method": 4},
    "jpeg": {"quality": 80, "progressive": True, "optimize": True, "subsampling": "4:2:0"},
    # in libvips, speed is 9 - effort
    "avif": {"quality": 50, "speed": 7, "subsampling": "4:2:0", "codec": "aom", "max_threads": 1},
}


def main(source: str, folder: str) -> None:
    for line in sys.stdin:
        with Image.open(source) as file:
            size = (WIDTH, round(file.height * WIDTH / file.width))
            file.draft("RGB", size)
            image = file.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)
        formats = list(SAVE) if line.strip() == "three" else [line.strip()]
        for name in formats:
            image.save(Path(folder) / f"{name}.{name}", name.upper(), **SAVE[name])
        print("done", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
