"""An entry to be filled in, from a case: a TOML file that its own reader takes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import date

from nb_oomhelper.case import Case
from nb_oomhelper.knowledge.entry import read_entry
from nb_oomhelper.knowledge.toml_tables import Language
from nb_oomhelper.knowledge.versions import installed_version
from nb_oomhelper.showing.blanking import anonymized, blanked, names_of
from nb_oomhelper.showing.wording import say
from nb_oomhelper.untrusted import printable

_SHOWN = 2_000  # characters of a message or a cell


def entry_template(case: Case, language: Language, today: date) -> str:
    """Write an entry that matches a case, with what only its author knows left to be filled in.

    Tokens, keys and home folders are blanked, and names of the user's are replaced: the file is meant to be passed on.

    Args:
        case: One error.
        language: Of the comments in the file.
        today: Since when it has been known, and its sources checked.

    Returns:
        TOML that `read_entry` takes.
    """
    event = case.event
    found = anonymized(blanked({"message": event.message, "cell": case.cell}), names_of(case))
    message, cell = (_text(found[name]) for name in ("message", "cell"))
    named = [line for line in (*message.splitlines(), _text(event.exception_type), event.format) if line.strip()]
    lines = [
        *_comment("head", language),
        'code = "MINE-001"',
        'id = "team/short-name"',
        'domain = "team"',
        f"category = {_quoted(event.phase)}",
        *_comment("kind", language),
        'root_cause_kind = "generic"',
        "ai_generated = false",
        "reviewed = false",
        f"signature = {_quoted(named[0])}",
        f"first_seen = {today.isoformat()}",
        "documentation = []",
        "leads_to = []",
        "preceded_by = []",
        "confused_with = []",
        "",
        *_comment("match", language),
        "[match]",
        *_scope(case),
        *_words("title", language),
        *_words("root_cause", language),
        *_version(event.framework, language),
        "",
        *_comment("workaround", language),
        "[[workarounds]]",
        'code = ""',
        *_words("workarounds.text", language),
        "",
        *_comment("dead_end", language),
        "[[dead_ends]]",
        *_words("dead_ends.tried", language),
        *_words("dead_ends.reason", language),
        "",
        *_comment("source", language),
        "[[sources]]",
        'url = "https://example.com/"',
        f"supports = {_list(['root_cause', 'workarounds[1]', 'dead_ends[1]', *_of_version(event.framework)])}",
        f"checked = {today.isoformat()}",
        "",
        *_comment("example", language),
        "[[example]]",
        *_example(case, message, cell),
    ]
    text = "\n".join(lines) + "\n"
    read_entry(text)
    return text


def _comment(key: str, language: Language) -> Iterator[str]:
    yield f"# {say(f'template.{key}', language)}"


def _words(table: str, language: Language) -> Iterator[str]:
    """A table of words in both languages, to be written."""
    todo = _quoted(say("template.todo", language))
    yield from (f"[{table}]", f"en = {todo}", f"zh = {todo}")


def _scope(case: Case) -> Iterator[str]:
    """What the case tells: of its causes those that explain it, as the choice has read them."""
    event, known = case.event, dict(case.choice.read)
    stated: dict[str, list[str]] = {
        "frameworks": [event.framework],
        "backends": [event.backend],
        "phases": [] if event.phase == "unknown" else [event.phase],
        "stages": [event.stage] if event.stage else [],
        "remotes": [event.remote] if event.remote else [],
        "formats": [event.format],
        "causes": known["cause"].split(", ")[:1] if "cause" in known else [],
        "modules": [event.call.module.partition(".")[0]] if event.call else [],
    }
    yield from (f"{name} = {_list(values)}" for name, values in stated.items() if any(values))


def _version(framework: str, language: Language) -> Iterator[str]:
    package = "torch" if framework == "pytorch" else framework
    version = installed_version(package)
    if version is not None:
        yield from ("", *_comment("version", language), "[[versions]]", f"package = {_quoted(package)}")
        yield f"version = {_quoted(version)}"
        yield from _words("versions.status", language)


def _of_version(framework: str) -> list[str]:
    return ["versions[1]"] if any(_version(framework, "en")) else []


def _example(case: Case, message: str, cell: str) -> Iterator[str]:
    event, known = case.event, dict(case.choice.read)
    yield f"type = {_quoted(event.exception_type)}"
    yield f"text = {_quoted(message)}"
    yield f"format = {_quoted(event.format)}"
    yield f"phase = {_quoted(event.phase)}"
    if event.stage:
        yield f"stage = {_quoted(event.stage)}"
    if event.remote:
        yield f"remote = {_quoted(event.remote)}"
    if event.call:
        yield f"module = {_quoted(event.call.module.partition('.')[0])}"
    yield f"cell = {_quoted(cell)}"
    if "cause" in known:
        yield f"causes = {_list(known['cause'].split(', '))}"


def _text(found: str) -> str:
    """A text from outside as it may stand in a file: no control characters, and not too long."""
    return "".join(one for one in printable(found)[:_SHOWN] if one in "\t\n" or one.isprintable())


def _quoted(text: str) -> str:
    """A basic string of TOML, which a string of JSON is, but for the one character that JSON leaves as it is."""
    return json.dumps(_text(text), ensure_ascii=False).replace("\x7f", "\\u007f")


def _list(texts: Iterable[str]) -> str:
    return f"[{', '.join(map(_quoted, texts))}]"
