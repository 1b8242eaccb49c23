"""A known problem: its record, and how its file is read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Annotated, Literal

from nb_oomhelper.errors import KnowledgeError
from nb_oomhelper.knowledge.toml_tables import Blank, Key, Name, Percent, Range, Text, one_word, read
from nb_oomhelper.records.diagnosis import CauseKind, DeadEndKind
from nb_oomhelper.records.event import Phase, Remote, Stage

RootCauseKind = Literal[
    "generic",  # more than one of those below
    "too_large",  # what is asked for fits in no case
    "grows",  # with the steps, the tokens, the samples
    "held",  # by something that is needed no longer
    "second_copy",
    "fragmentation",
    "limit",  # a setting, a slice or a control group bounds it before the device does
    "elsewhere",  # in other processes
    "reserved",  # a framework or library has put it by
    "bug",
    "look_alike",  # no lack of the memory that the words speak of
]


def _is_link(text: str) -> str | None:
    return None if text.startswith(("https://", "http://")) else f"must be a web address, not {text!r}"


def _are_links(texts: tuple[str, ...]) -> str | None:
    return next((wrong for text in texts if (wrong := one_word(text) or _is_link(text))), None)


def _are_lower(texts: tuple[str, ...]) -> str | None:
    return "must be in lower case: it is met in any" if any(text != text.lower() for text in texts) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Which cases an entry is about. All that is stated must hold; an empty tuple is "any".

    Attributes:
        frameworks, backends, phases, stages: As the event has them.
        remotes: Kinds of other processes; without any the entry is about this process alone.
        formats: Ids of message formats.
        says: Texts of which the message holds one; in lower case, whatever the case of the message.
        causes: Kinds of causes of which one explains by itself what is missing.
        mends: Or fixes of which one changes what was found in the notebook's code.
        modules: Packages of the loader whose call failed.
        calls: Names of which the failed cell has one.
        hint: All this makes the entry likely; only what was found in the code proves it.
    """

    frameworks: tuple[str, ...] = ()
    backends: tuple[str, ...] = ()
    phases: tuple[Phase, ...] = ()
    stages: tuple[Stage, ...] = ()
    remotes: tuple[Remote, ...] = ()
    formats: tuple[str, ...] = ()
    says: Annotated[tuple[str, ...], _are_lower] = ()
    causes: tuple[CauseKind, ...] = ()
    mends: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    calls: tuple[str, ...] = ()
    hint: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionRow:
    """One row of an entry's version table; `introduced`, `deprecated` and `notes` are "" where it says nothing."""

    package: Name
    version: str
    introduced: Annotated[str, Blank()] = ""
    deprecated: Annotated[str, Blank()] = ""
    notes: Annotated[str, Blank()] = ""
    status: Text


