"""Strict reading of TOML files into records: the type hints of a record say what each key must be.

A key is named as its field; a list that is absent is empty, another key may be absent where its field has a default or
may be None, and a key that no field asks for is an error. A table that is a dataclass is read in the same way.
Words that people read stand in a file in both languages, or the file is not whole.

Errors are ValueError with one line for the person who wrote the file; they name the key with its path, e.g.
"workarounds[2].rate: must be a whole number from 0 to 100, not 101".
"""

from __future__ import annotations

import dataclasses
import functools
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from types import NoneType
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

Language = Literal["en", "zh"]

_Record = TypeVar("_Record")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # all but tab and line break
_SHOWN = 60  # characters of a wrong value that a message repeats


# -- what a hint may say besides the type: `Annotated[int, Range(0, 9)]` ---------------------------------------------
# A function there takes the value and gives what is wrong with it, or None.


@dataclass(frozen=True, slots=True)
class Range:
    """The lowest and the highest whole number that is allowed."""

    low: int
    high: int


@dataclass(frozen=True, slots=True)
class Key:
    """The key's name where it is not the field's; None for a field that no file sets."""

    name: str | None


@dataclass(frozen=True, slots=True)
class Strip:
    """What is taken off both ends of a text; None for white space."""

    characters: str | None = None


@dataclass(frozen=True, slots=True)
class Blank:
    """The text may be blank."""


def one_word(text: str) -> str | None:
    """Refuse white space."""
    return None if text.split() == [text] else f"must not hold spaces, as {_short(text)} does"


Name = Annotated[str, one_word]
Percent = Annotated[int, Range(0, 100)]
Pairs = tuple[tuple[str, str], ...]  # a table of texts, in the file's order


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """The same words in both languages."""

    en: str
    zh: str

    def get(self, language: Language) -> str:
        """Give the words in one language."""
        return self.zh if language == "zh" else self.en


# -- reading ---------------------------------------------------------------------------------------------------------


def read(record: type[_Record], text: str) -> _Record:
    """Read a file's text into a record.

    Args:
        record: A dataclass. Its hints may be str, int with a `Range`, bool, date, Literal, `Pairs`, another dataclass,
            one of these or None, and tuples and frozensets of str, of tuples of words, of Literal or of dataclasses.
        text: TOML.

    Raises:
        ValueError: It is not TOML, or not such a record; the text names the key.
    """
    try:
        values = tomllib.loads(text)
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    found: _Record = _record(record, values, "")
    return found


def _record(record: Any, values: Mapping[str, object], path: str) -> Any:
    fields = _fields(record)
    found = {
        fields[key][0]: _value(value, fields[key][1], path + key) for key, value in values.items() if key in fields
    }
    for key, (name, hint, default) in fields.items():
        if name not in found and default is dataclasses.MISSING:
            if not _may_be_absent(hint):
                raise ValueError(f"{path}{key}: is missing")
            found[name] = () if _is_list(hint) else None
    if unknown := [key for key in values if key not in fields]:  # most are spelling mistakes
        raise ValueError(f"{path}{_short(unknown[0])}: is not a known key")
    return record(**found)


@functools.cache
def _fields(record: Any) -> dict[str, tuple[str, Any, Any]]:
    """A record's fields, their hints and defaults, by the key in the file."""
    hints = get_type_hints(record, include_extras=True)
    found = {}
    for field in dataclasses.fields(record):
        hint = hints[field.name]
        key = next((mark.name for mark in _marks(hint) if isinstance(mark, Key)), field.name)
        if key is not None:
            found[key] = field.name, hint, field.default
    return found


# What a hint says, once for each hint: a catalog asks for it some ten thousand times.


@functools.cache
def _marks(hint: Any) -> tuple[Any, ...]:
    return hint.__metadata__ if get_origin(hint) is Annotated else ()


@functools.cache
def _bare(hint: Any) -> Any:
    return hint.__origin__ if get_origin(hint) is Annotated else hint


