"""A case as plain text, for terminals and for outputs that show nothing else."""

from __future__ import annotations

import re
import textwrap

from nb_oomhelper.showing.fix_text import FixRow
from nb_oomhelper.showing.report import Part, Report
from nb_oomhelper.showing.wording import say
from nb_oomhelper.untrusted import printable

_BAR = 60  # characters
_MARK = re.compile(r"(`[^`]*`)|\*\*([^*]*)\*\*")
_MARKS = {
    "allocated": "#",
    "process": "#",
    "mapped": "#",
    "cached": "=",
    "rest": "+",
    "elsewhere": "+",
    "other": "o",
    "free": ".",
    "barred": "x",
}


def render(report: Report) -> str:
    """The whole report, with a line for each thing that the panel shows; what the entry advises is a command away."""
    language = report.language
    blocks = [
        "\n".join([" · ".join(filter(None, (report.title, report.place))), *_answer(report)]),
        _plain(report.tried),
        bar(report.parts),
        _section(say("section.why", language), [f"{why.size:>12}  {_plain(why.text)}" for why in report.cause_rows]),
        _section(say("section.advice", language), [f"  - {_plain(line)}" for line in report.advice]),
        _section(say("section.fixes", language), [_fix(row, report) for row in report.fixes]),
        _section(
            say("section.not_enough", language, count=len(report.not_enough)),
            [f"{row.plan.number:>3}  {_said(row, report)}" for row in report.not_enough],
        ),
        _section(say("section.outcome", language), [f"  {_plain(line)}" for line in report.outcomes]),
        _section(say("section.dead_ends", language), [f"  - {_plain(line)}" for line in report.dead_ends]),
        "\n".join(_plain(line) for line in (report.entry, report.claims) if line),
        "\n".join(_plain(note) for note in (*report.notes, *_how_to_run(report))),
    ]
    return printable("\n\n".join(block for block in blocks if block))


def _answer(report: Report) -> list[str]:
    return [_plain(line) for line in (report.verdict, report.headline) if line]


def _how_to_run(report: Report) -> list[str]:
    rows = (*report.fixes, *report.not_enough)
    sized = [row.plan.number for row in rows if row.plan.foreseeable and row.plan.forecast is None and not row.done]
    lines = [say("note.terminal", report.language)] if rows else []
    lines += [say("note.entry", report.language)] if report.asides else []
    return lines + [say("note.foresee", report.language, number=number) for number in sized[:1]]


def _section(title: str, lines: list[str]) -> str:
    return "\n".join([title, *lines]) if lines else ""


def bar(parts: tuple[Part, ...]) -> str:
    """A bar of memory in characters, and below it what each stands for; "" where there are no parts."""
    if not parts:
        return ""
    drawn = "".join(_MARKS.get(part.kind, "!") * round(part.width * _BAR / 100) for part in parts)
    legend = "  ".join(f"{_MARKS.get(part.kind, '!')} {part.label} {part.size}" for part in parts)
    return f"[{drawn}]\n{legend}"


def _fix(row: FixRow, report: Report) -> str:
    lines = [f"{row.plan.number:>3}  {_said(row, report)}"]
    if row.loses:
        lines.append("     " + _plain(say("fix.loses", report.language, loses=row.loses)))
    lines.extend(_diff(row))
    lines.append(textwrap.indent(row.plan.code.strip(), "       | "))
    return "\n".join(lines)


def _said(row: FixRow, report: Report) -> str:
    """A fix in one line."""
    facts = " · ".join(part for part in (row.effect, row.verdict, row.label, row.rates) if part)
    title = " ".join(part for part in (_plain(row.title), row.origin and f"({_plain(row.origin)})") if part)
    return say("list.of", report.language, head=title, text=facts)


def _diff(row: FixRow) -> list[str]:
    """The user's lines and what runs in their place, as a diff."""
    before, after = row.plan.before, row.plan.after
    if not before or before == after or row.plan.changed_line is None:
        return []
    return [*(f"       - {line}" for line in before.split("\n")), *(f"       + {line}" for line in after.split("\n"))]


def _plain(text: str) -> str:
    """Without the stars of bold text; those in code stay."""
    return _MARK.sub(lambda mark: mark[1] or mark[2], text)