@dataclass(frozen=True, slots=True, kw_only=True)
class Workaround:
    """Something that an entry says helps.

    Attributes:
        rate: Percent of successes, as the entry claims; None where nobody claims one.
        fix: Id of the fix that does it here, or None.
        code: As the entry gives it, "" where there is none; what runs here is the fix's code.
        when: In which cases it applies; None is "any".
        text: What it does.
        today: What is known of it since the entry was written, or None.
    """

    rate: Percent | None
    fix: str | None
    code: Annotated[str, Blank()] = ""
    when: Text | None
    text: Text
    today: Text | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadEndClaim:
    """Something that an entry says does not help.

    Attributes:
        rate: Percent of failures, as the entry claims; None where nobody claims one.
        check: Which check of the diagnosis tells whether that is so here, or None.
        when: In which cases it does not help; None is "any".
        tried: What people do.
        reason: Why it fails.
    """

    rate: Percent | None
    check: DeadEndKind | None
    when: Text | None
    tried: Text
    reason: Text


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a claim can be read.

    Attributes:
        url: The page.
        supports: The claims: "root_cause", "today", "workarounds[1]", "dead_ends[2]", "versions[1]".
        checked: The day on which it was read.
    """

    url: Annotated[str, one_word, _is_link]
    supports: tuple[str, ...]
    checked: date


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """An error that the entry is about, or one that it must not be taken for.

    Attributes:
        type: The exception's class, as a traceback prints it; "" for a line that is no exception's.
        text: Its message.
        format: Id of the message format that the detectors tell, or None where the example does not say.
        phase, stage, remote, module: What else is known of the event; the package of the loader that failed.
        cell: Source of the failed cell, or "".
        causes: What the diagnosis found to be large enough, largest first.
        mends: The fix that changes what was found in the notebook's code, or None.
        match: Whether the entry is about it.
    """

    type: Annotated[str, Blank()] = ""
    text: Annotated[str, Blank()]
    format: Name | None
    phase: Phase = "unknown"
    stage: Stage = ""
    remote: Remote | None
    module: Name | None
    cell: Annotated[str, Blank()] = ""
    causes: tuple[CauseKind, ...]
    mends: Name | None
    match: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One known problem.

    Attributes:
        code, id: Its two names, e.g. "CUDA-OOM-001" and "llm/huggingface-model-load-oom-on-cpu".
        domain, category, root_cause_kind: Its place among the others.
        ai_generated: Whether a model wrote it.
        reviewed: Whether a person has checked it since.
        signature: The error text that it was written for.
        fix_rate, confidence: Percent, as claimed; None where nobody claims any.
        evidence: Number of cases behind it, as claimed, or None.
        first_seen: Day of the first report, or None.
        documentation: URLs.
        leads_to, preceded_by, confused_with: Codes of entries.
        match: The cases that it is about.
        title, root_cause: What goes wrong, short and in full.
        source: Who claims the rates and on what ground, shown beside each of them; None where there are none.
        today: What is known since it was written, or None.
        versions, workarounds, dead_ends: In the file's order.
        sources: Where each claim can be read.
        examples: Its tests.
        origin: The file from outside that it is from; None for one that is packaged.
    """

    code: Name
    id: Name
    domain: str
    category: str
    root_cause_kind: RootCauseKind
    ai_generated: bool
    reviewed: bool
    signature: str
    fix_rate: Percent | None
    confidence: Percent | None
    evidence: Annotated[int, Range(0, 1_000_000_000)] | None
    first_seen: date | None
    documentation: Annotated[tuple[str, ...], _are_links]
    leads_to: tuple[str, ...]
    preceded_by: tuple[str, ...]
    confused_with: tuple[str, ...]
    match: Scope
    title: Text
    source: Text | None
    root_cause: Text
    today: Text | None
    versions: tuple[VersionRow, ...]
    workarounds: tuple[Workaround, ...]
    dead_ends: tuple[DeadEndClaim, ...]
    sources: tuple[Source, ...]
    examples: Annotated[tuple[Example, ...], Key("example")]
    origin: Annotated[Path | None, Key(None)] = None

    def related(self) -> tuple[str, ...]:
        """Give the codes of the entries that it names, each once."""
        return tuple(dict.fromkeys((*self.leads_to, *self.preceded_by, *self.confused_with)))

    def sources_of(self, claim: str) -> tuple[Source, ...]:
        """Give what supports a claim.

        Args:
            claim: As in `Source.supports`.
        """
        return tuple(source for source in self.sources if claim in source.supports)


def read_entry(text: str) -> Entry:
    """Read an entry file.

    Raises:
        KnowledgeError: It is broken or incomplete; the text names the key.
    """
    try:
        entry = read(Entry, text)
        _check_rates(entry)
        _check_sources(entry)
    except ValueError as error:
        raise KnowledgeError(str(error)) from error
    return entry


def _check_rates(entry: Entry) -> None:
    """No rate without somebody who claims it."""
    rates = {f"workarounds[{number}].rate": row.rate for number, row in enumerate(entry.workarounds, 1)}
    rates |= {f"dead_ends[{number}].rate": row.rate for number, row in enumerate(entry.dead_ends, 1)}
    rates |= {"fix_rate": entry.fix_rate, "confidence": entry.confidence}
    claimed = [key for key, rate in rates.items() if rate is not None]
    if claimed and entry.source is None:
        raise ValueError(f"source: is missing: {claimed[0]} is a claim")


def _check_sources(entry: Entry) -> None:
    """Each claim has a source, and each source supports claims that are there."""
    claims = dict(_claims(entry))
    for number, source in enumerate(entry.sources, 1):
        for claim in source.supports or ("",):
            if claim not in claims:
                raise ValueError(f"sources[{number}].supports: there is no claim {claim[:60]!r}")
            claims[claim] = False
    if bare := [claim for claim, open_yet in claims.items() if open_yet]:
        raise ValueError(f"sources: none supports {bare[0]}")


def _claims(entry: Entry) -> Iterator[tuple[str, bool]]:
    """What an entry says, and whether it needs a source: who claims the rates stands behind the rest of that entry."""
    vouched = entry.source is not None
    yield "root_cause", not vouched
    if entry.today is not None:
        yield "today", True
    yield from ((f"versions[{number}]", not vouched) for number, _ in enumerate(entry.versions, 1))
    for number, row in enumerate(entry.workarounds, 1):
        yield f"workarounds[{number}]", row.rate is None or row.today is not None
    yield from ((f"dead_ends[{number}]", row.rate is None) for number, row in enumerate(entry.dead_ends, 1))
