"""A case in a terminal: the plain text below a rule, in lines of the window's width, and in color."""

from __future__ import annotations

import os
import re
import shutil
import sys

from nb_oomhelper.session import current_shell
from nb_oomhelper.showing.frontends import _text
from nb_oomhelper.showing.grid import width_of
from nb_oomhelper.showing.report import Report

_LEAST = 40  # columns; in a narrower window lines break where the terminal breaks them
_CODE = re.compile(r" {7}[|+-] ")  # to be copied: a line stays one
_LEAD = re.compile(r"\s*(?:- |\d+ {2}|[\d.]+ [KMGTPE]iB {2})?")  # what the following lines of a paragraph stand behind
_WIDE = r"\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uffef\u3000-\u303f"
_PIECES = re.compile(rf"\s+|[（《“]*(?:[{_WIDE}]|[^\s{_WIDE}]+)[，。；：、）》”]*")
_RED, _GREEN, _BOLD, _OFF = "\x1b[31m", "\x1b[32m", "\x1b[1m", "\x1b[0m"


def render_here(report: Report) -> str:
    """Put a case into lines for the terminal that this process has; where it has none, as plain text.

    Args:
        report: The case in words.
    """
    if not sys.stdout.isatty():
        return _text.render(report)
    color = "NO_COLOR" not in os.environ and str(getattr(current_shell(), "colors", "")).lower() != "nocolor"
    return render(report, shutil.get_terminal_size().columns, color=color)


def render(report: Report, width: int, *, color: bool) -> str:
    """Put a case into lines, with a rule above them.

    Args:
        report: The case in words.
        width: Of the window, in columns.
        color: Whether marks and titles are colored.
    """
    blocks = [block.split("\n") for block in _text.render(report).split("\n\n")]
    broken = [[part for line in block for part in _broken(line, width)] for block in blocks]
    if color:
        broken = [_colored(block, first=number == 0, solved=report.solved) for number, block in enumerate(broken)]
    rule = "─" * max(width, 1)
    return "\n".join([rule, "\n\n".join("\n".join(block) for block in broken)])


def _broken(line: str, width: int) -> list[str]:
    """Break a line between words, or between Chinese characters."""
    lead = _LEAD.match(line)
    indent = " " * len(lead[0] if lead else "")
    if width < _LEAST or _CODE.match(line) or width_of(line) <= width:
        return [line]
    if line.startswith("["):  # the bar, whose legend says the same
        return []
    lines, now = [], line[: len(indent)]
    for piece in _PIECES.findall(line[len(indent) :]):
        if width_of(now + piece.rstrip()) > width and now.strip():
            lines.append(now.rstrip())
            now = indent
        now += piece if now != indent or not lines else piece.lstrip()
    return [*lines, now.rstrip()]


def _colored(lines: list[str], *, first: bool, solved: bool) -> list[str]:
    """Color the marks, and the line that is a block's title."""
    marked = [line.replace("✓", f"{_GREEN}✓{_OFF}").replace("✗", f"{_RED}✗{_OFF}") for line in lines]
    if first:
        marked[0] = f"{_BOLD}{_GREEN if solved else _RED}{lines[0]}{_OFF}"
    elif len(lines) > 1 and lines[1].startswith("  "):
        marked[0] = f"{_BOLD}{lines[0]}{_OFF}"
    return marked
