"""What `pixtools run` shows on a terminal: the table of its files, and a bar for each."""

import io
from pathlib import Path

import pytest
from rich.console import Console
from rich.progress import Progress

from app.commands.display import Outcome, bar_columns, failure, table


def test_the_table_keeps_its_columns() -> None:
    good = Outcome("a.jpg", size=2000, status="completed", seconds=0.5, files={Path("a.webp"): 500})
    bad = Outcome("b\n.jpg", size=1000, code="a_code_that_is_longer_than_a_column", message="It is\nwrong.")
    header, first, second, total = table([good, bad], 120).splitlines()
    assert header.split() == ["file", "in", "out", "saved", "seconds", "error"]
    assert total.split("  ")[0] == "2 files: 1 completed, 1 failed"
    assert second.index("a_code") == header.index("error")
    assert first.index("0.5") + 3 == header.index("seconds") + len("seconds")
    assert table([bad], 80).splitlines()[-1] == "1 file: 0 completed, 1 failed"
    assert table([good], 80).splitlines()[-1].startswith("1 file  ")
    assert failure(bad) == ["FAILED b\n.jpg: a_code_that_is_longer_than_a_column: It is\nwrong."]


@pytest.mark.parametrize("most", [40, 60, 80, 100])
def test_the_table_fits_into_the_terminal(most: int) -> None:
    good = Outcome("photos/beach/IMG_0001.jpg", 3_200_000, status="completed", seconds=0.5, files={Path("a"): 500_000})
    bad = Outcome("photos/mountains/IMG_0002.jpg", 1000, code="truncated_image")
    for outcomes in ([good], [bad], [good, bad], [good] * 20 + [bad]):
        lines = table(outcomes, most).splitlines()
        assert max(map(len, lines)) <= most, lines
        assert good not in outcomes or "84%" in lines[-1]
        assert bad not in outcomes or lines[-2].endswith("truncated_image")


@pytest.mark.parametrize("most", [40, 60, 80, 120])
def test_bars_fit_into_the_terminal(most: int) -> None:
    written = io.StringIO()
    console = Console(file=written, width=most, color_system=None)
    bars = Progress(*bar_columns(most), console=console, expand=True)
    bars.add_task("  photos/beach/IMG_0001.jpg: resize.convert_webp 25%, 12 s left", total=4, completed=1)
    console.print(bars.get_renderable())
    [line] = written.getvalue().splitlines()
    assert len(line) <= most
    assert " 25%" in line[-15:], line
