"""A case as HTML: the pieces that the panel is put together from, and the whole for saved notebooks.

Everything from outside is escaped here, at the last step before it becomes markup, and what hides in it written out.
"""

from __future__ import annotations

import difflib
import functools
import html
import re
from collections.abc import Iterable, Sequence
from importlib import resources

from nb_oomhelper.knowledge.toml_tables import Language
from nb_oomhelper.showing.cause_text import CauseRow
from nb_oomhelper.showing.entry_text import Aside
from nb_oomhelper.showing.fix_text import FixRow
from nb_oomhelper.showing.report import Part, Report
from nb_oomhelper.showing.wording import say
from nb_oomhelper.untrusted import printable

_NOT_HELD = ("limit", "too_large")  # their bytes are held by nobody: a bar beside the holders' would mislead
_WORD = re.compile(r"\w+|\s+|\(\)|[^\w\s]")
_MARK = re.compile(r"`([^`]*)`|\*\*([^*]*)\*\*")


def _escape(text: str) -> str:
    return html.escape(printable(text))


def rich(text: str) -> str:
    """Escape a text, then turn its backticks and double stars into markup."""
    return _MARK.sub(_element, _escape(text))


def _element(mark: re.Match[str]) -> str:
    """Code, whose stars stay, or bold, which may hold code."""
    return f"<code>{mark[1]}</code>" if mark[1] is not None else f"<b>{_MARK.sub(_element, mark[2])}</b>"


@functools.cache
def style() -> str:
    """The style sheet, as an element."""
    file = resources.files("nb_oomhelper.showing.frontends").joinpath("panel.css")
    return f"<style>{file.read_text('utf-8')}</style>"


def head(report: Report) -> str:
    """Title and place."""
    title, place = rich(report.title), rich(report.place)
    return f'<div class="oomh-head"><b class="oomh-title">{title}</b> <span class="oomh-mute">{place}</span></div>'


def headline(report: Report) -> str:
    """What was asked for and what was free."""
    return f'<div class="oomh-say">{rich(report.headline)}</div>'


def bar(parts: Sequence[Part], caption: str = "", used: Sequence[int] = ()) -> str:
    """Draw the memory bar with its legend.

    Args:
        parts: Of the bar.
        caption: A line beside the legend.
        used: Bytes at one reading after another, for a sparkline.
    """
    if not parts:
        return f'<div class="oomh-mute">{rich(caption)}</div>'
    said = ", ".join(f"{part.label} {part.size}" for part in parts)
    drawn = "".join(
        f'<i class="oomh-{part.kind}" style="width:{part.width:.2f}%" title="{_escape(part.label)} {part.size}"></i>'
        for part in parts
    )
    legend = "".join(
        f'<span><i class="oomh-key oomh-{part.kind}"></i>{rich(part.label)} <b>{rich(part.size)}</b></span>'
        for part in parts
    )
    tail = f'<span class="oomh-mute oomh-tail">{sparkline(used)} {rich(caption)}</span>'
    return (
        f'<div class="oomh-bar" role="img" aria-label="{_escape(said)}">{drawn}</div>'
        f'<div class="oomh-legend">{legend}{tail}</div>'
    )


def sparkline(used: Sequence[int]) -> str:
    """A line of the used bytes over time, scaled between its least and its most."""
    if len(used) < 2:
        return ""
    low, high = min(used), max(used)
    spread = (high - low) or 1
    points = " ".join(
        f"{100 * at / (len(used) - 1):.1f},{14 - 12 * (size - low) / spread:.1f}" for at, size in enumerate(used)
    )
    return (
        '<svg class="oomh-spark" viewBox="0 0 100 16" width="90" height="14" '
        'preserveAspectRatio="none" aria-hidden="true">'
        f'<polyline points="{points}" fill="none" stroke="currentColor" stroke-width="1.5"/></svg>'
    )


def cause_rows(report: Report) -> str:
    """The causes, each with a bar as long as its share of the largest."""
    if not report.here and not report.cause_rows:
        return ""
    title = section(say("section.why", report.language))
    if not report.cause_rows:
        return title + f'<div class="oomh-mute">{rich(say("section.nothing", report.language))}</div>'
    return f'{title}<table class="oomh-why">{"".join(_why(why) for why in report.cause_rows)}</table>'


def _why(why: CauseRow) -> str:
    mini = f'<i class="oomh-mini oomh-mini-{why.kind}" style="width:{max(2.0, 100 * why.share):.1f}%"></i>'
    mini = "" if why.kind in _NOT_HELD else mini
    return f'<tr><td class="oomh-b">{mini}</td><td class="oomh-n">{rich(why.size)}</td><td>{rich(why.text)}</td></tr>'


def fix(row: FixRow) -> str:
    """One fix, without its buttons: number, title and note, effect and verdict, applicability."""
    good = {"runs": "oomh-ok", "may": "", "again": "oomh-warn"}[row.plan.verdict]
    origin = f' <span class="oomh-mute">{rich(row.origin)}</span>' if row.origin else ""
    mark = {"safe": "oomh-ok", "unsafe": "oomh-warn", "display_only": ""}[row.plan.applicability]
    return (
        f'<div class="oomh-fix"><span class="oomh-mute">{row.plan.number}</span>'
        f'<span><b>{rich(row.title)}</b> <span class="oomh-chip {mark}">{rich(row.label)}</span>{origin}<br>'
        f'<span class="oomh-mute">{lines([row.rates, row.note])}</span></span>'
        f'<span>{rich(row.effect)}<br><span class="{good}">{rich(row.verdict)}</span></span></div>'
    )


