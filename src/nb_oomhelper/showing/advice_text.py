"""What to do about an error that only a text tells of, and where in the text it stands."""

from __future__ import annotations

from collections.abc import Iterator

from nb_oomhelper.case import Case
from nb_oomhelper.knowledge.toml_tables import Language
from nb_oomhelper.records.diagnosis import CauseKind
from nb_oomhelper.records.told import Spot
from nb_oomhelper.showing.markup import code, plain
from nb_oomhelper.showing.wording import knows, say, say_list, say_size
from nb_oomhelper.untrusted import one_line

_MOST = 5
_BY_CAUSE: tuple[CauseKind, ...] = ("too_large", "fragmentation", "limit", "other_process")


def say_advice(case: Case, language: Language) -> tuple[str, ...]:
    """Say what helps against an error in a text; nothing of it is run from here, and nothing of an error here is said.

    Args:
        case: The error, with what its text explains.
        language: "en" or "zh".
    """
    if case.told is None:
        return ()
    said = [say(f"advice.{key}", language, **_fields(case, key, language)) for key in _keys(case)]
    return tuple([*said, *_workarounds(case, language)][:_MOST])


def _keys(case: Case) -> Iterator[str]:
    """What bears on it, by its causes, its process, what was going on, and whose memory it is."""
    event = case.event
    causes = {cause.kind for cause in case.diagnosis.causes}
    if event.backend == "host" and "limit" in causes:  # what is said of one is of PyTorch's, on a GPU
        causes.remove("limit")
        if event.remote is None:
            yield "limit_host"
    yield from (kind for kind in _BY_CAUSE if kind in causes)
    if event.remote is not None and knows(f"advice.{event.remote}"):
        yield event.remote
    if event.phase != "unknown":
        yield event.phase
    elif event.backend != "host":
        yield "any"
    if event.backend == "host":
        yield "host"


def _fields(case: Case, key: str, language: Language) -> dict[str, object]:
    if key != "other_process":
        return {}
    found = [cause for cause in case.diagnosis.causes if cause.kind == key]
    pids = [str(pid) for cause in found for pid in cause.pids or (cause.pid,)]
    sizes = [cause.size for cause in found if cause.size is not None]
    return {"pids": say_list(pids, language), "size": say_size(sum(sizes) if sizes else None, language)}


def _workarounds(case: Case, language: Language) -> Iterator[str]:
    """What the entry says helps, where it is about this error; its rates stand on its own page."""
    match = case.match
    if match is None or match.relation != "match":
        return
    for row in match.entry.workarounds:
        lines = row.code.strip().splitlines()
        text = plain(" ".join(row.text.get(language).split()))
        shown = code(lines[0], whole=True) if len(lines) == 1 else ""
        yield say("list.of", language, head=text.rstrip(".。"), text=shown) if shown else text


def say_beside(case: Case, language: Language) -> list[str]:
    """Say how often an error comes in its text, and from which code.

    Args:
        case: The error; of one of this kernel nothing is said.
        language: "en" or "zh".
    """
    told = case.told
    lines = [say("told.times", language, times=told.times)] if told is not None and told.times > 1 else []
    if told is not None and told.file is not None:
        function = code(one_line(told.event.function or "<module>"))
        file = plain(one_line(told.file))
        lines.append(say("told.code", language, file=file, line=told.event.line, function=function))
    return lines


def say_spot(spot: Spot, language: Language) -> str:
    """Say where in a text something stands.

    Args:
        spot: Of an error, or of a size.
        language: "en" or "zh".
    """
    key = "line" if spot.cell is None else "cell" if spot.count is None else "cell_count"
    return say(f"told.{key}", language, line=spot.line, cell=spot.cell, count=spot.count)
