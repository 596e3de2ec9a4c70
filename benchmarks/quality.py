"""Bits per pixel, similarity and CPU time of the encoders at every quality and effort on photographs, as CSV.

    python -m benchmarks quality folder > quality.csv

Twenty photographs are chosen from the folder, evenly spread over its sorted names, and encoded by the code of the
service, on one thread each. Similarity is given as the project's SSIM, PSNR and SSIMULACRA2; CPU time does not include
computing it. On stderr it prints which qualities of other formats look like those of JPEG, and what each effort costs.
"""

import csv
import io
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyvips
from ssimulacra2 import compute_ssimulacra2

from app.imaging import convert_avif, convert_gif, convert_jpeg, convert_png, convert_tiff, convert_webp, libvips
from app.imaging.colours.colour import to_srgb
from app.imaging.ssim import ssim
from app.parameters import AvifParams, GifParams, JpegParams, PngParams, TiffParams, WebpParams

PHOTOGRAPHS = 20
OFFSET = 5  # pixels cropped from left and top, so that blocks of a JPEG do not coincide with those of the encoder
ENOUGH = (5, 0.2)  # a time is the least of at most 5 runs, as many as start within 0.2 seconds
SAVE: dict[str, tuple[Callable[..., None], type[Any]]] = {
    "jpeg": (convert_jpeg.save, JpegParams),
    "webp": (convert_webp.save, WebpParams),
    "avif": (convert_avif.save, AvifParams),
    "png": (convert_png.save, PngParams),
    "gif": (convert_gif.save, GifParams),
    "tiff": (convert_tiff.save, TiffParams),
}
PEER = "quality=80 progressive=True chroma=4:2:0"  # JPEG setting whose CPU time others are compared with
LIKE = (60, 70, 75, 80, 85, 90)  # JPEG qualities that other formats are compared with
CHROMAS = ("4:2:0", "4:4:4")
OF_AVIF = (35, 45, 50, 55, 60, 70, 80, 90)


@dataclass(frozen=True)
class Case:
    """A setting of an encoder."""

    format: str
    params: dict[str, Any]
    #: parameters of libvips that the service does not offer
    extra: dict[str, Any]

    def save(self, image: pyvips.Image, path: Path) -> None:
        if self.extra:
            image.pngsave(str(path), keep="none", **self.params, **self.extra)
            return
        save, params = SAVE[self.format]
        save(image, params(**self.params), path)

    def __str__(self) -> str:
        return " ".join(f"{name}={value}" for name, value in {**self.params, **self.extra}.items())


def cases() -> list[Case]:
    found: list[tuple[str, dict[str, Any]]] = [
        ("jpeg", {"quality": quality, "progressive": progressive, "chroma": chroma})
        for quality in (*LIKE, 95)
        for progressive in (False, True)
        for chroma in CHROMAS
    ]
    found += [("webp", {"quality": q, "effort": e}) for q in (60, 70, 75, 80, 85, 90, 95) for e in range(0, 7, 2)]
    found += [("avif", {"quality": q, "effort": e}) for q in OF_AVIF for e in range(7)]
    found += [("avif", {"quality": q, "chroma": "4:4:4"}) for q in OF_AVIF]
    found += [(name, {"lossless": True, "effort": e}) for name in ("webp", "avif") for e in range(0, 7, 2)]
    found += [("webp", {"lossless": True, "quality": quality}) for quality in (20, 50, 100)]
    found += [("png", {"compression": level}) for level in (1, 3, 6, 9)]
    found += [("gif", {"effort": effort}) for effort in (1, 4, 7, 10)]
    found += [("gif", {"dither": dither}) for dither in (0.0, 0.5)]
    found += [("tiff", {"compression": name}) for name in ("none", "lzw", "deflate")]
    filters = [Case("png", {"compression": 6}, {"filter": name}) for name in ("none", "sub", "up", "paeth")]
    return [Case(name, params, {}) for name, params in found] + filters


def cpu_seconds(work: Callable[[], object]) -> float:
    """The CPU seconds of some work, the least of a few runs; all threads of this process count."""
    runs: list[float] = []
    while len(runs) < ENOUGH[0] and sum(runs) < ENOUGH[1]:
        start = time.process_time()
        work()
        runs.append(time.process_time() - start)
    return min(runs)


def decoded(path: Path) -> pyvips.Image:
    return pyvips.Image.new_from_file(str(path), access="sequential").copy_memory()


def as_file(image: pyvips.Image) -> io.BytesIO:
    header = f"P6 {image.width} {image.height} 255\n".encode()
    return io.BytesIO(header + image.colourspace("srgb").extract_band(0, n=3).write_to_memory())


