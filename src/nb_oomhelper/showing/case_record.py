"""A case for programs and bug trackers: plain data without secrets, as JSON. `schema()` describes it."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass, fields, is_dataclass, replace
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from nb_oomhelper.case import Case
from nb_oomhelper.knowledge.catalog import Catalog
from nb_oomhelper.knowledge.choosing import Relation
from nb_oomhelper.knowledge.versions import installed_version
from nb_oomhelper.records.diagnosis import Diagnosis
from nb_oomhelper.records.event import OomEvent
from nb_oomhelper.records.memory import AllocatorMemory, MemorySnapshot
from nb_oomhelper.records.note import Note
from nb_oomhelper.records.remedy import Applicability, FixPlan, Outcome, Verdict
from nb_oomhelper.remedies.advised import Holds, Standing, rank_workarounds, weigh_dead_ends
from nb_oomhelper.showing.blanking import anonymized, blanked, names_of
from nb_oomhelper.showing.entry_text import why_not
from nb_oomhelper.showing.fix_text import say_fix
from nb_oomhelper.showing.markup import unmarked
from nb_oomhelper.showing.notes import for_json
from nb_oomhelper.showing.wording import say

MIME = "application/vnd.nb-oomhelper.case+json"
_FORMAT = 1  # a later one may add keys; these keep their meanings
_ROWS = 20  # holders that are written down, largest first
_MESSAGE = 4_000  # characters of the message, which stands in the traceback, too


@dataclass(frozen=True, slots=True, kw_only=True)
class AdvisedRecord:
    """A workaround of that entry: what its fix, if it has one, promises here; best first."""

    workaround: int
    fix: str | None
    number: int | None
    standing: Standing


@dataclass(frozen=True, slots=True, kw_only=True)
class WarnedRecord:
    """A dead end of that entry: whether it is one here, and the bytes that tell that it is none."""

    dead_end: int
    check: str | None
    holds: Holds
    size: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryRecord:
    """The entry that bears on the case, and how; with what it advises in the order of this case, if it matches."""

    code: str
    id: str
    title: str
    relation: Relation
    workarounds: tuple[AdvisedRecord, ...]
    dead_ends: tuple[WarnedRecord, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherRecord:
    """An entry that was passed over, and why."""

    code: str
    id: str
    relation: Relation
    differs: tuple[str, ...]
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadRecord:
    """A condition by which entries are chosen, and what was read of it."""

    condition: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FixRecord:
    """One fix: its code, and what is expected of it; `exact` is false where a secret in the code was blanked."""

    number: int
    fix: str
    title: str
    note: str
    effect: str
    verdict: Verdict
    verdict_text: str
    applicability: Applicability
    loses: str
    code: str
    exact: bool
    predicted: int | None
    fits: bool | None
    whole_cell_fits: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseRecord:
    """One out-of-memory error, and what was done about it."""

    format: int
    nb_oomhelper: str
    anonymized: bool
    event: OomEvent
    snapshot: MemorySnapshot
    diagnosis: Diagnosis
    entry: EntryRecord | None
    others: tuple[OtherRecord, ...]
    read: tuple[ReadRecord, ...]
    fixes: tuple[FixRecord, ...]
    outcomes: tuple[Outcome, ...]


def record_of(case: Case, catalog: Catalog, *, anonymize: bool = False, brief: bool = False) -> dict[str, Any]:
    """Make plain data of a case, in English, without tokens, keys and home folders.

    Args:
        case: One error.
        catalog: The knowledge, which has the fixes' texts.
        anonymize: Put `name_1`, … in place of the names of the user's.
        brief: Leave out what the rest of it is made of (single holders, how the entry was chosen, and what it advises
            here), and of a fix the sentences that a report beside it has.

    Returns:
        What `json.dumps` takes; sizes in bytes. What is unknown or empty is left out.
    """
    found = for_json(
        CaseRecord(
            format=_FORMAT,
            nb_oomhelper=_own_version(),
            anonymized=anonymize,
            event=replace(case.event, message=case.event.message[:_MESSAGE]),
            snapshot=_short(case.snapshot, 0 if brief else _ROWS),
            diagnosis=case.diagnosis,
            entry=_entry(case, brief=brief),
            others=() if brief else _others(case),
            read=() if brief else tuple(ReadRecord(condition=name, value=text) for name, text in case.choice.read),
            fixes=tuple(_fix(plan, case, catalog, brief) for plan in case.plans),
            outcomes=tuple(case.outcomes),
        )
    )
    plain: dict[str, Any] = blanked(found)
    for fix, before in zip(plain["fixes"], found["fixes"], strict=True):
        fix["exact"] = fix["code"] == before["code"]
    known: dict[str, Any] = _known(plain)
    return anonymized(known, names_of(case)) if anonymize else known


@functools.cache
def _own_version() -> str:
    """That of this package, which stays while it is loaded; to look it up takes as long as all else here."""
    return installed_version("nb-oomhelper") or "unknown"


def _known(value: Any) -> Any:
    """Without what is unknown or empty, which would be a third of it."""
    if isinstance(value, dict):
        return {name: _known(one) for name, one in value.items() if one is not None and one not in ("", [])}
    return [_known(one) for one in value] if isinstance(value, list) else value


def to_json(case: Case, catalog: Catalog, *, anonymize: bool = False) -> str:
    """Write a case as JSON.

    Args:
        case: One error.
        catalog: The knowledge.
        anonymize: As `record_of` takes it.
    """
    return json.dumps(record_of(case, catalog, anonymize=anonymize), indent=2, ensure_ascii=False)


def _short(snapshot: MemorySnapshot, rows: int) -> MemorySnapshot:
    """With so many holders; what is only of use to a running kernel is left out: addresses, caches block by block."""
    held = snapshot.holdings
    return replace(
        snapshot,
        allocator=None if snapshot.allocator is None else _whole(snapshot.allocator),
        others=tuple(_whole(one) for one in snapshot.others),
        holdings=replace(held, rows=held.rows[:rows], shares=(), addresses=()),
    )


def _whole(allocator: AllocatorMemory) -> AllocatorMemory:
    return replace(allocator, segments=None)


def _entry(case: Case, *, brief: bool) -> EntryRecord | None:
    if case.match is None:
        return None
    entry, matches = case.match.entry, case.match.relation == "match" and not brief
    advised = rank_workarounds(entry, case.plans) if matches else ()
    warned = weigh_dead_ends(entry, case.event, case.snapshot, case.diagnosis) if matches else ()
    return EntryRecord(
        code=entry.code,
        id=entry.id,
        title=entry.title.get("en"),
        relation=case.match.relation,
        workarounds=tuple(
            AdvisedRecord(
                workaround=one.number,
                fix=one.row.fix,
                number=one.plan.number if one.plan else None,
                standing=one.standing,
            )
            for one in advised
        ),
        dead_ends=tuple(
            WarnedRecord(dead_end=one.number, check=one.row.check, holds=one.holds, size=one.size) for one in warned
        ),
    )


def _others(case: Case) -> tuple[OtherRecord, ...]:
    known = dict(case.choice.read)
    return tuple(
        OtherRecord(
            code=one.entry.code,
            id=one.entry.id,
            relation=one.relation,
            differs=one.differs,
            why=unmarked("; ".join(why_not(one, known, "en"))),
        )
        for one in case.choice.others
    )


def _fix(plan: FixPlan, case: Case, catalog: Catalog, brief: bool) -> FixRecord:
    row = say_fix(case, plan, catalog, "en")
    return FixRecord(
        number=plan.number,
        fix=plan.fix,
        title=row.title,
        note="" if brief else row.note,
        effect="" if brief else row.effect,
        verdict=plan.verdict,
        verdict_text="" if brief else row.verdict,
        applicability=plan.applicability,
        loses="" if brief else row.loses,
        code=plan.code,
        exact=True,  # until it is blanked
        predicted=plan.predicted,
        fits=plan.fits,
        whole_cell_fits=plan.whole_cell_fits,
    )


def schema() -> dict[str, Any]:
    """Give the JSON Schema of what `record_of` gives."""
    draft = "https://json-schema.org/draft/2020-12/schema"
    return {"$schema": draft, "title": say("oom.schema", "en"), **_schema(CaseRecord)}


def _schema(hint: Any) -> dict[str, Any]:
    if hint is Note:
        return {"type": "string"}
    if is_dataclass(hint):
        hints = get_type_hints(hint)
        names = [one.name for one in fields(hint)]
        always = [name for name in names if not _may_be_left_out(hints[name])]
        return {"type": "object", "properties": {name: _schema(hints[name]) for name in names}, "required": always}
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        kinds = [_schema(one) for one in inner if one is not NoneType]
        return kinds[0] if len(kinds) == 1 else {"anyOf": kinds}
    if origin is Literal:
        return {"enum": [*inner]}
    if origin is tuple and inner[-1] is not Ellipsis:
        return {"type": "array", "prefixItems": [_schema(one) for one in inner], "items": False}
    if origin is tuple:
        return {"type": "array", "items": _schema(inner[0])}
    return {"type": {str: "string", bool: "boolean", int: "integer", float: "number"}[hint]}


def _may_be_left_out(hint: Any) -> bool:
    """Whether this may be unknown, or empty: a text, a list."""
    inner = get_args(hint)
    return hint in (str, Note) or get_origin(hint) is tuple or NoneType in inner or "" in inner
