"""Quality against cost as an SVG, written by hand: a picture of a report needs no plotting library.

Belongs here: drawing. Not here: what is drawn (evaluate.py).
"""

from __future__ import annotations

from collections.abc import Callable
from html import escape

from opentracy.routing.evaluate import Report

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP, _RIGHT = 760, 460, 70, 50, 40, 190
Place = Callable[[float, float], tuple[float, float]]
_COLOURS = {"router": "#0b6e4f", "kmeans100": "#c06c00", "oracle": "#8a8a8a"}


def svg(report: Report, title: str = "Quality against cost") -> str:
    """One line per method, one dot per single model; cost in USD per 1,000 prompts."""
    shown = {n: c for n, c in report.curves.items() if n != "oracle"}
    costs = [x for c in shown.values() for x in c[0]] + [x for x, _ in report.singles.values()]
    values = [y for c in shown.values() for y in c[1]] + [y for _, y in report.singles.values()]
    low_x, high_x, low_y, high_y = min(costs), max(costs), min(values) - 0.02, max(values) + 0.02

    def at(cost: float, quality: float) -> tuple[float, float]:
        x = _LEFT + (cost - low_x) / max(high_x - low_x, 1e-12) * (_WIDTH - _LEFT - _RIGHT)
        y = _HEIGHT - _BOTTOM - (quality - low_y) / (high_y - low_y) * (_HEIGHT - _BOTTOM - _TOP)
        return round(x, 1), round(y, 1)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#ffffff"/>',
        f'<text x="{_LEFT}" y="22" font-size="15">{escape(title)}</text>',
        *_axes(low_x, high_x, low_y, high_y, at),
    ]
    for i, (name, (xs, ys)) in enumerate(shown.items()):
        points = " ".join(f"{x},{y}" for x, y in (at(a, b) for a, b in sorted(zip(xs, ys, strict=True))))
        colour = _COLOURS.get(name, "#333333")
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(f'<text x="{_WIDTH - _RIGHT + 12}" y="{_TOP + 18 * i + 10}" fill="{colour}">{escape(name)}</text>')
    for name, (cost, quality) in report.singles.items():
        x, y = at(cost, quality)
        parts.append(f'<circle cx="{x}" cy="{y}" r="4" fill="#3355aa"><title>{escape(name)}</title></circle>')
        parts.append(f'<text x="{x + 6}" y="{y + 4}" font-size="10" fill="#3355aa">{escape(name[:28])}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _axes(low_x: float, high_x: float, low_y: float, high_y: float, at: Place) -> list[str]:
    out = []
    for step in range(5):
        quality = low_y + (high_y - low_y) * step / 4
        x, y = at(low_x, quality)
        out.append(f'<line x1="{x}" y1="{y}" x2="{_WIDTH - _RIGHT}" y2="{y}" stroke="#e4e4e4"/>')
        out.append(f'<text x="{_LEFT - 8}" y="{y + 4}" text-anchor="end">{quality * 100:.0f}</text>')
        cost = low_x + (high_x - low_x) * step / 4
        x, y = at(cost, low_y)
        out.append(f'<text x="{x}" y="{y + 18}" text-anchor="middle">{cost * 1000:.3g}</text>')
    middle = _LEFT + (_WIDTH - _LEFT - _RIGHT) / 2
    out.append(f'<text x="{middle}" y="{_HEIGHT - 10}" text-anchor="middle">USD per 1,000 prompts</text>')
    turned = f'transform="rotate(-90 16 {_HEIGHT / 2})" text-anchor="middle"'
    out.append(f'<text x="16" y="{_HEIGHT / 2}" {turned}>mean score</text>')
    return out
