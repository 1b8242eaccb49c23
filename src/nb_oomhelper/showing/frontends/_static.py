"""The whole report without buttons, for saved notebooks: it needs no kernel, no widgets, no script."""

from __future__ import annotations

from dataclasses import replace

from nb_oomhelper.knowledge.toml_tables import Language
from nb_oomhelper.showing.fix_text import FixRow
from nb_oomhelper.showing.frontends import _html, _style
from nb_oomhelper.showing.frontends._diff import whole_code
from nb_oomhelper.showing.frontends._markup import escape
from nb_oomhelper.showing.report import Report
from nb_oomhelper.showing.wording import say


def render(report: Report, case: str = "") -> str:
    """The whole report, without buttons: it needs no kernel and no widgets.

    Args:
        report: The case in words.
        case: Where a panel with buttons comes after it: a name that both have, so that one of them is seen.
    """
    language: Language = report.language
    seen = f'<div class="oomh-mute oomh-seen">{escape(report.seen)}</div>' if report.seen else ""
    mark = (" oomh-solved" if report.solved else "") + (f" oomh-saved-{case}" if case else "")
    said = "" if report.solved else _html.headline(report) + _html.tried(report)
    lead = _fix(report.lead, language, first=True) if report.lead else ""
    folds = _html.folds(replace(report, asides=report.asides[:1]))  # what else was considered, a file need not keep
    shown = (
        f'<div class="oomh oomh-static{mark}" lang="{language}">{seen}'
        f"{_html.head(report)}{said}{_html.outcome(report.outcomes)}{lead}{_html.picture(report)}{_html.advice(report)}"
        f'<div class="oomh-folds">{_others(report)}{folds}</div></div>'
    )
    return _style.of_report(shown) + _one_of_both(case) + shown


def _others(report: Report) -> str:
    """The fixes but the one to try now, folded; and how any of them is run where there are no buttons."""
    count = len(report.others)
    rows = "".join(_fix(row, report.language) for row in report.others)
    by_hand = _html.notes([say("note.terminal", report.language)]) if report.rows else ""
    title = say(report.fold, report.language, count=count)
    return _html.fold(title, rows + by_hand) if count else by_hand


def _one_of_both(case: str) -> str:
    """Rules that hide the report while there is a panel, and what a front end says in the place of a lost one."""
    if not case:
        return ""
    return (
        f"<style>body:has(.oomh-live-{case}) .oomh-saved-{case}{{display:none}}"
        f".jp-OutputArea-child:has(.oomh-saved-{case})+:has(>.jp-OutputArea-output.jupyter-widgets):not(:has(.oomh))"
        "{display:none}</style>"
    )


def _fix(row: FixRow, language: Language, *, first: bool = False) -> str:
    """A fix where there are no buttons: what is typed in their place, and its code."""
    runs = row.plan.applicability != "display_only" and not row.done
    typed = f"<span><code>%oom fix {row.plan.number}</code></span>" if runs else ""
    code_of = _html.fold(say("fold.code", language), whole_code(row, language, noted=first))
    by_hand = f'<div class="oomh-by-hand">{typed}{code_of}</div>'
    return f'<div class="oomh-row">{_html.fix(row, inline=first)}{by_hand}</div>'
