"""Draws waiting times and costs by rate, on logarithmic scales, as an SVG."""

import math
from collections.abc import Callable, Sequence
from typing import Any

COLOURS = ("#3274d9", "#a352cc", "#e0752d", "#56a64b")
WIDTH, HEIGHT, LEFT, TOP, GAP = 340, 220, 60, 40, 90
TENTH = 0.1  # seconds; shorter times are drawn here


def draw(rows: Sequence[Any], fleets: Sequence[str]) -> str:
    """An SVG with a row of plots for each pool: median and 99th percentile of the waiting time, dollars."""
    panels: list[tuple[str, Callable[[Any], float]]] = [
        ("wait p50, s", lambda row: max(row.outcome.wait(50), TENTH)),
        ("wait p99, s", lambda row: max(row.outcome.wait(99), TENTH)),
        ("dollars a million images", lambda row: row.dollars),
    ]
    parts, top = [], TOP
    for pool in dict.fromkeys(row.pool.name for row in rows):
        for number, (title, value) in enumerate(panels):
            mine = [row for row in rows if row.pool.name == pool]
            left = LEFT + number * (WIDTH + GAP)
            parts.append(f'<g transform="translate({left} {top})">')
            parts += _panel(f"{pool}: {title}", mine, fleets, value)
            parts.append("</g>")
        top += HEIGHT + GAP
    width = LEFT + len(panels) * (WIDTH + GAP)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {top}" font-family="sans-serif">'
    return "\n".join([head, f'<rect width="{width}" height="{top}" fill="#fff"/>', *parts, "</svg>", ""])


def _panel(title: str, rows: Sequence[Any], fleets: Sequence[str], value: Callable[[Any], float]) -> list[str]:
    across, up = _scale([row.rate for row in rows], WIDTH), _scale([value(row) for row in rows], HEIGHT)
    parts = [f'<rect width="{WIDTH}" height="{HEIGHT}" fill="none" stroke="#ccc"/>', _text(0, -10, title, size=14)]
    parts += [_text(across(10**power), HEIGHT + 16, f"{10**power:,}", anchor="middle") for power in across.powers]
    for power in up.powers:
        height = HEIGHT - up(10**power)
        parts.append(f'<path d="M0 {height:.1f}H{WIDTH}" stroke="#eee"/>')
        parts.append(_text(-6, height + 4, f"{10.0**power:,g}", anchor="end"))
    parts.append(_text(WIDTH, HEIGHT + 32, "jobs an hour", anchor="end"))
    for number, fleet in enumerate(fleets):
        points = " ".join(f"{across(r.rate):.1f},{HEIGHT - up(value(r)):.1f}" for r in rows if r.fleet == fleet)
        parts.append(f'<polyline points="{points}" fill="none" stroke="{COLOURS[number]}" stroke-width="2"/>')
        parts.append(f'<rect x="{number * 88}" y="{HEIGHT + 40}" width="12" height="3" fill="{COLOURS[number]}"/>')
        parts.append(_text(number * 88 + 16, HEIGHT + 45, fleet, size=10))
    return parts


class _scale:  # noqa: N801 - used as a function
    """A logarithmic scale from values to a length, between the powers of ten around them."""

    def __init__(self, values: Sequence[float], length: float) -> None:
        self.low, self.high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
        self.high = max(self.high, self.low + 1)
        self.length = length
        self.powers = range(self.low, self.high + 1)

    def __call__(self, value: float) -> float:
        return (math.log10(value) - self.low) / (self.high - self.low) * self.length


def _text(left: float, top: float, text: str, *, size: int = 11, anchor: str = "start") -> str:
    return f'<text x="{left:.1f}" y="{top:.1f}" font-size="{size}" text-anchor="{anchor}" fill="#222">{text}</text>'
