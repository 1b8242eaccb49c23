"""An entry as JSON and as Markdown, to keep or to pass on."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import date

from nb_oomhelper.knowledge.entry import Entry, VersionRow
from nb_oomhelper.knowledge.toml_tables import Language
from nb_oomhelper.knowledge.versions import installed_version
from nb_oomhelper.showing.wording import say

_COLUMNS = ("package", "version", "status", "introduced", "deprecated", "notes", "installed")


def to_json(entry: Entry) -> str:
    """Write an entry as JSON: the keys of its file in their order, both languages, days as "2023-12-01"."""
    keys = asdict(entry)
    del keys["origin"]  # no key of the file's
    return json.dumps(keys, indent=2, ensure_ascii=False, default=_day)


def to_markdown(entry: Entry, language: Language, installed: Mapping[str, str | None]) -> str:
    """Write an entry as Markdown in one language, every claimed rate with its source beside it.

    Args:
        entry: The entry.
        language: "en" or "zh".
        installed: Version by package as found here, None where it is not installed; a package that is left
            out is shown as unknown.

    Returns:
        Lines that end with a line break.
    """
    parts = (
        _head(entry, language),
        _versions(entry.versions, language, installed),
        _workarounds(entry, language),
        _dead_ends(entry, language),
        (f"## {_word('documentation', language)}", "", f"<{entry.documentation}>"),
    )
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def _head(entry: Entry, language: Language) -> Iterator[str]:
    source = entry.source.get(language)
    rows = (
        ("place", f"{entry.domain} / {entry.category}"),
        ("fix_rate", _claim(f"{entry.fix_rate} %", source, language)),
        ("confidence", _claim(f"{entry.confidence} %", source, language)),
        ("evidence", str(entry.evidence)),
        ("first_seen", entry.first_seen.isoformat()),
        ("ai_generated", _word("yes" if entry.ai_generated else "no", language)),
    )
    yield f"# {entry.code} · {_flat(entry.title.get(language))}"
    yield from ("", f"`{entry.id}`", "", *_fenced(entry.signature, "text"), "")
    yield from ("- " + say("list.of", language, head=_word(key, language), text=value) for key, value in rows)
    cause = _claim(_word("root_cause", language), entry.root_cause_kind, language)
    yield from ("", f"## {cause}", "", entry.root_cause.get(language))


def _versions(rows: tuple[VersionRow, ...], language: Language, installed: Mapping[str, str | None]) -> Iterator[str]:
    yield from (f"## {_word('versions', language)}", "")
    yield _table_row(_word(column, language) for column in _COLUMNS)
    yield _table_row("---" for _ in _COLUMNS)
    for row in rows:
        here = installed.get(row.package, _word("unknown", language)) or _word("not_installed", language)
        status = row.status.get(language)
        yield _table_row((row.package, row.version, status, row.introduced, row.deprecated, row.notes, here))


def _workarounds(entry: Entry, language: Language) -> Iterator[str]:
    yield f"## {_word('workarounds', language)}"
    for number, row in enumerate(entry.workarounds, 1):
        rate = say("page.success", language, rate=row.rate)
        yield from ("", f"{number}. {_claim(rate, entry.source.get(language), language)}", "")
        yield from _inside(row.text.get(language).splitlines())
        yield from ("", *_inside(_fenced(row.code, "python")))


def _dead_ends(entry: Entry, language: Language) -> Iterator[str]:
    yield f"## {_word('dead_ends', language)}"
    for number, row in enumerate(entry.dead_ends, 1):
        rate = say("page.fail", language, rate=row.rate)
        yield from ("", f"{number}. {_claim(rate, entry.source.get(language), language)}", "")
        yield from _inside([f"**{_flat(row.tried.get(language))}**"])
        yield from ("", *_inside(row.reason.get(language).splitlines()))


def _word(key: str, language: Language) -> str:
    return say(f"page.{key}", language)


def _claim(figure: str, source: str, language: Language) -> str:
    """Put a claimed figure and its source together: none is shown without the other."""
    return say("list.because", language, text=figure, why=_flat(source))


def _table_row(cells: Iterator[str] | tuple[str, ...]) -> str:
    return "| " + " | ".join(_flat(cell).replace("|", "\\|") for cell in cells) + " |"


def _fenced(code: str, language: str) -> list[str]:
    """Fence code with more backticks than it holds in a row, so that it cannot end its own block."""
    runs = (len(run) for run in re.findall(r"`+", code))
    fence = "`" * max(3, 1 + max(runs, default=0))
    return [f"{fence}{language}", *code.split("\n"), fence]


def _inside(lines: list[str]) -> Iterator[str]:
    """Indent lines so that they belong to the list item above."""
    return (f"   {line}" if line else "" for line in lines)


def _flat(text: str) -> str:
    return " ".join(text.split())


def _day(value: object) -> str:
    """Write a day for `json.dumps`, which knows none."""
    if isinstance(value, date):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no place in an entry")


def entry_page(entry: Entry, language: Language) -> str:
    """Write an entry as Markdown, with the versions that are installed here beside its own.

    Args:
        entry: The entry.
        language: "en" or "zh".
    """
    installed = {row.package: installed_version(row.package) for row in entry.versions}
    return to_markdown(entry, language, installed)
