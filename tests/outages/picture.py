"""Draws all panels of the dashboards as an SVG from the data in Prometheus: two in a row, for the width of a page."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from tests.support.prometheus import Prometheus

DASHBOARDS = Path(__file__).parent.parent.parent / "k8s" / "monitoring" / "grafana" / "dashboards"
NAMES = ("overview", "pipeline", "cluster")
COLOURS = ("#3274d9", "#e0752d", "#56a64b", "#a352cc", "#c9a415", "#2aa5a0", "#8c6d46", "#d6569f", "#7f8c8d", "#1f3a5f")
LIMIT = "#e02f44"
COLUMNS, GAP = 24, 12  # columns of Grafana's grid; pixels between panels
CELL = 37.0  # pixels per column
HEIGHTS = {"row": 34, "stat": 82, "timeseries": 250}
LEFT, RIGHT, TOP, BOTTOM = 62, 12, 34, 20  # margins in pixels of a plot within its panel
LINE = 15  # height in pixels of a line of the legend
LEGEND = 6  # entries below a panel, at most
POINTS = 240
STEP_LEAST = 1.0  # seconds
WINDOW = "10s"  # Grafana's value for $__rate_interval with a scrape every second
UNITS = {"s": " s", "Bps": " B/s", "ops": "/s"}
PREFIXES = ((1e9, "G"), (1e6, "M"), (1e3, "k"))
Points = list[tuple[float, float]]
Span = tuple[float, float]


@dataclass(frozen=True)
class Line:
    name: str
    points: Points

    @property
    def limit(self) -> bool:
        return self.name.startswith("limit")


@dataclass(frozen=True)
class Box:
    """Position and size of a panel, in pixels."""

    left: float
    top: float
    width: float
    height: float


def draw(prometheus: Prometheus, start: float, end: float) -> str:
    """An SVG with all dashboards below each other, between two Unix times. Panels without data are left out."""
    parts: list[str] = []
    top = float(GAP)
    for name in NAMES:
        dashboard = json.loads((DASHBOARDS / f"{name}.json").read_text())
        drawn, top_after = _dashboard(prometheus, dashboard, top, (start, end))
        parts += drawn
        top = top_after
    width = COLUMNS * CELL + GAP
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {top:.0f}" font-family="sans-serif">'
    return "\n".join([head, f'<rect width="{width:.0f}" height="{top:.0f}" fill="#fff"/>', *parts, "</svg>", ""])


def _dashboard(prometheus: Prometheus, dashboard: dict[str, Any], top: float, span: Span) -> tuple[list[str], float]:
    filled = [(panel, _lines(prometheus, panel, span)) for panel in dashboard["panels"]]
    shown = [(panel, lines) for panel, lines in filled if panel["type"] == "row" or any(not one.limit for one in lines)]
    if not any(panel["type"] != "row" for panel, _ in shown):
        return [], top
    parts = [_text(GAP, top + 20, dashboard["title"], size=20, weight="bold")]
    top += 34
    left, high = float(GAP), 0.0
    for number, (panel, lines) in enumerate(shown):
        width = panel["gridPos"]["w"] * CELL
        if panel["type"] == "row" or left + width > COLUMNS * CELL + GAP + 1:
            left, top, high = float(GAP), top + high, 0.0
        if panel["type"] == "row":
            if number + 1 < len(shown) and shown[number + 1][0]["type"] != "row":
                parts.append(_text(GAP, top + 22, panel["title"], size=15, weight="bold", fill="#555"))
                top += HEIGHTS["row"]
            continue
        box = Box(left, top, width - GAP, HEIGHTS[panel["type"]] - GAP)
        parts += _panel(panel, lines, box, span)
        left, high = left + width, max(high, HEIGHTS[panel["type"]])
    return parts, top + high + 2 * GAP


def _lines(prometheus: Prometheus, panel: dict[str, Any], span: Span) -> list[Line]:
    step = max(STEP_LEAST, (span[1] - span[0]) / POINTS)
    lines = []
    for target in panel.get("targets", ()):
        expression = target["expr"].replace("$__rate_interval", WINDOW)
        for series in prometheus.query_range(expression, *span, step):
            points = [(float(at), float(value)) for at, value in series["values"] if value not in {"NaN", "+Inf"}]
            name = re.sub(
                r"{{(\w+)}}", lambda label, found=series: found["metric"].get(label[1], ""), target["legendFormat"]
            )
            if points:
                lines.append(Line(name.strip(), points))
    return sorted(lines, key=lambda line: (line.limit, -max(value for _, value in line.points)))


def _panel(panel: dict[str, Any], lines: list[Line], box: Box, span: Span) -> Iterator[str]:
    yield f'<g transform="translate({box.left:.0f} {box.top:.0f})">'
    yield f'<rect width="{box.width:.0f}" height="{box.height:.0f}" rx="3" fill="#fff" stroke="#ccc"/>'
    yield _text(10, 20, panel["title"], size=13, weight="bold")
    if panel["type"] == "stat":
        worst = max(value for line in lines for _, value in line.points)
        yield _text(10, 54, _amount(lines[0].points[-1][1], panel), size=26)
        yield _text(box.width - 10, 54, f"at most {_amount(worst, panel)}", size=12, anchor="end", fill="#555")
    else:
        yield from _plot(panel, lines, box, span)
    yield "</g>"


def _plot(panel: dict[str, Any], lines: list[Line], box: Box, span: Span) -> Iterator[str]:
    colours = _coloured(lines)
    rows = (min(len(lines), LEGEND) + 1) // 2
    most = _most(lines)
    floor = box.height - BOTTOM - rows * LINE
    for share in (0.0, 0.5, 1.0):
        at = floor - share * (floor - TOP)
        yield f'<line x1="{LEFT}" x2="{box.width - RIGHT:.0f}" y1="{at:.1f}" y2="{at:.1f}" stroke="#e5e5e5"/>'
        yield _text(LEFT - 6, at + 4, _amount(most * share, panel), size=11, anchor="end", fill="#555")
    for line, colour in zip(lines, colours, strict=True):
        yield _polyline(line, most, span, (box.width, floor), colour)
    for number, (line, colour) in enumerate(zip(lines[:LEGEND], colours, strict=False)):
        left = LEFT + number % 2 * (box.width - LEFT) / 2
        top = floor + 18 + number // 2 * LINE
        yield f'<rect x="{left:.0f}" y="{top - 6:.0f}" width="12" height="4" fill="{colour}"/>'
        yield _text(left + 17, top, line.name[:26] or "all", size=11)
    if len(lines) > LEGEND:
        yield _text(
            box.width - 10, box.height - 6, f"and {len(lines) - LEGEND} more", size=11, anchor="end", fill="#555"
        )
    minutes = (span[1] - span[0]) / 60
    yield _text(box.width - RIGHT, 20, f"{minutes:.0f} min", size=11, anchor="end", fill="#888")


def _coloured(lines: list[Line]) -> list[str]:
    return [LIMIT if line.limit else COLOURS[number % len(COLOURS)] for number, line in enumerate(lines)]


def _most(lines: list[Line]) -> float:
    """The top of the scale: the maximum of the data, or a limit if it is at most twice as high."""
    most = max(value for line in lines if not line.limit for _, value in line.points)
    limits = [value for line in lines if line.limit for _, value in line.points]
    return max([most, *(value for value in limits if value <= 2 * most)]) or max(limits, default=1.0)


def _amount(value: float, panel: dict[str, Any]) -> str:
    unit = panel["fieldConfig"]["defaults"]["unit"]
    if unit == "percentunit":
        return f"{value * 100:.3g} %"
    if unit == "s" and 0 < value < 1:
        return f"{value * 1000:.3g} ms"
    for factor, prefix in PREFIXES:
        if value >= factor and unit != "s":
            return f"{value / factor:.3g} {prefix}{UNITS.get(unit, '').strip()}"
    return f"{value:.3g}{UNITS.get(unit, '')}"


def _polyline(line: Line, most: float, span: Span, corner: tuple[float, float], colour: str) -> str:
    width, floor = corner
    seconds = span[1] - span[0]
    placed = (
        f"{LEFT + (at - span[0]) / seconds * (width - LEFT - RIGHT):.1f},"
        f"{max(TOP - 4.0, floor - value / most * (floor - TOP)):.1f}"
        for at, value in line.points
    )
    dash = ' stroke-dasharray="5 4"' if line.limit else ""
    return f'<polyline points="{" ".join(placed)}" fill="none" stroke="{colour}" stroke-width="1.6"{dash}/>'


def _text(
    left: float, top: float, text: str, *, size: int, anchor: str = "start", weight: str = "normal", fill: str = "#222"
) -> str:
    place = f'x="{left:.0f}" y="{top:.0f}" font-size="{size}" text-anchor="{anchor}"'
    return f'<text {place} font-weight="{weight}" fill="{fill}">{escape(text)}</text>'
