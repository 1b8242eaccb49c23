"""Why it did not fit, and what would not help, in words."""

from __future__ import annotations

from dataclasses import dataclass

from nb_oomhelper.case import Case
from nb_oomhelper.knowledge.choosing import Match
from nb_oomhelper.knowledge.entry import DeadEndClaim
from nb_oomhelper.knowledge.toml_tables import Language
from nb_oomhelper.memory.room import tightest
from nb_oomhelper.records.diagnosis import Cause, CauseKind, DeadEnd
from nb_oomhelper.showing.markup import code, plain, short
from nb_oomhelper.showing.wording import knows, say, say_list, say_size

_NAMES = 8  # of what one cause names
_PARTS = ("graph", "gradients", "copies")  # what explains part of a variable, and not what is kept beside it


@dataclass(frozen=True, slots=True, kw_only=True)
class CauseRow:
    """One cause: its bytes, its share of the largest (0 to 1), and a sentence."""

    kind: CauseKind
    size: str
    share: float
    text: str


def say_cause(cause: Cause, case: Case, language: Language) -> CauseRow:
    """Put a cause into words.

    Args:
        cause: One of the case's.
        case: Whose other causes its bytes are compared with.
        language: "en" or "zh".
    """
    held = (one.size or 0 for one in case.diagnosis.causes if one.kind not in ("limit", "too_large"))
    largest = max(held, default=0) or 1
    return CauseRow(
        kind=cause.kind,
        size=say_size(cause.size, language),
        share=0.0 if _is_part(cause, case) else min(1.0, (cause.size or 0) / largest),
        text=_cause(cause, case, language),
    )


def _is_part(cause: Cause, case: Case) -> bool:
    """Whether its bytes are a variable's that has a bar of its own: two bars would show them twice."""
    named = (one.names for one in case.diagnosis.causes if one.kind == "variable" and len(one.names) == 1)
    return cause.kind in _PARTS and bool({name for (name,) in named} & set(cause.names))


def _several(cause: Cause) -> str:
    if not cause.pids:
        return "_unknown" if cause.process is None and cause.kind == "other_process" else ""
    return "_several_unknown" if cause.process is None and cause.kind == "other_process" else "_several"


def _cause(cause: Cause, case: Case, language: Language) -> str:
    key = cause.kind + {
        "other_process": _several(cause),
        "child_process": _several(cause),
        "fragmentation": "" if cause.largest is None else "_largest",
        "too_large": bound_of(case),
        "limit": "_there" if case.event.remote else "",
        "failed_cell": "" if cause.user_line is None else "_library",
        "variable": "_shared"
        if len(cause.names) > 1
        else "_path"
        if cause.path
        else "_role"
        if cause.role is not None and knows(f"role.{cause.role}")
        else "",
    }.get(cause.kind, "_part" if _is_part(cause, case) else "")
    return say(
        f"cause.{key}",
        language,
        names=say_list([*map(code, cause.names[:_NAMES]), *(["…"] if cause.names[_NAMES:] else [])], language),
        plain=short(", ".join(cause.names)),
        function=short(cause.function or "?"),
        line=cause.line,
        user_line=cause.user_line,
        role=say(f"role.{cause.role}", language) if knows(f"role.{cause.role}") else "",
        path=code(cause.path),
        pid=cause.pid,
        count=len(cause.pids),
        each=say_size(None if cause.size is None else cause.size // max(1, len(cause.pids)), language),
        process=short(cause.process or ""),
        capacity=say_size(cause.largest or case.diagnosis.capacity, language),
        limit=limit_name(cause.limit or tightest(case.snapshot.host)[0], language),
        largest=say_size(cause.largest, language),
    )


def say_dead_end(case: Case, end: DeadEnd, language: Language) -> str:
    """Say why something that people try would not help here, and what the entry claims of it.

    Args:
        case: The case, with its figures.
        end: What people try.
        language: "en" or "zh".
    """
    found = case.diagnosis
    pinned = next((cause.size for cause in found.causes if cause.kind == "failed_cell"), None)
    key = "empty_cache_only" if end.reason == "empty_cache_short" and not found.short else end.reason
    text = say(
        f"dead_end.{key}",
        language,
        frees=say_size(end.frees, language),
        short=say_size(found.short, language),
        pinned=say_size(pinned, language),
        half=say_size(found.requested // 2 if found.requested else None, language),
        free=say_size(found.free, language),
        requested=say_size(found.requested, language),
    )
    claim = _claim(case.match, end)
    if case.match is None or claim is None or claim.rate is None:
        return text
    return f"{text} · {say('dead_end.claimed', language, rate=claim.rate, entry=plain(case.match.entry.code))}"


def _claim(match: Match | None, end: DeadEnd) -> DeadEndClaim | None:
    """What the entry says of this dead end, where the entry is about this error."""
    if match is None or match.relation != "match":
        return None
    return next((claim for claim in match.entry.dead_ends if claim.check == end.kind), None)


def bound_of(case: Case) -> str:
    """What a request can be larger than: the device, the machine, or a limit; the end of a sentence's key."""
    if case.event.backend != "host":
        if any(cause.limit == "largest buffer" for cause in case.diagnosis.causes):
            return "_buffer"
        return "_limit" if any(cause.kind == "too_large" and cause.limit for cause in case.diagnosis.causes) else ""
    return "_machine" if tightest(case.snapshot.host)[0] == "machine" else "_limit"


def limit_name(name: str, language: Language) -> str:
    """Say what a limit is called.

    Args:
        name: As the snapshot has it: "RLIMIT_AS", "memory fraction".
        language: "en" or "zh".
    """
    return say(f"limit.{name}", language) if knows(f"limit.{name}") else name
