"""How do numbers over steps, or over shares, become a picture that needs no library?

Inline SVG with colours from the page's style sheet, so that it follows light and dark.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _HEIGHT = 460, 210
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 10, 10, 26
_MOST_POINTS = 240  # more than a screen can show; what lies between is averaged
_NUM_TICKS = 5

Point = tuple[float, float]


@dataclass(frozen=True)
class Curve:
    """Values over steps under a name."""

    name: str
    points: Sequence[Point]


def draw(title: str, curves: Sequence[Curve], *, note: str = "", x_name: str = "step") -> str:
    """One figure with axes, curves and a legend; nothing where no curve has a point."""
    curves = [Curve(curve.name, thin(curve.points)) for curve in curves if curve.points]
    if not curves:
        return ""
    xs = [x for curve in curves for x, _ in curve.points]
    ys = [y for curve in curves for _, y in curve.points]
    x_ticks, y_ticks = ticks(0, max(xs)), ticks(min(ys), max(ys))
    frame = _Frame(x_ticks[0], max([*xs, 1.0]), y_ticks[0], y_ticks[-1])
    parts = [_axes(frame, x_ticks, y_ticks, x_name)]
    parts += [_line(frame, curve, number, x_name) for number, curve in enumerate(curves)]
    legend = "".join(
        f'<span class="key curve-{number}">{escape(curve.name)}</span>'
        for number, curve in enumerate(curves)
    )
    caption = f"<p>{escape(note)}</p>" if note else ""
    return (
        f'<figure><figcaption>{escape(title)}</figcaption><div class="legend">{legend}</div>'
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)}">'
        f"{''.join(parts)}</svg>{caption}</figure>"
    )


def thin(points: Sequence[Point]) -> list[Point]:
    """At most so many points as a screen can show: neighbours are averaged."""
    size = math.ceil(len(points) / _MOST_POINTS)
    if size <= 1:
        return list(points)
    groups = [points[begin : begin + size] for begin in range(0, len(points), size)]
    return [
        (sum(x for x, _ in group) / len(group), sum(y for _, y in group) / len(group))
        for group in groups
    ]


def ticks(low: float, high: float) -> list[float]:
    """Round numbers, evenly spaced, that enclose both ends."""
    if high <= low:
        low, high = low - (abs(low) or 1) / 2, high + (abs(high) or 1) / 2
    raw = (high - low) / (_NUM_TICKS - 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [number * step for number in range(first, last + 1)]


@dataclass(frozen=True)
class _Frame:
    """The values at the edges of the axes."""

    x_low: float
    x_high: float
    y_low: float
    y_high: float

    def x(self, value: float) -> float:
        """Where a value stands from the left, in units of the picture."""
        share = (value - self.x_low) / (self.x_high - self.x_low)
        return round(_LEFT + share * (_WIDTH - _LEFT - _RIGHT), 1)

    def y(self, value: float) -> float:
        """Where a value stands from the top."""
        share = (value - self.y_low) / (self.y_high - self.y_low)
        return round(_HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM), 1)


def _axes(frame: _Frame, x_ticks: Sequence[float], y_ticks: Sequence[float], x_name: str) -> str:
    right = _WIDTH - _RIGHT
    lines = []
    for tick in y_ticks:
        y = frame.y(tick)
        kind = "zero" if tick == 0 else "grid"
        lines.append(f'<path class="{kind}" d="M{_LEFT} {y}H{right}"/>')
        lines.append(f'<text x="{_LEFT - 6}" y="{y + 4}" class="end">{_number(tick)}</text>')
    bottom = _HEIGHT - _BOTTOM + 18
    lines.append(f'<text x="{_LEFT - 6}" y="{bottom}" class="end">{escape(x_name)}</text>')
    lines += [
        f'<text x="{frame.x(tick)}" y="{bottom}" class="middle">{_number(tick)}</text>'
        for tick in x_ticks
        if 0 < tick <= frame.x_high
    ]
    return "".join(lines)


def _line(frame: _Frame, curve: Curve, number: int, x_name: str) -> str:
    places = " ".join(f"{frame.x(x)},{frame.y(y)}" for x, y in curve.points)
    line = f'<polyline class="curve curve-{number}" points="{places}"/>'
    if len(curve.points) > 40:
        return line
    dots = "".join(
        f'<circle class="dot curve-{number}" cx="{frame.x(x)}" cy="{frame.y(y)}" r="2.6">'
        f"<title>{escape(curve.name)}, {escape(x_name)} {_number(x)}: {y:.4g}</title></circle>"
        for x, y in curve.points
    )
    return line + dots


def _number(value: float) -> str:
    if abs(value) >= 10_000:
        return f"{value / 1000:,.5g}k"
    return f"{value:,.6g}"
