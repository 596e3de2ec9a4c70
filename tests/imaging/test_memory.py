"""What an encoder is let begin with ends within the memory limit; what would not is refused with limit and value."""

import math
import os
from pathlib import Path
from typing import Any

import pytest
import pyvips

from app.errors import ImageTooLarge, LimitExceeded
from app.imaging.fitting import encode
from app.imaging.memory import Work, attempts
from app.imaging.probe import ImageHeader
from app.imaging.recipe import Limits, Monitor, Stage, Target
from app.operations import ENCODERS
from app.parameters import AvifParams, JpegParams
from app.services.execution.sandbox import Sandbox
from app.services.intake.memory import check_memory
from app.services.intake.operation_tree import TreeLimits, parse_tree
from tests.imaging.conftest import photograph

LIMITS = Limits(pixels=50_000_000, side=16384)
DEFAULT = 2_100_000_000  # bytes: PIXTOOLS_PIXEL_PROCESS_MEMORY_BYTES
LARGE = 49_000_000  # pixels
TREE = TreeLimits(nodes=32, depth=8, bytes=65536)


def _source(folder: Path, megapixels: float, *, alpha: bool = False) -> Path:
    side = math.isqrt(int(megapixels * 1e6))
    image = pyvips.Image.new_from_array(photograph(400, 400)).copy(interpretation="srgb")
    image = image.resize(side / 400, kernel="linear").cast("uchar")
    image = image.bandjoin(200) if alpha else image
    image.pngsave(str(folder / "source"), compression=1, filter="none", keep="none")
    return folder / "source"


def _encoded(source: Path, memory: int, op: str, **params: Any) -> dict[str, Any]:
    monitor = Monitor()
    # with one thread, for each takes address space: what is left for an encoder would depend on the machine's cores
    with Sandbox(processes=1, memory_bytes=memory, sharing=os.cpu_count()) as sandbox:
        target = Target(source.parent / "result", op, params)
        sandbox.render(source, [Stage(op, params)], [target], LIMITS, 800, monitor)
    return monitor.reports.get(0, {})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("params", "free", "alpha"),
    [
        ({"quality": 95, "chroma": "4:4:4"}, 48, True),
        ({"quality": 60}, 30, False),
        *(
            pytest.param(*case, marks=pytest.mark.full)
            for case in (
                ({"quality": 95, "chroma": "4:4:4"}, 48, False),
                ({"quality": 60}, 30, True),
                ({"lossless": True}, 48, False),
                ({"lossless": True}, 48, True),
            )
        ),
    ],
)
def test_what_is_admitted_is_encoded_and_the_rest_refused_at_once(
    tmp_path: Path, params: dict[str, Any], free: int, alpha: bool
) -> None:
    """Just enough by the prediction, and much too little."""
    source = _source(tmp_path, 2, alpha=alpha)
    work = Work("convert_avif", AvifParams(effort=0, **params), 2_000_000, 4, alpha=alpha, threads=4)
    _encoded(source, work.needed + 60_000_000, "convert_avif", effort=0, **params)
    with pytest.raises(ImageTooLarge) as caught:
        _encoded(source, 240_000_000 + 2_000_000 * free // 3, "convert_avif", effort=0, **params)
    assert caught.value.limit == 240_000_000 + 2_000_000 * free // 3
    assert caught.value.value > caught.value.limit
    assert not caught.value.retryable


@pytest.mark.slow
def test_colour_in_full_resolution_gives_way_where_the_encoder_may_choose(tmp_path: Path) -> None:
    source = _source(tmp_path, 4)
    work = Work("convert_avif", AvifParams(quality=95, effort=0), 4_000_000)
    least = min(attempt.needed for attempt in attempts(work))
    # a process with one thread holds about 60 MB less than is counted for four
    assert _encoded(source, least - 25_000_000, "convert_avif", quality=95, effort=0) == {
        "lost": {"chroma": {"reason": "memory"}}
    }


def _encoded_after(*errors: str) -> tuple[Work, int]:
    image = pyvips.Image.black(600, 600, bands=3).copy(interpretation="srgb")
    failures = [pyvips.Error("unable to call heifsave", error) for error in errors]
    tries = []

    def write(work: Work) -> None:
        tries.append(work)
        if failures:
            raise failures.pop(0)

    return encode("convert_avif", AvifParams(quality=95), image, write), len(tries)


def test_a_prediction_that_was_too_low_gives_way_to_a_way_that_takes_less() -> None:
    ways = list(attempts(Work("convert_avif", AvifParams(quality=95), 360_000, threads=pyvips.concurrency_get())))
    assert len(ways) >= 2
    failures = ["Failed to allocate linebuf[plane]"] * (len(ways) - 1)
    work, tries = _encoded_after(*failures)
    assert (work.params.chroma, tries) == ("4:2:0", len(ways))
    with pytest.raises(pyvips.Error, match="linebuf"):
        _encoded_after(*failures, "Failed to allocate linebuf[plane]")


def test_another_error_of_an_encoder_is_not_tried_again() -> None:
    with pytest.raises(pyvips.Error, match="Unsupported bit depth"):
        _encoded_after("Unsupported bit depth")


@pytest.mark.full
@pytest.mark.timeout(900)
@pytest.mark.parametrize("format_", sorted(ENCODERS))
def test_the_largest_picture_within_the_default_limit(tmp_path: Path, format_: str) -> None:
    fast = {
        "avif": {"effort": 0, "quality": 95},
        "webp": {"effort": 0},
        "gif": {"effort": 1},
        "png": {"compression": 1},
    }
    _encoded(_source(tmp_path, 49), DEFAULT, ENCODERS[format_].name, **fast.get(format_, {}))


def test_every_default_fits_into_the_default_limit() -> None:
    for format_, operation in ENCODERS.items():
        work = Work(operation.name, operation.params.model_validate({}), LARGE)
        assert min(attempt.needed for attempt in attempts(work)) < DEFAULT, format_
    assert Work("convert_jpeg", JpegParams(), LARGE, 4).needed < DEFAULT / 1.5


def _checked(tree: str, pixels: int = LARGE) -> None:
    _, branches = parse_tree(tree, TREE)
    check_memory(branches, ImageHeader("jpeg", pixels // 7000, 7000), DEFAULT)


def test_submission_refuses_what_no_worker_could_do() -> None:
    with pytest.raises(LimitExceeded) as caught:
        _checked('["convert_jpeg", {"op": "flip", "then": [{"op": "convert_avif", "chroma": "4:4:4"}]}]')
    error = caught.value
    assert (error.pointer, error.limit) == ("#/operations/1/then/0", DEFAULT)
    assert error.value > DEFAULT
    assert "4:2:0" in error.message


@pytest.mark.parametrize(
    "tree",
    [
        '[{"op": "convert_avif", "quality": 95}]',
        '[{"op": "resize", "width": 100, "then": [{"op": "convert_avif", "lossless": true}]}]',
        '["convert_webp", "convert_gif", "convert_png", "metadata", "denoise"]',
    ],
)
def test_submission_accepts_the_rest(tree: str) -> None:
    _checked(tree)
    _checked('[{"op": "convert_avif", "chroma": "4:4:4"}]', pixels=20_000_000)
