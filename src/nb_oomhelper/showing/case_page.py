"""A case as a Markdown report for a bug tracker, in the words of the panel."""

from __future__ import annotations

import html
import platform
import re

from nb_oomhelper.case import Case
from nb_oomhelper.knowledge.catalog import Catalog
from nb_oomhelper.knowledge.toml_tables import Language
from nb_oomhelper.knowledge.versions import installed_version
from nb_oomhelper.showing.blanking import anonymized_page, blanked, names_of
from nb_oomhelper.showing.fix_text import FixRow
from nb_oomhelper.showing.report import Report, write
from nb_oomhelper.showing.wording import say
from nb_oomhelper.untrusted import printable

_DISTRIBUTIONS = {"pytorch": "torch", "cupy": "cupy-cuda12x", "python": ""}


def case_page(case: Case, catalog: Catalog, language: Language, *, anonymize: bool = False) -> str:
    """Write a case as Markdown, without tokens, keys and home folders.

    Args:
        case: One error.
        catalog: The knowledge, which has the fixes' texts.
        language: "en" or "zh".
        anonymize: Put `name_1`, … in place of the names of the user's.
    """
    report = write(case, catalog, language)
    blocks = [
        f"# {_line(' · '.join(part for part in (report.title, report.place) if part))}",
        _line(report.headline),
        _fenced(f"{case.event.exception_type}: {case.event.message}"),
        _list("section.environment", _environment(case), language),
        _list("section.memory", [f"{part.label}: {part.size}" for part in report.parts], language),
        _list("section.why", [f"**{row.size}** {row.text}" for row in report.cause_rows], language),
        *_fixes(report),
        _list("section.outcome", report.outcomes, language),
        _list("section.dead_ends", report.dead_ends, language),
        "\n\n".join(_line(text) for text in (report.entry, *report.notes) if text),
        *(_titled(aside.title, aside.lines) for aside in report.asides),
    ]
    text: str = blanked("\n\n".join(block for block in blocks if block) + "\n")
    return anonymized_page(text, names_of(case)) if anonymize else text


def _environment(case: Case) -> list[str]:
    name = _DISTRIBUTIONS.get(case.event.framework, case.event.framework)
    found = [f"Python {platform.python_version()}, {platform.system()} {platform.machine()}"]
    return found + [f"{one} {at}" for one in ("nb-oomhelper", name) if one and (at := installed_version(one))]


def _list(title: str, lines: list[str] | tuple[str, ...], language: Language) -> str:
    if not lines:
        return ""
    return _titled(say(title, language), lines)


def _titled(title: str, lines: list[str] | tuple[str, ...]) -> str:
    return "\n".join([f"## {_line(title)}", "", *(f"- {_line(line)}" for line in lines)])


def _fixes(report: Report) -> list[str]:
    if not (report.fixes or report.not_enough):
        return []
    blocks = [f"## {say('section.fixes', report.language)}"]
    for row in (*report.fixes, *report.not_enough):
        blocks += [_fix(row, report.language), _fenced(row.plan.code.strip(), "python")]
    return blocks


def _fix(row: FixRow, language: Language) -> str:
    facts = " · ".join(part for part in (row.effect, row.verdict, row.label, row.rates) if part)
    head = say("list.of", language, head=f"**{row.plan.number}.** {row.title}", text=facts)
    loses = say("fix.loses", language, loses=row.loses) if row.loses else ""
    return "\n\n".join(_line(part) for part in (head, loses, row.note) if part)


def _fenced(text: str, kind: str = "") -> str:
    """Code that cannot end its own block."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{kind}\n{printable(text)}\n{fence}"


def _line(text: str) -> str:
    """One line of ours, in which nothing outside of code is markup but `**`."""
    parts = re.split(r"(`[^`]*`)", " ".join(printable(text).split()))
    return "".join(part if part.startswith("`") else _escaped(part) for part in parts)


def _escaped(text: str) -> str:
    return re.sub(r"([\[\]_|\\])", r"\\\1", html.escape(text, quote=False))