def psnr(first: pyvips.Image, second: pyvips.Image) -> float:
    """The PSNR in dB; at most 99, which equal images have."""
    error = np.mean((first.numpy().astype(float) - second.extract_band(0, n=first.bands).numpy()) ** 2)
    return min(99.0, float(10 * np.log10(255**2 / error))) if error else 99.0


def measure(photograph: Path) -> list[dict[str, float]]:
    """The figures of every case for a photograph."""
    libvips.configure(1)
    image = to_srgb(decoded(photograph))
    image = image.crop(OFFSET, OFFSET, image.width - OFFSET, image.height - OFFSET).copy_memory()
    megapixels = image.width * image.height / 1e6
    rows = []
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "file"
        for case in cases():
            encode = cpu_seconds(partial(case.save, image, path))
            result = to_srgb(decoded(path))
            rows.append(
                {
                    "bpp": path.stat().st_size * 8 / megapixels / 1e6,
                    "ssimulacra2": float(compute_ssimulacra2(as_file(image), as_file(result))),
                    "ssim": ssim(image, result),
                    "psnr": psnr(image, result),
                    "encode": encode / megapixels,
                    "decode": cpu_seconds(lambda: decoded(path)) / megapixels,
                }
            )
    return rows


Row = dict[str, Any]


def mean(measured: list[list[dict[str, float]]]) -> list[Row]:
    """Means over the photographs: a row per case, with the case first."""
    rows: list[Row] = []
    for case, of_photographs in zip(cases(), zip(*measured, strict=True), strict=True):
        figures = {name: float(np.mean([row[name] for row in of_photographs])) for name in of_photographs[0]}
        worst = min(row["ssimulacra2"] for row in of_photographs)
        rows.append({"case": case, **figures, "ssimulacra2_worst": worst})
    return rows


def curve(rows: list[Row], name: str, **fixed: Any) -> list[Row]:
    """The rows of a format that differ only in quality, worst first."""
    found = [
        row
        for row in rows
        if row["case"].format == name
        and {key: value for key, value in row["case"].params.items() if key != "quality"} == fixed
        and "quality" in row["case"].params
    ]
    return sorted(found, key=lambda row: row["ssimulacra2"])


def at(rows: list[Row], score: float, figure: str) -> float:
    """A figure interpolated between rows at a score of SSIMULACRA2; NaN beyond them."""
    values = [float(row["case"].params["quality"] if figure == "quality" else row[figure]) for row in rows]
    return float(np.interp(score, [row["ssimulacra2"] for row in rows], values, left=np.nan, right=np.nan))


def print_likes(rows: list[Row]) -> None:
    """Print the settings that look alike."""
    jpeg = curve(rows, "jpeg", progressive=True, chroma="4:2:0")
    kinds: list[tuple[str, list[Row]]] = [("jpeg 4:4:4", curve(rows, "jpeg", progressive=True, chroma="4:4:4"))]
    kinds += [(f"webp effort {effort}", curve(rows, "webp", effort=effort)) for effort in range(0, 7, 2)]
    kinds += [(f"avif effort {effort}", curve(rows, "avif", effort=effort)) for effort in range(7)]
    kinds += [("avif 4:4:4 effort 2", curve(rows, "avif", chroma="4:4:4"))]
    for quality in LIKE:
        (peer,) = (row for row in jpeg if row["case"].params["quality"] == quality)
        score = peer["ssimulacra2"]
        sys.stderr.write(f"like JPEG {quality}: SSIMULACRA2 {score:.1f}, {peer['bpp']:.3f} bpp\n")
        for name, found in kinds:
            is_at = partial(at, found, score)
            bpp = is_at("bpp")
            sys.stderr.write(
                f"  {name:20} quality {is_at('quality'):5.1f}  {bpp:6.3f} bpp {bpp / peer['bpp']:5.2f}x"
                f"  ssim {is_at('ssim'):.4f}  encode {is_at('encode'):7.3f} s/MP\n"
            )


def main() -> None:
    found = sorted(path for path in Path(sys.argv[1]).iterdir() if path.suffix in {".jpg", ".jpeg", ".png"})
    chosen = found[:: max(1, len(found) // PHOTOGRAPHS)][:PHOTOGRAPHS]
    processes = len(os.sched_getaffinity(0))
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        rows = mean(list(pool.map(measure, chosen)))
    (peer,) = (row for row in rows if str(row["case"]) == PEER)
    writer = csv.writer(sys.stdout)
    figures = [name for name in rows[0] if name != "case"]
    writer.writerow(["format", "params", *figures, "encode_relative", "decode_relative"])
    for row in rows:
        relative = [row[name] / peer[name] for name in ("encode", "decode")]
        values = [row[name] for name in figures] + relative
        writer.writerow([row["case"].format, row["case"], *(f"{value:.4f}" for value in values)])
    print_likes(rows)
