"""A run as a bar chart: SVG written by hand, with a ground of its own, so that light and dark pages show it alike."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

_WIDTH, _LEFT, _RIGHT = 880, 250, 150  # pixels; the bars lie between the labels and the counts
_TOP, _STEP, _BAR = 96, 38, 22
_INK, _MUTED, _GROUND, _GRID = "#1f2328", "#59636e", "#ffffff", "#d1d9e0"
_OTHERS, _OURS = "#8c959f", "#0969da"
_OUR_NAMES = ("ours", "deep")
_FONT = "font-family=\"system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif\""


def draw(record: Mapping[str, Any]) -> str:
    """One bar a method: its share of the bytes; beside it the scenarios in which it gave all of them back.

    Args:
        record: A run, as `report.to_record` gives it and the result files keep it.
    """
    bottom = _TOP + _STEP * len(record["summary"])
    height = bottom + 72
    total = len(record["scenarios"])
    title = "Memory given back after an out-of-memory error, without a restart"
    about = f"{total} ways to fail, each in a fresh kernel; {_where(record)}"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}" '
        f'role="img" aria-label="{escape(title)}" {_FONT}>',
        f'<rect x="0.5" y="0.5" width="{_WIDTH - 1}" height="{height - 1}" rx="8" fill="{_GROUND}" stroke="{_GRID}"/>',
        _text(24, 34, title, size=18, weight=600),
        _text(24, 57, about, fill=_MUTED),
        _text(_WIDTH - 24, _TOP - 10, "gave all back in", fill=_MUTED, anchor="end"),
        *_axis(bottom),
    ]
    for index, (name, sums) in enumerate(record["summary"].items()):
        count, ours = f"{sums['full']} of {total}", name in _OUR_NAMES
        parts += _bar(_TOP + _STEP * index, sums["title"], sums["share"], count, ours)
    return "\n".join([*parts, "</svg>", ""])


def _axis(bottom: int) -> list[str]:
    lines = []
    for percent in range(0, 101, 25):
        x = _at(percent / 100)
        lines.append(f'<line x1="{x}" y1="{_TOP - 2}" x2="{x}" y2="{bottom}" stroke="{_GRID}"/>')
        lines.append(_text(x, bottom + 19, f"{percent} %", fill=_MUTED, anchor="middle"))
    middle = (_at(0) + _at(1)) / 2
    lines.append(
        _text(middle, bottom + 44, "bytes back, as a share of what can be freed", fill=_MUTED, anchor="middle")
    )
    return lines


def _bar(top: int, title: str, share: float, count: str, ours: bool) -> list[str]:
    fill, middle = _OURS if ours else _OTHERS, top + _BAR // 2 + 5
    width, percent = max(2.0, _at(share) - _at(0)), f"{int(100 * share)} %"
    inside = share > 0.5
    x, ink = (_at(share) - 8, _GROUND) if inside else (_at(share) + 8, _INK)
    return [
        _text(_LEFT - 12, middle, title, anchor="end", weight=600 if ours else 400),
        f'<rect x="{_at(0)}" y="{top}" width="{width:g}" height="{_BAR}" rx="3" fill="{fill}"/>',
        _text(x, middle, percent, fill=ink, anchor="end" if inside else "start", weight=600),
        _text(_WIDTH - 24, middle, count, anchor="end", weight=600 if ours else 400),
    ]


def _text(
    x: float, y: float, text: str, *, size: int = 13, fill: str = _INK, anchor: str = "start", weight: int = 400
) -> str:
    return (
        f'<text x="{x:g}" y="{y:g}" font-size="{size}" font-weight="{weight}" fill="{fill}" '
        f'text-anchor="{anchor}">{escape(text)}</text>'
    )


def _at(share: float) -> float:
    return round(_LEFT + share * (_WIDTH - _LEFT - _RIGHT), 1)


def _where(record: Mapping[str, Any]) -> str:
    libraries = record["libraries"]
    versions = f"PyTorch {libraries['torch']}, IPython {libraries['ipython']}, Python {record['python']}"
    return f"{record['device']}, {versions}"
