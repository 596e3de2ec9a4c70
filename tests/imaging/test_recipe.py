"""What goes to and comes from a child process survives the way, and is importable without libvips."""

import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from app.imaging.recipe import INTERMEDIATE, Limits, Rendered, Stage, Target


@pytest.mark.parametrize(
    "value",
    [
        Stage("resize", {"width": 9}),
        Target(Path("/tmp/a"), INTERMEDIATE, {}),
        Limits(pixels=50_000_000, side=16384),
        Rendered("webp", 9, 9),
    ],
)
def test_values_survive_pickling(value: object) -> None:
    assert pickle.loads(pickle.dumps(value)) == value


def test_needs_no_libvips() -> None:
    code = "import sys, app.imaging.recipe; sys.exit('pyvips' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
