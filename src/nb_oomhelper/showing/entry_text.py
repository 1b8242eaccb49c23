"""The entry that bears on a case, in words: what it claims, what it advises here, and what was passed over."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from nb_oomhelper.case import Case
from nb_oomhelper.knowledge.catalog import Catalog
from nb_oomhelper.knowledge.choosing import Match
from nb_oomhelper.knowledge.toml_tables import Language
from nb_oomhelper.remedies.advised import Advised, Warned, rank_workarounds, weigh_dead_ends
from nb_oomhelper.showing.fix_text import say_fix, say_origin
from nb_oomhelper.showing.markup import code, plain
from nb_oomhelper.showing.wording import knows, say, say_list, say_size

_OTHERS = 3  # runners-up that are shown
_VALUES = 4  # of what an entry states, in one line
_SHOWN = 200  # characters of what an entry says in a list


@dataclass(frozen=True, slots=True, kw_only=True)
class Aside:
    """What is read by who wants more: a title that says what it is, and lines below it."""

    title: str
    lines: tuple[str, ...]


def say_entry(case: Case, language: Language) -> str:
    """Say which entry bears on a case; where none does, what of the case was read.

    Args:
        case: One error.
        language: "en" or "zh".
    """
    match = case.match
    if match is None:
        near = any(one.relation != "passed" for one in case.choice.others)
        return say("entry.unclear" if near else "entry.none", language, read=_read(case, language))
    entry = match.entry
    written = [
        say(key, language)
        for kind, values in (("backend", entry.match.backends), ("phase", entry.match.phases))
        if kind in match.differs
        for key in (f"entry.{kind}_{value}" for value in values)
        if knows(key)
    ]
    title = plain(entry.title.get(language))
    key = "likely" if match.relation == "related" and not written else match.relation
    said = say(f"entry.{key}", language, code=plain(entry.code), title=title, written=say_list(written, language))
    return " ".join(part for part in (said, say_origin(entry.origin, language)) if part)


def _read(case: Case, language: Language) -> str:
    """What the choice went by: the error's class and numbers, and what is known of where it was."""
    event, known, found = case.event, dict(case.choice.read), case.diagnosis
    numbers = {"requested": found.requested, "free": found.free}
    sizes = {name: say_size(size, language) for name, size in numbers.items() if size is not None}
    told = {*known, *sizes, *(["class"] if event.exception_type else [])}
    untold = [name for name in ("class", "phase", "requested", "free") if name not in told]
    facts = [
        *([say("choice.class", language, value=code(event.exception_type))] if "class" in told else []),
        *(say(f"choice.{name}", language, value=_values(name, value, language)) for name, value in known.items()),
        *(say(f"choice.{name}", language, value=size) for name, size in sizes.items()),
    ]
    missing = say_list((_name(name, language) for name in untold), language)
    return say_list(
        [*facts, *([say("choice.missing", language, names=missing)] if untold else [])], language, "list.then"
    )


def _value(name: str, value: str, language: Language) -> str:
    """A value of a condition: in words where it has some, else as it is written."""
    keys = {"remote": f"remote.{value}", "cause": f"cause_kind.{value}"}
    key = keys.get(name, f"entry.{name}_{value}")
    return say(key, language) if knows(key) else code(value)


def _name(condition: str, language: Language) -> str:
    key = f"name_{condition}"
    return say(f"choice.{key}", language)


def _values(name: str, found: str, language: Language) -> str:
    """What was read of a condition, which may be several."""
    return say_list((_value(name, one, language) for one in found.split(", ") if one), language)


def say_claims(match: Match | None, language: Language) -> str:
    """Say what an entry claims, and who does.

    Args:
        match: The entry, or None.
        language: "en" or "zh".

    Returns:
        "" where nobody claims anything of it.
    """
    if match is None or match.entry.source is None or match.entry.fix_rate is None:
        return ""
    entry = match.entry
    figures = {"fix_rate": entry.fix_rate, "confidence": entry.confidence, "evidence": entry.evidence}
    said = say("entry.claims", language, first_seen=str(entry.first_seen or say("page.unknown", language)), **figures)
    return f"{said} · {plain(match.entry.source.get(language))}"


# -- what was passed over --------------------------------------------------------------------------------------------


def say_others(case: Case, language: Language) -> Aside:
    """Say what else was near, and why it is not the entry that is shown; at most three.

    Args:
        case: One error.
        language: "en" or "zh".
    """
    known, near = dict(case.choice.read), case.choice.others[:_OTHERS]
    codes = say_list((plain(one.entry.code) for one in near), language)
    return Aside(
        title=say("section.others", language, codes=codes), lines=tuple(_other(one, known, language) for one in near)
    )


