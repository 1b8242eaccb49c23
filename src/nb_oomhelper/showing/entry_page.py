"""An entry as JSON and as Markdown, to keep or to pass on."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from datetime import date
from typing import Any

from nb_oomhelper.knowledge.entry import Entry, Scope, VersionRow
from nb_oomhelper.knowledge.toml_tables import Language, Text
from nb_oomhelper.knowledge.versions import installed_version
from nb_oomhelper.showing.wording import say, say_list

_COLUMNS = ("package", "version", "status", "introduced", "deprecated", "notes", "installed")


def to_json(entry: Entry) -> str:
    """Write an entry as JSON: the keys of its file in their order, both languages, days as "2023-12-01"."""
    keys = asdict(entry)
    del keys["origin"]  # no key of the file's
    keys["example"] = keys.pop("examples")
    return json.dumps(_whole(keys), indent=2, ensure_ascii=False, default=_day)


def _whole(value: Any) -> Any:
    """Leave out what a file does not say: what is None, and lists of nothing."""
    if isinstance(value, dict):
        return {key: _whole(one) for key, one in value.items() if one is not None and one != ()}
    return [_whole(one) for one in value] if isinstance(value, tuple) else value


def to_markdown(entry: Entry, language: Language, installed: Mapping[str, str | None] | None) -> str:
    """Write an entry as Markdown in one language, every claimed rate with its source beside it.

    Args:
        entry: The entry.
        language: "en" or "zh".
        installed: Version by package as found here, None where it is not installed; a package that is left
            out is shown as unknown. None shows no such column.

    Returns:
        Lines that end with a line break.
    """
    parts = (
        _head(entry, language),
        _workarounds(entry, language),
        _dead_ends(entry, language),
        _root_cause(entry, language),
        _versions(entry.versions, language, installed),
        _scope(entry.match, language),
        _related(entry, language),
        _documentation(entry, language),
        _sources(entry, language),
        _about(entry, language),
    )
    return "\n\n".join(text for part in parts if (text := "\n".join(part))) + "\n"


def _head(entry: Entry, language: Language) -> Iterator[str]:
    yield f"# {entry.code} · {_flat(entry.title.get(language))}"
    yield from ("", *_fenced(entry.signature, "text"))


def _about(entry: Entry, language: Language) -> Iterator[str]:
    claimed = {"fix_rate": entry.fix_rate, "confidence": entry.confidence}
    source = entry.source.get(language) if entry.source else ""
    rows = {
        "id": f"`{entry.id}`",
        "place": f"{entry.domain} / {entry.category}",
        **{key: _claim(f"{rate} %", source, language) for key, rate in claimed.items() if rate is not None},
        **({} if entry.evidence is None else {"evidence": str(entry.evidence)}),
        "first_seen": entry.first_seen.isoformat() if entry.first_seen else _word("unknown", language),
        "ai_generated": _word("yes" if entry.ai_generated else "no", language),
        "reviewed": _word("yes" if entry.reviewed else "no", language),
    }
    yield from (f"## {_word('about', language)}", "", *_list(rows, language))


def _root_cause(entry: Entry, language: Language) -> Iterator[str]:
    cause = _claim(_word("root_cause", language), entry.root_cause_kind, language)
    yield from (f"## {cause}", "", entry.root_cause.get(language))
    if entry.today:
        yield from ("", _labelled("today", entry.today, language))


def _versions(
    rows: tuple[VersionRow, ...], language: Language, installed: Mapping[str, str | None] | None
) -> Iterator[str]:
    if not rows:
        return
    yield from (f"## {_word('versions', language)}", "")
    columns = _COLUMNS if installed is not None else _COLUMNS[:-1]
    yield _table_row(_word(column, language) for column in columns)
    yield _table_row("---" for _ in columns)
    for row in rows:
        cells = [row.package, row.version, row.status.get(language), row.introduced, row.deprecated, row.notes]
        if installed is not None:
            cells.append(installed.get(row.package, _word("unknown", language)) or _word("not_installed", language))
        yield _table_row(cells)


def _workarounds(entry: Entry, language: Language) -> Iterator[str]:
    if entry.workarounds:
        yield f"## {_word('workarounds', language)}"
    for number, row in enumerate(entry.workarounds, 1):
        rate = _rate("page.success", row.rate, entry.source, language)
        when = _labelled("when", row.when, language)
        yield from _item(number, [rate, when, row.text.get(language), _labelled("today", row.today, language)])
        if row.code:
            yield from ("", *_inside(_fenced(row.code, "python")))
        if row.fix:
            yield from ("", *_inside([say("list.of", language, head=_word("here", language), text=f"`{row.fix}`")]))


def _dead_ends(entry: Entry, language: Language) -> Iterator[str]:
    if entry.dead_ends:
        yield f"## {_word('dead_ends', language)}"
    for number, row in enumerate(entry.dead_ends, 1):
        rate = _rate("page.fail", row.rate, entry.source, language)
        tried, when = f"**{_flat(row.tried.get(language))}**", _labelled("when", row.when, language)
        yield from _item(number, [rate, tried, when, row.reason.get(language)])


def _scope(scope: Scope, language: Language) -> Iterator[str]:
    stated = {
        "framework": scope.frameworks,
        "backend": scope.backends,
        "phase": scope.phases,
        "stage": scope.stages,
        "remote": scope.remotes,
        "format": scope.formats,
        "says": scope.says,
        "cause": scope.causes,
        "change": scope.mends,
        "module": scope.modules,
        "call": scope.calls,
    }
    rows = {key: ", ".join(f"`{one}`" for one in values) for key, values in stated.items() if values}
    yield from (f"## {_word('applies_to', language)}", "", *_list(rows, language))
    if scope.hint:
        yield f"- {_word('hint', language)}"


def _related(entry: Entry, language: Language) -> Iterator[str]:
    rows = {
        "leads_to": ", ".join(entry.leads_to),
        "preceded_by": ", ".join(entry.preceded_by),
        "confused_with": ", ".join(entry.confused_with),
    }
    if any(rows.values()):
        yield from (f"## {_word('related', language)}", "")
        yield from _list({key: codes for key, codes in rows.items() if codes}, language)


def _documentation(entry: Entry, language: Language) -> Iterator[str]:
    if entry.documentation:
        yield from (f"## {_word('documentation', language)}", "", *(f"- <{link}>" for link in entry.documentation))


def _sources(entry: Entry, language: Language) -> Iterator[str]:
    if entry.sources:
        yield from (f"## {_word('sources', language)}", "")
    for source in entry.sources:
        claims = say_list([_claim_name(claim, language) for claim in source.supports], language)
        yield "- " + say("page.supports", language, url=source.url, checked=source.checked.isoformat(), claims=claims)


def _claim_name(claim: str, language: Language) -> str:
    """Call a claim, "workarounds[2]", as the page does."""
    what, _, number = claim.rstrip("]").partition("[")
    return say("page.claim", language, what=_word(what, language), number=number).rstrip()


def _list(rows: Mapping[str, str], language: Language) -> Iterator[str]:
    return ("- " + say("list.of", language, head=_word(key, language), text=value) for key, value in rows.items())


def _item(number: int, parts: list[str]) -> Iterator[str]:
    """A numbered item of paragraphs, those left out that are empty."""
    first, *more = [part for part in parts if part]
    lines = first.splitlines()
    yield from ("", f"{number}. {lines[0]}", *_inside(lines[1:]))
    for part in more:
        yield from ("", *_inside(part.splitlines()))


def _labelled(key: str, text: Text | None, language: Language) -> str:
    return say("list.of", language, head=f"**{_word(key, language)}**", text=text.get(language)) if text else ""


def _rate(key: str, rate: int | None, source: Text | None, language: Language) -> str:
    return (
        "" if rate is None or source is None else _claim(say(key, language, rate=rate), source.get(language), language)
    )


def _word(key: str, language: Language) -> str:
    return say(f"page.{key}", language)


def _claim(figure: str, source: str, language: Language) -> str:
    """Put a claimed figure and its source together: none is shown without the other."""
    return say("list.because", language, text=figure, why=_flat(source))


def _table_row(cells: Iterable[str]) -> str:
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
