"""What a text tells of memory that ran out: the lines around the reports, and all of it as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence

from nb_oomhelper.case import Case, told_case
from nb_oomhelper.failure.documents import Document
from nb_oomhelper.failure.told import read_told
from nb_oomhelper.knowledge.catalog import Catalog
from nb_oomhelper.knowledge.toml_tables import Language
from nb_oomhelper.records.told import Reading, Spot
from nb_oomhelper.services import Services
from nb_oomhelper.showing.advice_text import say_advice, say_spot
from nb_oomhelper.showing.frontends import _text
from nb_oomhelper.showing.markup import unmarked
from nb_oomhelper.showing.notes import for_json
from nb_oomhelper.showing.report import write
from nb_oomhelper.showing.wording import say, say_list, say_size
from nb_oomhelper.units import parse_bytes
from nb_oomhelper.untrusted import one_line, printable

_RULE = "─" * 60


def explained(document: Document, services: Services) -> tuple[Reading, list[Case]]:
    """Search a text, and make a case of each error in it.

    Args:
        document: As it was read.
        services: What to work with.

    Returns:
        What the text tells, and one case for each of its errors.
    """
    reading = read_told(document)
    return reading, [told_case(told, services) for told in reading.found]


def above(reading: Reading, name: str, language: Language) -> list[str]:
    """Say what was found, before the reports; all that there is to say where nothing was.

    Args:
        reading: What the text tells.
        name: What the text is called; "" for one that was pasted.
        language: "en" or "zh".
    """
    text = one_line(name) or say("told.pasted", language)
    key = "found" if len(reading.found) > 1 else "found_one" if reading.found else "nothing"
    lines = [say(f"told.{key}", language, text=text, count=len(reading.found) + reading.more, lines=reading.lines)]
    if reading.more:
        lines.append(say("told.more", language, count=len(reading.found)))
    if reading.skipped:
        lines.append(say("told.skipped", language, size=say_size(reading.skipped, language)))
    if not reading.found:
        lines += _instead(reading, language)
    return lines


def _instead(reading: Reading, language: Language) -> list[str]:
    """What else the text tells: its errors of other kinds, and its sizes."""
    rows = (("others", reading.others), ("sizes", reading.sizes))
    said = {
        key: [say("told.at", language, what=one_line(what), spot=say_spot(spot, language)) for what, spot in row]
        for key, row in rows
    }
    lines = [
        say(f"told.{key}", language, what=say_list(row, language, "list.then")) for key, row in said.items() if row
    ]
    return [printable(line) for line in lines]


def to_text(reading: Reading, cases: Sequence[Case], name: str, catalog: Catalog, language: Language) -> str:
    """Write all of it for a terminal.

    Args:
        reading: What the text tells.
        cases: One for each error in it.
        name: What the text is called; "" for one that was pasted.
        catalog: The knowledge.
        language: "en" or "zh".
    """
    reports = [_text.render(write(case, catalog, language)) for case in cases]
    return f"\n\n{_RULE}\n".join(["\n".join(above(reading, name, language)), *reports])


def to_json(reading: Reading, cases: Sequence[Case], name: str) -> str:
    """Write all of it for programs: sizes in bytes, unknown is null, sentences in English.

    Args:
        reading: What the text tells.
        cases: One for each error in it.
        name: What the text is called; "" for one that was pasted.
    """
    table = {
        "text": name,
        "found": [_row(case) for case in cases],
        "more": reading.more,
        "lines": reading.lines,
        "skipped": reading.skipped,
        "other_errors": [{"type": kind, **_spot(spot)} for kind, spot in reading.others],
        "sizes": [{"size": size, "bytes": parse_bytes(size), **_spot(spot)} for size, spot in reading.sizes],
    }
    return json.dumps(table, indent=2, ensure_ascii=False)


def _row(case: Case) -> dict[str, object]:
    told, found = case.told, case.diagnosis
    return {
        **(_spot(told.spot) if told is not None else {}),
        "times": told.times if told is not None else 1,
        "file": told.file if told is not None else None,
        "event": for_json(case.event),
        "short": found.short,
        "causes": [{"kind": cause.kind, "size": cause.size} for cause in found.causes],
        "entry": case.match.entry.code if case.match is not None and case.match.relation == "match" else None,
        "others": [one.entry.code for one in case.choice.others],
        "read": dict(case.choice.read),
        "advice": [unmarked(line) for line in say_advice(case, "en")],
    }


def _spot(spot: Spot) -> dict[str, int | None]:
    return {"line": spot.line, "cell": spot.cell, "execution_count": spot.count}
