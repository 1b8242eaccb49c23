"""What must not leave a notebook: tokens, keys, home folders, and on request the names of the user's."""

from __future__ import annotations

import ast
import builtins
import keyword
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from nb_oomhelper.case import Case

_BLANK = "***"
_SECRET = r"(?:token|secret|passw(?:or)?d|api_?key|access_?key|credentials?)"
_KNOWN = re.compile(
    r"""\b(?:hf_[A-Za-z0-9]{16,} | sk-[\w-]{16,} | gh[pousr]_[A-Za-z0-9]{20,} | github_pat_\w{20,} | glpat-[\w-]{16,}
    | (?:AKIA|ASIA)[0-9A-Z]{16} | AIza[\w-]{30,} | xox[abeprs]-[\w-]{10,} | eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]{4,})""",
    re.VERBOSE,
)
_BLOCK = re.compile(r"-----BEGIN ([A-Z ]*PRIVATE KEY)-----.*?(?:-----END \1-----|\Z)", re.DOTALL)
_QUOTED = re.compile(rf"""(?i)(\b\w*(?:{_SECRET}|\bkey)["']?\]?\s*[:=]\s*[rbf]?)(["'])[\w./+=~@!#$%^&*-]{{8,}}\2""")
_SETTING = re.compile(rf"(\b[A-Z0-9_]*{_SECRET.upper()}[A-Z0-9_]*=)[^\s\"']+")
_HEADER = re.compile(r"(?i)(\b(?:bearer|basic)\s+)[\w./+=~-]{8,}")
_IN_URL = re.compile(r"(://)[^\s/@\"']+@")
_HOMES = re.compile(r"(?:/home/|/Users/|[A-Za-z]:\\{1,2}Users\\{1,2})[^/\\\s\"':]+")
_SECRET_VARIABLE = re.compile(r"TOKEN|SECRET|PASSW|API_?KEY|ACCESS_?KEY|CREDENTIAL")
_LEAST = 8  # characters of a secret: a shorter value of a variable would be found in any text

# Values of these keys are words of ours or of a framework's, never a name of the user's.
# fmt: off
_OURS = frozenset({
    "kind", "role", "backend", "framework", "dtype", "format", "fix", "verdict", "applicability", "relation",
    "phase", "stage", "certainty", "loader", "module", "row", "exception_type", "remote", "limit", "nb_oomhelper",
    "dtypes", "parts", "reason", "uuid", "id",
    "condition", "value", "standing", "holds", "check", "differs", "why"
})
# fmt: on
_SENTENCES = frozenset({"title", "note", "effect", "verdict_text", "loses"})  # with names between backticks only
_CODE = re.compile(r"(`{3,}).*?\n\1|`[^`\n]*`", re.DOTALL)
_SPOKEN = ("np", "pd", "tf", "plt", "nn", "F", "jnp", "cp", "pl")  # what everybody calls modules


def blanked(found: Any) -> Any:
    """Blank tokens, keys and home folders in every text of some plain data, or in one text.

    Args:
        found: A text, or what `json.dumps` takes.

    Returns:
        The same without them.
    """
    return _each(found, _without_secrets(), "")


def anonymized_page(page: str, names: Iterable[str]) -> str:
    """Put `name_1`, `name_2`, … in place of names of the user's in the code of a Markdown page.

    Args:
        page: Its text; names of the user's stand in code only.
        names: The names, each once.
    """
    rename = _renaming(names)
    return _CODE.sub(lambda code: rename(code[0]), page)


def anonymized(found: Any, names: Iterable[str]) -> Any:
    """Put `name_1`, `name_2`, … in place of names of the user's.

    Args:
        found: A record of a case, as plain data.
        names: The names, each once.

    Returns:
        The same without them.
    """
    rename = _renaming(names)

    def change(text: str, key: str) -> str:
        if key in _OURS:
            return text
        return _CODE.sub(lambda code: rename(code[0]), text) if key in _SENTENCES else rename(text)

    return _each(found, change, "")


def _renaming(names: Iterable[str]) -> Callable[[str], str]:
    other = {name: f"name_{number}" for number, name in enumerate(names, 1)}
    longest_first = sorted(map(re.escape, other), key=len, reverse=True)
    word = re.compile(rf"(?<!\w)(?:{'|'.join(longest_first) or '(?!)'})(?!\w)")
    return lambda text: word.sub(lambda name: other[name[0]], text)


def names_of(case: Case) -> list[str]:
    """Give the names of the user's that a case mentions, in the order in which they come.

    Args:
        case: One error.
    """
    call = case.event.call
    said = [case.event.function or "", *(row.name for row in case.snapshot.holdings.rows if row.kind != "module")]
    said += [row.function or "" for row in case.snapshot.holdings.rows if row.kind != "module"]
    said += [row.type_name or "" for row in case.snapshot.holdings.rows if _is_users(row.type_name)]
    said += [name for cause in case.diagnosis.causes for name in cause.names]
    said += [cause.function or "" for cause in case.diagnosis.causes]
    said += [plan.subject for plan in case.plans] + ([call.target or ""] if call else [])
    words = [word for text in said for word in re.findall(r"[^\W\d]\w*", text)]
    for code in (case.cell, *(plan.before for plan in case.plans), (call and call.statement) or ""):
        words += [name for name in _bound(code) if name not in sys.modules]
    known = {*dir(builtins), *keyword.kwlist, *_SPOKEN, "Out", "In"}
    return [word for word in dict.fromkeys(words) if word not in known]


def _is_users(type_name: str | None) -> bool:
    return type_name is not None and type_name in vars(sys.modules["__main__"])


def _bound(code: str) -> Iterator[str]:
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        yield from re.findall(r"[^\W\d]\w*(?=\s*=[^=])", code)
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg


def _without_secrets() -> Callable[[str, str], str]:
    home = str(Path.home())
    values = [
        value for name, value in os.environ.items() if len(value) >= _LEAST and _SECRET_VARIABLE.search(name.upper())
    ]

    def blank(text: str, _key: str) -> str:
        for value in values:
            text = text.replace(value, _BLANK)
        text = _BLOCK.sub(_BLANK, text)
        text = _KNOWN.sub(_BLANK, text)
        text = _QUOTED.sub(rf"\1\2{_BLANK}\2", text)
        text = _SETTING.sub(rf"\1{_BLANK}", text)
        text = _HEADER.sub(rf"\1{_BLANK}", text)
        text = _IN_URL.sub(rf"\1{_BLANK}@", text)
        if len(home) > 1:
            text = re.sub(rf"{re.escape(home)}(?![\w-])", "~", text)
        return _HOMES.sub("~", text)

    return blank


def _each(found: Any, change: Callable[[str, str], str], key: str) -> Any:
    if isinstance(found, str):
        return change(found, key)
    if isinstance(found, dict):
        return {name: _each(value, change, name) for name, value in found.items()}
    if isinstance(found, list):
        return [_each(one, change, key) for one in found]
    return found
