"""Every panel of the dashboards as an SVG, from what Prometheus has."""

import json
import re
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from tests.support.prometheus import Prometheus

DASHBOARDS = Path(__file__).parent.parent.parent / "k8s" / "monitoring" / "grafana" / "dashboards"
COLOURS = ("#3274d9", "#e0752d", "#56a64b", "#a352cc", "#e02f44", "#c9a415", "#2aa5a0", "#8c6d46", "#d6569f", "#7f8c8d")
WIDTH, HEIGHT, GAP, TITLE = 400, 170, 12, 22
POINTS = 240
LEGEND = 5  # entries below a panel
STEP_LEAST = 1.0  # seconds
WINDOW = "10s"  # what Grafana would fill in for $__rate_interval, with a scrape every second
Points = list[tuple[float, float]]


@dataclass(frozen=True)
class Line:
    name: str
    points: Points


def draw(prometheus: Prometheus, start: float, end: float) -> str:
    """One picture: dashboards below each other, three panels in a row."""
    parts: list[str] = []
    top = GAP
    for path in sorted(DASHBOARDS.glob("*.json")):
        dashboard = json.loads(path.read_text())
        parts.append(_text(GAP, top + 14, dashboard["title"], size=16))
        top += 30
        for number, panel in enumerate(dashboard["panels"]):
            left = GAP + (number % 3) * (WIDTH + GAP)
            parts.append(_panel(panel, _lines(prometheus, panel, start, end), left, top, (start, end)))
            if number % 3 == 2 or panel is dashboard["panels"][-1]:
                top += HEIGHT + 44
    width = 3 * (WIDTH + GAP) + GAP
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {top}" font-family="sans-serif">'
    return "\n".join([head, f'<rect width="{width}" height="{top}" fill="#fff"/>', *parts, "</svg>", ""])


def _lines(prometheus: Prometheus, panel: dict[str, Any], start: float, end: float) -> list[Line]:
    step = max(STEP_LEAST, (end - start) / POINTS)
    lines = []
    for target in panel["targets"]:
        expression = target["expr"].replace("$__rate_interval", WINDOW)
        for series in prometheus.query_range(expression, start, end, step):
            points = [(float(at), float(value)) for at, value in series["values"] if value not in {"NaN", "+Inf"}]
            name = re.sub(
                r"{{(\w+)}}", lambda label, found=series: found["metric"].get(label[1], ""), target["legendFormat"]
            )
            if points:
                lines.append(Line(name, points))
    return sorted(lines, key=lambda line: -max(value for _, value in line.points))


def _panel(panel: dict[str, Any], lines: list[Line], left: int, top: int, span: tuple[float, float]) -> str:
    most = max((value for line in lines for _, value in line.points), default=0.0) or 1.0
    parts = [
        f'<g transform="translate({left} {top})">',
        f'<rect width="{WIDTH}" height="{HEIGHT + 34}" fill="none" stroke="#ccc"/>',
        _text(8, 15, panel["title"], size=12),
        _text(WIDTH - 8, 15, f"max {_amount(most, panel)}" if lines else "no data", size=10, anchor="end"),
    ]
    for number, line in enumerate(lines):
        colour = COLOURS[number % len(COLOURS)]
        parts.append(_polyline(line.points, most, span, colour))
        if number < LEGEND:
            parts.append(_legend(number, line.name, colour))
    if len(lines) > LEGEND:
        parts.append(_text(WIDTH - 8, HEIGHT + 28, f"and {len(lines) - LEGEND} more", size=9, anchor="end"))
    return "\n".join([*parts, "</g>"])


def _amount(value: float, panel: dict[str, Any]) -> str:
    unit = {"s": " s", "Bps": " B/s", "ops": "/s"}.get(panel["fieldConfig"]["defaults"]["unit"], "")
    return f"{value:.3g}{unit}"


def _polyline(points: Points, most: float, span: tuple[float, float], colour: str) -> str:
    height = HEIGHT - TITLE - 6
    seconds = span[1] - span[0]
    placed = (
        f"{8 + (at - span[0]) / seconds * (WIDTH - 16):.1f},{TITLE + height * (1 - value / most):.1f}"
        for at, value in points
    )
    return f'<polyline points="{" ".join(placed)}" fill="none" stroke="{colour}" stroke-width="1.2"/>'


def _legend(number: int, name: str, colour: str) -> str:
    left, top = 8 + number % 3 * 130, HEIGHT + 14 + number // 3 * 14
    dash = f'<rect x="{left}" y="{top - 6}" width="10" height="3" fill="{colour}"/>'
    return dash + _text(left + 14, top, name[:22] or "all", size=9)


def _text(left: float, top: float, text: str, *, size: int, anchor: str = "start") -> str:
    return f'<text x="{left}" y="{top}" font-size="{size}" text-anchor="{anchor}" fill="#222">{escape(text)}</text>'
