"""A known problem: its record, and how its file is read."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Annotated

from nb_oomhelper.errors import KnowledgeError
from nb_oomhelper.knowledge.toml_tables import Blank, Key, Name, Percent, Range, Text, one_word, read
from nb_oomhelper.records.diagnosis import DeadEndKind
from nb_oomhelper.records.event import Phase


def _is_link(text: str) -> str | None:
    return None if text.startswith(("https://", "http://")) else f"must be a web address, not {text!r}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Which events an entry is about; an empty tuple is "any"."""

    frameworks: tuple[str, ...] = ()
    backends: tuple[str, ...] = ()
    phases: tuple[Phase, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionRow:
    """One row of an entry's version table; `introduced`, `deprecated` and `notes` are "" where it says nothing."""

    package: Name
    version: str
    introduced: Annotated[str, Blank()]
    deprecated: Annotated[str, Blank()]
    notes: Annotated[str, Blank()]
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

    rate: Percent
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

    rate: Percent
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

    code: Name
    id: Name
    domain: str
    category: str
    ai_generated: bool
    signature: str
    fix_rate: Percent
    confidence: Percent
    evidence: Annotated[int, Range(0, 1_000_000_000)]
    first_seen: date
    root_cause_kind: str
    documentation: Annotated[str, one_word, _is_link]
    match: Scope
    title: Text
    source: Text
    root_cause: Text
    versions: tuple[VersionRow, ...]
    workarounds: tuple[Workaround, ...]
    dead_ends: tuple[DeadEndClaim, ...]
    origin: Annotated[Path | None, Key(None)] = None


def read_entry(text: str) -> Entry:
    """Read an entry file.

    Raises:
        KnowledgeError: It is broken or incomplete; the text names the key.
    """
    try:
        return read(Entry, text)
    except ValueError as error:
        raise KnowledgeError(str(error)) from error
