"""A known problem: its record, and how its file is read."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import get_args

from nb_oomhelper.errors import KnowledgeError
from nb_oomhelper.knowledge.toml_tables import Table, Text, parse
from nb_oomhelper.records.diagnosis import DeadEndKind
from nb_oomhelper.records.event import Phase


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Which events an entry is about; an empty tuple is "any"."""

    frameworks: tuple[str, ...] = ()
    backends: tuple[str, ...] = ()
    phases: tuple[Phase, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionRow:
    """One row of an entry's version table; `introduced`, `deprecated` and `notes` are "" where it says nothing."""

    package: str
    version: str
    introduced: str
    deprecated: str
    notes: str
    status: Text


@dataclass(frozen=True, slots=True, kw_only=True)
class Workaround:
    """Something that an entry says helps.

    Attributes:
        rate: Percent of successes, as the entry claims.
        fix: Id of the fix that does it here, or None.
        code: As the entry gives it; what runs here is the fix's code.
        text: What it does.
    """

    rate: int
    fix: str | None
    code: str
    text: Text


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadEndClaim:
    """Something that an entry says does not help.

    Attributes:
        rate: Percent of failures, as the entry claims.
        check: Which check of the diagnosis tells whether that is so here, or None.
        tried: What people do.
        reason: Why it fails.
    """

    rate: int
    check: DeadEndKind | None
    tried: Text
    reason: Text


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One known problem.

    Attributes:
        code, id: Its two names, e.g. "CUDA-OOM-001" and "llm/huggingface-model-load-oom-on-cpu".
        domain, category, root_cause_kind: Its place in the source's own order.
        ai_generated: Whether the source says that a model wrote it.
        signature: The error text that it was written for.
        fix_rate, confidence: Percent, as claimed.
        evidence: Number of cases behind it, as claimed.
        first_seen: Day.
        documentation: URL.
        match: The events that it is about.
        title, root_cause: What goes wrong, short and in full.
        source: Who claims the rates and on what ground; shown beside each of them.
        versions, workarounds, dead_ends: In the file's order.
        origin: The file of a person's own that it is from; None for one that is packaged.
    """

    code: str
    id: str
    domain: str
    category: str
    ai_generated: bool
    signature: str
    fix_rate: int
    confidence: int
    evidence: int
    first_seen: date
    root_cause_kind: str
    documentation: str
    match: Scope
    title: Text
    source: Text
    root_cause: Text
    versions: tuple[VersionRow, ...]
    workarounds: tuple[Workaround, ...]
    dead_ends: tuple[DeadEndClaim, ...]
    origin: Path | None = None


def read_entry(text: str) -> Entry:
    """Read an entry file.

    Raises:
        KnowledgeError: It is broken or incomplete; the text names the key.
    """
    try:
        table = parse(text)
        entry = _entry(table)
        table.end()
    except ValueError as error:
        raise KnowledgeError(str(error)) from error
    return entry


def _entry(table: Table) -> Entry:
    return Entry(
        code=table.name("code"),
        id=table.name("id"),
        domain=table.text("domain"),
        category=table.text("category"),
        ai_generated=table.flag("ai_generated"),
        signature=table.text("signature"),
        fix_rate=table.number("fix_rate", 0, 100),
        confidence=table.number("confidence", 0, 100),
        evidence=table.number("evidence", 0, 1_000_000_000),
        first_seen=table.day("first_seen"),
        root_cause_kind=table.text("root_cause_kind"),
        documentation=_link(table, "documentation"),
        match=_scope(table.table("match")),
        title=table.both("title"),
        source=table.both("source"),
        root_cause=table.both("root_cause"),
        versions=tuple(_version_row(row) for row in table.rows("versions")),
        workarounds=tuple(_workaround(row) for row in table.rows("workarounds")),
        dead_ends=tuple(_dead_end(row) for row in table.rows("dead_ends")),
    )


def _scope(table: Table) -> Scope:
    scope = Scope(
        frameworks=table.texts("frameworks"),
        backends=table.texts("backends"),
        phases=table.choices("phases", get_args(Phase)),
    )
    table.end()
    return scope


def _version_row(table: Table) -> VersionRow:
    row = VersionRow(
        package=table.name("package"),
        version=table.text("version"),
        introduced=table.text("introduced", empty=True),
        deprecated=table.text("deprecated", empty=True),
        notes=table.text("notes", empty=True),
        status=table.both("status"),
    )
    table.end()
    return row


def _workaround(table: Table) -> Workaround:
    row = Workaround(
        rate=table.number("rate", 0, 100),
        fix=table.text_or_none("fix"),
        code=table.text("code"),
        text=table.both("text"),
    )
    table.end()
    return row


def _dead_end(table: Table) -> DeadEndClaim:
    row = DeadEndClaim(
        rate=table.number("rate", 0, 100),
        check=table.choice("check", get_args(DeadEndKind)) if table.has("check") else None,
        tried=table.both("tried"),
        reason=table.both("reason"),
    )
    table.end()
    return row


def _link(table: Table, key: str) -> str:
    link = table.name(key)
    if not link.startswith(("https://", "http://")):
        raise table.wrong(key, f"must be a web address, not {link!r}")
    return link
