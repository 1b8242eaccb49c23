"""A case as HTML: the pieces that the panel is put together from, and the whole for saved notebooks.

Everything from outside is escaped here, at the last step before it becomes markup, and what hides in it written out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from nb_oomhelper.showing.cause_text import CauseRow
from nb_oomhelper.showing.entry_text import Aside
from nb_oomhelper.showing.fix_text import FixRow
from nb_oomhelper.showing.frontends._diff import short_change
from nb_oomhelper.showing.frontends._markup import escape, lines, rich
from nb_oomhelper.showing.report import Part, Report
from nb_oomhelper.showing.wording import say

_NOT_HELD = ("limit", "too_large")  # their bytes are held by nobody: a bar beside the holders' would mislead


def head(report: Report) -> str:
    """Title and place."""
    title, place = rich(report.title), rich(report.place)
    heading = f'<b class="oomh-title" role="heading" aria-level="4">{title}</b>'
    return f'<div class="oomh-head">{heading} <span class="oomh-mute">{place}</span></div>'


def gone(report: Report) -> str:
    """What a panel whose kernel has gone says; the style sheet hides it as long as there is one."""
    text = say("live.gone", report.language, time=report.seen[-5:]) if report.seen else ""
    return f'<div class="oomh-gone">{rich(text)}</div>'


def headline(report: Report) -> str:
    """Whether the cell can run, what was asked for and what was free."""
    if not report.verdict:
        return f'<div class="oomh-say">{rich(report.headline)}</div>'
    asked = f'<div class="oomh-asked">{rich(report.headline)}</div>'
    return f'<div class="oomh-say">{rich(report.verdict)}</div>{asked}'


def top(report: Report) -> str:
    """All that stands above the fix to try now; of a case that is solved the title alone."""
    said = "" if report.solved else headline(report) + tried(report)
    return head(report) + gone(report) + said


def picture(report: Report) -> str:
    """The bar when it failed, and what holds most."""
    drawn = bar(report.parts, say("live.still", report.language)) if report.parts else ""
    return drawn + main_cause(report)


def main_cause(report: Report) -> str:
    """What holds most, in one line; "" where nothing is known."""
    why = report.main_cause
    if why is None:
        return ""
    key = "" if why.kind in _NOT_HELD else f'<i class="oomh-key oomh-held oomh-mini-{why.kind}"></i>'
    return f'<div class="oomh-main">{key}<b>{rich(why.size)}</b> {rich(why.text)}</div>'


def now(text: str, caption: str, used: Sequence[int]) -> str:
    """The live line: what is used and free, and how that went.

    Args:
        text: What is used and free.
        caption: Of when that is.
        used: Bytes at one reading after another.
    """
    return f'<div class="oomh-now">{rich(text)} {sparkline(used)} {rich(caption)}</div>'


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
        f'<i class="oomh-{part.kind}" style="width:{part.width:.2f}%" title="{escape(part.label)} {part.size}"></i>'
        for part in parts
    )
    legend = " ".join(
        f'<span><i class="oomh-key oomh-{part.kind}"></i>{rich(part.label)} <b>{rich(part.size)}</b></span>'
        for part in parts
    )
    tail = f'<span class="oomh-mute oomh-tail">{sparkline(used)} {rich(caption)}</span>'
    return (
        f'<div class="oomh-bar" role="img" aria-label="{escape(said)}">{drawn}</div>'
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
    if not report.cause_rows:
        return f'<div class="oomh-mute">{rich(say("section.nothing", report.language))}</div>' if report.here else ""
    return f'<table class="oomh-why">{"".join(_why(why) for why in report.cause_rows)}</table>'


def _why(why: CauseRow) -> str:
    mini = f'<i class="oomh-mini oomh-mini-{why.kind}" style="width:{max(2.0, 100 * why.share):.1f}%"></i>'
    mini = "" if why.kind in _NOT_HELD or not why.share else mini
    return f"<tr><td>{mini}</td><td>{rich(why.size)}</td><td>{rich(why.text)}</td></tr>"


def fix(row: FixRow, inline: bool = False) -> str:
    """One fix, without its buttons: number, title and note, effect and verdict, applicability.

    Args:
        row: The fix in words.
        inline: In few lines: without its note, but with what is changed where that is short.
    """
    good = {"runs": "oomh-ok", "may": None, "again": "oomh-warn"}[row.plan.verdict]
    origin = f' <span class="oomh-mute">{rich(row.origin)}</span>' if row.origin else ""
    mark = {"safe": " oomh-ok", "unsafe": " oomh-warn", "display_only": ""}[row.plan.applicability]
    verdict = f'<span class="{good}">{rich(row.verdict)}</span>' if good and row.verdict else rich(row.verdict)
    effect = " · ".join(part for part in (rich(row.effect), verdict) if part)
    note = f'<br><span class="oomh-mute">{lines([row.rates, row.note])}</span>'
    shown_only = row.plan.applicability == "display_only"  # then the note says why, and what to do
    beside = short_change(row) if inline and not shown_only else note
    return (
        f'<div class="oomh-fix"><span class="oomh-mute">{row.plan.number}</span> '
        f'<span><b>{rich(row.title)}</b> <span class="oomh-chip{mark}">{rich(row.label)}</span>{origin}'
        f"{effect and f'<br>{effect}'}{beside}</span></div>"
    )


def fold(title: str, body: str) -> str:
    """Something that is folded away; the browser opens it, also where there is no kernel."""
    return f'<details class="oomh-fold"><summary>{rich(title)}</summary>{body}</details>' if body else ""


def folds(report: Report) -> str:
    """What is folded away and has no buttons: why, what would not help, see also."""
    language = report.language
    why = cause_rows(report) + notes(report.notes)
    return (
        fold(say("fold.why", language, count=len(report.cause_rows)), why)
        + fold(say("fold.dead_ends", language, count=len(report.dead_ends)), dead_ends(report))
        + fold(say("fold.see_also", language), entry(report))
    )


def tried(report: Report) -> str:
    """What was run for the same error before."""
    return f'<div class="oomh-tried">{rich(report.tried)}</div>' if report.tried else ""


def advice(report: Report) -> str:
    """What to do about an error that a text tells of."""
    if not report.advice:
        return ""
    items = "".join(f"<li>{rich(line)}</li>" for line in report.advice)
    return f"{section(say('section.advice', report.language))}<ul>{items}</ul>"


def dead_ends(report: Report) -> str:
    """What would not help, and why not here."""
    items = "".join(f"<li>{rich(line)}</li>" for line in report.dead_ends)
    return f'<ul class="oomh-mute">{items}</ul>' if items else ""


def entry(report: Report) -> str:
    """The entry that bears on it, and what it claims; folded, what it advises here, and what was passed over."""
    claims = f' <span class="oomh-mute">{rich(report.claims)}</span>' if report.claims else ""
    return f'<div class="oomh-entry">{rich(report.entry)}{claims}{"".join(map(_aside, report.asides))}</div>'


def _aside(aside: Aside) -> str:
    items, title = "".join(f"<li>{rich(line)}</li>" for line in aside.lines), rich(aside.title)
    return f'<details class="oomh-fold"><summary>{title}</summary><ul class="oomh-mute">{items}</ul></details>'


def notes(texts: Iterable[str]) -> str:
    """What could not be read or was left out."""
    said = lines(texts)
    return f'<div class="oomh-mute oomh-notes">{said}</div>' if said else ""


def status(text: str) -> str:
    """What runs just now, or what a click would wait for."""
    return f'<div class="oomh-step" role="status">{rich(text)}</div>' if text else ""


def section(title: str) -> str:
    """A heading inside the panel."""
    return f'<div class="oomh-section" role="heading" aria-level="4">{rich(title)}</div>'


def outcome(texts: Sequence[str], folded: str = "", *, spoken: bool = False) -> str:
    """What a fix did, and how the cell fared; "" of nothing.

    Args:
        texts: One a line.
        folded: Markup of what is folded away.
        spoken: It has just come: an alert that is put in is read out, which of a new `status` is not certain.
    """
    if not texts:
        return ""
    role = "alert" if spoken else "note"
    return f'<div class="oomh-outcome" role="{role}">{lines(texts)}{folded}</div>'