@functools.cache
def _is_list(hint: Any) -> bool:
    return get_origin(_bare(hint)) in (tuple, frozenset)


@functools.cache
def _may_be_absent(hint: Any) -> bool:
    return _is_list(hint) or NoneType in get_args(_bare(hint))


def _value(value: object, hint: Any, where: str) -> Any:
    """Read one value as its hint says."""
    kind, marks = _bare(hint), _marks(hint)
    if NoneType in get_args(kind):
        return _value(value, get_args(kind)[0], where)
    if kind == Pairs:
        found: Any = tuple((key, _text(one, f"{where}.{key}", ())) for key, one in _table(value, where).items())
    elif _is_list(kind):
        found = get_origin(kind)(_items(value, get_args(kind)[0], where))
    elif get_origin(kind) is Literal:
        found = _choice(value, get_args(kind), where)
    elif dataclasses.is_dataclass(kind):
        found = _record(kind, _table(value, where), f"{where}.")
    else:
        found = _SCALARS[kind](value, where, marks)
    for rule in marks:
        if callable(rule) and (complaint := rule(found)):
            raise ValueError(f"{where}: {complaint}")
    return found


def _items(value: object, hint: Any, where: str) -> Iterator[Any]:
    """Read a list: of tables, whose messages count them from 1 and give the name of a top one, or of texts."""
    rows = dataclasses.is_dataclass(hint)
    if not isinstance(value, list):
        raise _wrong(where, f"a list of {'tables' if rows else 'texts'}", value)
    for number, one in enumerate(value, 1):
        if rows:
            top = isinstance(one, dict) and "." not in where and isinstance(one.get("id"), str)
            yield _value(one, hint, f"{one['id']}: {where}[{number}]" if top else f"{where}[{number}]")
        elif get_origin(hint) is Literal:
            yield _choice(one, get_args(hint), where)
        elif not isinstance(one, str) or not one:
            raise _wrong(where, "a list of texts", one)
        else:
            yield one if hint is str else tuple(one.split())


def _table(value: object, where: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise _wrong(where, "a table", value)
    return value


def _choice(value: object, allowed: Sequence[str], where: str) -> str:
    for one in allowed:
        if value == one:
            return one
    raise _wrong(where, f"one of {', '.join(allowed)}", value)


def _text(value: object, where: str, marks: Sequence[object]) -> str:
    if not isinstance(value, str):
        raise _wrong(where, "a text", value)
    if _CONTROL.search(value):
        raise ValueError(f"{where}: must not hold control characters")
    if Blank() not in marks and not value.strip():
        raise ValueError(f"{where}: must not be empty")
    for mark in marks:
        value = value.strip(mark.characters) if isinstance(mark, Strip) else value
    return value


def _number(value: object, where: str, marks: Sequence[object]) -> int:
    allowed = next(mark for mark in marks if isinstance(mark, Range))
    if not isinstance(value, int) or isinstance(value, bool) or not allowed.low <= value <= allowed.high:
        raise _wrong(where, f"a whole number from {allowed.low} to {allowed.high}", value)
    return value


def _flag(value: object, where: str, _: object) -> bool:
    if not isinstance(value, bool):
        raise _wrong(where, "true or false", value)
    return value


def _day(value: object, where: str, _: object) -> date:
    if not isinstance(value, date) or isinstance(value, datetime):
        raise _wrong(where, "a date like 2023-12-01, without quotes", value)
    return value


_SCALARS: dict[Any, Any] = {str: _text, int: _number, bool: _flag, date: _day}


def _wrong(where: str, expected: str, value: object) -> ValueError:
    return ValueError(f"{where}: must be {expected}, not {_short(value)}")


def _short(value: object) -> str:
    """Write a value in at most `_SHOWN` characters; a container only by its kind, for it may be huge."""
    if isinstance(value, (dict, list)):
        return "a table" if isinstance(value, dict) else "a list"
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > 10**_SHOWN:
        return "a huge number"
    text = str(value) if isinstance(value, (bool, int, float, date)) else repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