def _whole_fix(row: FixRow, language: Language) -> str:
    return fix(row) + change(row, language) + code(row.plan.code)


def not_enough(report: Report) -> str:
    """The fixes after which the cell runs out again, folded."""
    if not report.not_enough:
        return ""
    title = say("section.not_enough", report.language, count=len(report.not_enough))
    rows = "".join(_whole_fix(row, report.language) for row in report.not_enough)
    return f'<details class="oomh-fold"><summary>{rich(title)}</summary>{rows}</details>'


def tried(report: Report) -> str:
    """What was run for the same error before."""
    return f'<div class="oomh-tried">{rich(report.tried)}</div>' if report.tried else ""


def code(text: str) -> str:
    """A block of code that can be selected."""
    return f'<pre class="oomh-code" tabindex="0">{_escape(text.strip())}</pre>'


def change(row: FixRow, language: Language) -> str:
    """Draw the user's statement and what runs in its place, side by side.

    Args:
        row: A fix.
        language: "en" or "zh".

    Returns:
        "" where nothing is changed.
    """
    before, after = row.plan.before, row.plan.after
    if not before or before == after:
        return ""
    old, new = _compared(before, after)
    titles = _where(row, language), say("diff.after", language)
    columns = "".join(
        f'<div><div class="oomh-mute">{rich(title)}</div><pre class="oomh-code" tabindex="0">{text}</pre></div>'
        for title, text in zip(titles, (old, new), strict=True)
    )
    whole = f'<div class="oomh-mute oomh-whole">{rich(say("diff.whole", language))}</div>'
    return f'<div class="oomh-diff">{columns}</div>{whole}'


def _where(row: FixRow, language: Language) -> str:
    """Where the lines are that are changed."""
    cell, line = row.plan.changed_cell, row.plan.changed_line
    key = "before" if line is None else "before_line" if cell is None else "before_cell"
    return say(f"diff.{key}", language, cell=cell, line=line)


def _compared(before: str, after: str) -> tuple[str, str]:
    """Both texts, with what is only in one of them marked; not by color alone."""
    words = [_WORD.findall(text) for text in (before, after)]
    old, new = [], []
    for kind, first, last, begin, end in difflib.SequenceMatcher(
        None, words[0], words[1], autojunk=False
    ).get_opcodes():
        gone, come = (_escape("".join(part)) for part in (words[0][first:last], words[1][begin:end]))
        old.append(gone if kind == "equal" or not gone else f"<del>{gone}</del>")
        new.append(come if kind == "equal" or not come else f"<ins>{come}</ins>")
    return "".join(old), "".join(new)


def advice(report: Report) -> str:
    """What to do about an error that a text tells of."""
    if not report.advice:
        return ""
    items = "".join(f"<li>{rich(line)}</li>" for line in report.advice)
    return f"{section(say('section.advice', report.language))}<ul>{items}</ul>"


def dead_ends(report: Report) -> str:
    """What would not help, and why not here."""
    if not report.dead_ends:
        return ""
    items = "".join(f"<li>{rich(line)}</li>" for line in report.dead_ends)
    return f'{section(say("section.dead_ends", report.language))}<ul class="oomh-mute">{items}</ul>'


def entry(report: Report) -> str:
    """The entry that bears on it, and what it claims; folded, what it advises here, and what was passed over."""
    said = f'{rich(report.entry)} <span class="oomh-mute">{rich(report.claims)}</span>'
    return f'<div class="oomh-entry">{said}{"".join(map(_aside, report.asides))}</div>'


def _aside(aside: Aside) -> str:
    items, title = "".join(f"<li>{rich(line)}</li>" for line in aside.lines), rich(aside.title)
    return f'<details class="oomh-fold"><summary>{title}</summary><ul class="oomh-mute">{items}</ul></details>'


def notes(texts: Iterable[str]) -> str:
    """What could not be read or was left out."""
    said = lines(texts)
    return f'<div class="oomh-mute oomh-notes">{said}</div>' if said else ""


def section(title: str) -> str:
    """A heading inside the panel."""
    return f'<div class="oomh-section" role="heading" aria-level="4">{rich(title)}</div>'


def lines(texts: Iterable[str]) -> str:
    """Texts, each on a line of its own."""
    return "<br>".join(rich(text) for text in texts if text)


def outcome(texts: Sequence[str], language: Language) -> str:
    """What a fix did, and how the cell fared; "" of nothing."""
    if not texts:
        return ""
    return f'{section(say("section.outcome", language))}<div class="oomh-outcome" role="status">{lines(texts)}</div>'


def outcomes(report: Report) -> str:
    """What was run here and what it did."""
    if not report.outcomes:
        return ""
    return (
        section(say("section.outcome", report.language)) + f'<div class="oomh-outcome">{lines(report.outcomes)}</div>'
    )


def render(report: Report) -> str:
    """The whole report, without buttons: it needs no kernel and no widgets."""
    language: Language = report.language
    fixes = "".join(_whole_fix(row, language) for row in report.fixes)
    solved = " oomh-solved" if report.solved else ""
    heading = section(say("section.fixes", language)) if fixes else ""
    by_hand = notes(
        [say("note.terminal", language)] if fixes or report.not_enough else []
    )  # where there are no buttons
    return (
        f'{style()}<div class="oomh oomh-static{solved}" lang="{language}">{head(report)}{headline(report)}'
        f"{tried(report)}{bar(report.parts, say('live.still', language)) if report.parts else ''}{cause_rows(report)}"
        f"{advice(report)}{heading}{fixes}{not_enough(report)}{by_hand}{outcomes(report)}"
        f"{dead_ends(report)}{notes(report.notes)}{entry(report)}</div>"
    )
