"""Strict reading of TOML tables: every key is asked for by name and type, and what nobody asked for is an error.

Words that people read stand in a file in both languages, or the file is not whole.

Errors are ValueError with one line for the person who wrote the file; they name the key with its path, e.g.
"workarounds[2].rate: must be a whole number from 0 to 100, not 101".
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal, TypeVar

Language = Literal["en", "zh"]

_Choice = TypeVar("_Choice", bound=str)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # all but tab and line break
_SHOWN = 60  # characters of a wrong value that a message repeats


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """The same words in both languages."""

    en: str
    zh: str

    def get(self, language: Language) -> str:
        """Give the words in one language."""
        return self.zh if language == "zh" else self.en


def parse(text: str) -> Table:
    """Read TOML text.

    Raises:
        ValueError: It is not TOML.
    """
    try:
        return Table(tomllib.loads(text))
    except RecursionError:
        raise ValueError("is nested too deeply") from None


class Table:
    """One table of a file. Each method reads one key; `end` then refuses whatever was not read."""

    def __init__(self, values: Mapping[str, object], path: str = "") -> None:
        self._values = values
        self._path = path
        self._read: set[str] = set()

    def has(self, key: str) -> bool:
        """Say whether the key is there; does not count as reading it."""
        return key in self._values

    def text(self, key: str, *, empty: bool = False) -> str:
        """Read a text without control characters; only where `empty` is True may it be blank."""
        value = self._value(key)
        if not isinstance(value, str):
            raise self._wrong(key, "a text", value)
        if _CONTROL.search(value):
            raise ValueError(f"{self._path}{key}: must not hold control characters")
        if not empty and not value.strip():
            raise ValueError(f"{self._path}{key}: must not be empty")
        return value

    def name(self, key: str) -> str:
        """Read a text without white space."""
        name = self.text(key)
        if name.split() != [name]:
            raise self.wrong(key, f"must not hold spaces, as {_short(name)} does")
        return name

    def both(self, key: str) -> Text:
        """Read a table that holds the same words in both languages."""
        part = self.table(key)
        both = Text(en=part.text("en"), zh=part.text("zh"))
        part.end()
        return both

    def text_or_none(self, key: str) -> str | None:
        """Read a text that may be absent."""
        return self.text(key) if self.has(key) else None

    def number(self, key: str, low: int, high: int) -> int:
        """Read a whole number from low to high, both included."""
        value = self._value(key)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise self._wrong(key, f"a whole number from {low} to {high}", value)
        return value

    def flag(self, key: str) -> bool:
        """Read true or false."""
        value = self._value(key)
        if not isinstance(value, bool):
            raise self._wrong(key, "true or false", value)
        return value

    def day(self, key: str) -> date:
        """Read a date without a time."""
        value = self._value(key)
        if not isinstance(value, date) or isinstance(value, datetime):
            raise self._wrong(key, "a date like 2023-12-01, without quotes", value)
        return value

    def choice(self, key: str, allowed: tuple[_Choice, ...]) -> _Choice:
        """Read a text that is one of those allowed."""
        return self._one_of(key, self._value(key), allowed)

    def choices(self, key: str, allowed: tuple[_Choice, ...]) -> tuple[_Choice, ...]:
        """Read a list of texts, each one of those allowed; an absent key is an empty list."""
        return tuple(self._one_of(key, value, allowed) for value in self._list(key, "texts"))

    def texts(self, key: str) -> tuple[str, ...]:
        """Read a list of texts; an absent key is an empty list."""
        values = self._list(key, "texts")
        for value in values:
            if not isinstance(value, str) or not value:
                raise self._wrong(key, "a list of texts", value)
        return tuple(str(value) for value in values)

    def table(self, key: str) -> Table:
        """Read a table."""
        return self._table(key, self._value(key), f"{self._path}{key}.")

    def rows(self, key: str) -> tuple[Table, ...]:
        """Read an array of tables (``[[key]]``); an absent key is an empty one. Messages count rows from 1."""
        values = self._list(key, "tables")
        return tuple(self._table(key, value, f"{self._path}{key}[{row}].") for row, value in enumerate(values, 1))

    def pairs(self) -> tuple[tuple[str, str], ...]:
        """Read all that is left as text by key, in the file's order."""
        return tuple((key, self.text(key)) for key in self._values if key not in self._read)

    def end(self) -> None:
        """Refuse keys that nobody read: most are spelling mistakes."""
        unknown = [key for key in self._values if key not in self._read]
        if unknown:
            raise ValueError(f"{self._path}{_short(unknown[0])}: is not a known key")

    def wrong(self, key: str, text: str) -> ValueError:
        """Make the error for a key whose value has the right type and still makes no sense."""
        return ValueError(f"{self._path}{key}: {text}")

    def _value(self, key: str) -> object:
        self._read.add(key)
        if key not in self._values:
            raise ValueError(f"{self._path}{key}: is missing")
        return self._values[key]

    def _list(self, key: str, what: str) -> list[object]:
        self._read.add(key)
        value = self._values.get(key, [])
        if not isinstance(value, list):
            raise self._wrong(key, f"a list of {what}", value)
        return value

    def _table(self, key: str, value: object, path: str) -> Table:
        if not isinstance(value, dict):
            raise self._wrong(key, "a table", value)
        return Table(value, path)

    def _one_of(self, key: str, value: object, allowed: tuple[_Choice, ...]) -> _Choice:
        for one in allowed:
            if value == one:
                return one
        raise self._wrong(key, f"one of {', '.join(allowed)}", value)

    def _wrong(self, key: str, expected: str, value: object) -> ValueError:
        return ValueError(f"{self._path}{key}: must be {expected}, not {_short(value)}")


def _short(value: object) -> str:
    """Write a value in at most `_SHOWN` characters; a container only by its kind, for it may be huge."""
    if isinstance(value, (dict, list)):
        return "a table" if isinstance(value, dict) else "a list"
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > 10**_SHOWN:
        return "a huge number"
    text = str(value) if isinstance(value, (bool, int, float, date)) else repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
