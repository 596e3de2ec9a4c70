"""Only the supported formats can be decoded, and only after `configure`."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SVG = "<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>"


def _in_a_fresh_process(code: str) -> object:
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def test_nothing_happens_on_import(tmp_path: Path) -> None:
    (tmp_path / "a.svg").write_text(SVG)
    code = f"""
import json, pyvips
import app.imaging.libvips, app.imaging.pipeline
print(json.dumps([pyvips.Image.new_from_file({str(tmp_path / "a.svg")!r}).width, pyvips.cache_get_max() > 0]))
"""
    assert _in_a_fresh_process(code) == [9, True]


def test_cache_and_concurrency() -> None:
    code = """
import json, pyvips
from app.imaging.libvips import configure
configure(3)
configure(concurrency=3)
print(json.dumps([pyvips.cache_get_max(), pyvips.concurrency_get()]))
"""
    assert _in_a_fresh_process(code) == [0, 3]


def test_supported_formats_load_and_no_others(samples: dict[str, Path], tmp_path: Path) -> None:
    others = {"a.svg": SVG, "a.csv": "1,2\n", "a.ppm": "P2 1 1 1 0\n", "a.mat": "1 1\n1\n"}
    for name, content in others.items():
        (tmp_path / name).write_text(content)
    supported = [str(samples[name]) for name in ("jpeg", "png", "webp", "gif", "tiff", "avif")]
    code = f"""
import json, pyvips
from app.imaging.libvips import configure
configure(1)
pyvips.Image.black(9, 9).write_to_file({str(tmp_path / "a.v")!r})
def loads(path):
    try:
        return pyvips.Image.new_from_file(path).avg() >= 0
    except pyvips.Error:
        return False
print(json.dumps([[loads(path) for path in paths] for paths in ({supported!r},
    {[str(tmp_path / name) for name in (*others, "a.v")]!r})]))
"""
    assert _in_a_fresh_process(code) == [[True] * 6, [False] * 5]


def test_every_other_loader_would_work(tmp_path: Path) -> None:
    """The counterpart of the test above: without `configure`, libvips reads more than images."""
    pytest.importorskip("pyvips")
    (tmp_path / "a.csv").write_text("1,2\n")
    code = f"import json, pyvips; print(json.dumps(pyvips.Image.new_from_file({str(tmp_path / 'a.csv')!r}).width))"
    assert _in_a_fresh_process(code) == 2