def _other(match: Match, known: dict[str, str], language: Language) -> str:
    entry = match.entry
    named = f"**{plain(entry.code)}** {plain(entry.title.get(language))}"
    why = say_list(why_not(match, known, language), language, "list.then")
    return say("list.of", language, head=named, text=why)


def why_not(match: Match, known: dict[str, str], language: Language) -> Iterator[str]:
    """Say why an entry is not the one that is shown.

    Args:
        match: Another one.
        known: What was read of the case, by condition.
        language: "en" or "zh".
    """
    if match.relation == "passed":
        yield from (_wrong(match, name, known, language) for name in match.differs)
        return
    if "others" in match.differs or not match.differs:
        yield say("choice.as_well" if match.differs else "choice.less", language)
    if "hint" in match.differs:
        yield say("choice.hint", language)
    if unknown := [_name(name, language) for name in match.differs if name not in ("others", "hint")]:
        yield say("choice.untold", language, names=say_list(unknown, language))


def _wrong(match: Match, name: str, known: dict[str, str], language: Language) -> str:
    """The condition that does not hold: what the entry states, and what there is here."""
    scope = match.entry.match
    stated: dict[str, tuple[str, ...]] = {
        "framework": scope.frameworks,
        "backend": scope.backends,
        "phase": scope.phases,
        "stage": scope.stages,
        "format": scope.formats,
        "says": scope.says,
        "cause": scope.causes + scope.mends,
        "module": scope.modules,
        "call": scope.calls,
        "remote": scope.remotes,
    }
    values = [_value(name, value, language) for value in stated[name] if value != "unknown"]
    more = ["…"] if len(values) > _VALUES else []
    found = known.get(name, "")
    bare = f"not_{name}_none"
    key = bare if not found and knows(f"choice.{bare}") else f"not_{name}"
    return say(
        f"choice.{key}",
        language,
        stated=say_list([*values[:_VALUES], *more] or [say("choice.this_process", language)], language),
        found=_values(name, found, language),
    )


# -- what it advises here --------------------------------------------------------------------------------------------


def say_advised(case: Case, catalog: Catalog, language: Language) -> Aside:
    """Say what the matching entry advises, best first for this case, and then which of its dead ends are some here.

    Args:
        case: One error; of one that only a text tells of nothing is planned, and nothing is said.
        catalog: The knowledge, which has the fixes' texts.
        language: "en" or "zh".
    """
    if case.match is None or case.match.relation != "match" or case.told is not None:
        return Aside(title="", lines=())
    entry, packaged = case.match.entry, case.match.entry.origin is None
    advised = rank_workarounds(entry, case.plans)
    warned = weigh_dead_ends(entry, case.event, case.snapshot, case.diagnosis)
    lines = [_advised(one, case, catalog, packaged, language) for one in advised]
    lines += [_warned(one, packaged, language) for one in warned]
    return Aside(title=say("section.advised", language, code=plain(entry.code)), lines=tuple(lines))


def _advised(one: Advised, case: Case, catalog: Catalog, packaged: bool, language: Language) -> str:
    text = _short(one.row.text.get(language), packaged=packaged)
    if one.plan is None:
        standing = say(f"advised.{one.standing}", language)
    else:
        row = say_fix(case, one.plan, catalog, language)
        verdict = row.verdict or row.effect  # one that was run has no verdict any more
        standing = say("advised.fix", language, number=one.plan.number, verdict=verdict)
    return say("advised.workaround", language, number=one.number, standing=standing, text=text)


def _warned(one: Warned, packaged: bool, language: Language) -> str:
    key = f"dead_{one.row.check}" if one.holds == "not_here" else f"dead_{one.holds}"
    standing = say(f"advised.{key}", language, size=say_size(one.size, language))
    return say(
        "advised.dead_end",
        language,
        number=one.number,
        standing=standing,
        text=_short(one.row.tried.get(language), packaged=packaged),
    )


def _short(text: str, *, packaged: bool) -> str:
    """What an entry says, in one line; of a packaged one with its code marked."""
    line = " ".join(text.split())
    line = line if len(line) <= _SHOWN else f"{line[:_SHOWN].rstrip()}…"
    return line if packaged and line.count("`") % 2 == 0 and "**" not in line else plain(line)
