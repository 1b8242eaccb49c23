"""What is installed here, and texts that hang on it."""

from __future__ import annotations

import functools
import re
import time
from dataclasses import dataclass
from importlib import metadata
from typing import Annotated

from nb_oomhelper.knowledge.toml_tables import Blank, Name

_SECONDS = 10.0
_VERSION = re.compile(r"v?(\d{1,9}(?:\.\d{1,9})*)", re.ASCII)


def _is_plain_name(text: str) -> str | None:
    return None if text.isascii() and text.isidentifier() else f"must be a plain name, not {text!r}"


def _is_version(text: str) -> str | None:
    return None if _VERSION.fullmatch(text) else f"must be a version like 5.0.0, not {text!r}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Spelling:
    """A template field whose text hangs on an installed version: `new` since version `since`, `old` before."""

    field: Annotated[str, _is_plain_name]
    package: Name
    since: Annotated[str, _is_version]
    new: Annotated[str, Blank()]
    old: Annotated[str, Blank()]


def installed_version(package: str) -> str | None:
    """Look up a distribution's version without importing it; None where it is not installed.

    What was looked up counts for ten seconds: one panel asks some sixty times, and `pip install` may come between two.
    """
    return _looked_up(package, int(time.monotonic() / _SECONDS))


@functools.lru_cache(maxsize=128)
def _looked_up(package: str, _: int) -> str | None:
    try:
        return metadata.version(package) or None
    except (metadata.PackageNotFoundError, ValueError):  # ValueError: the name is empty
        return None


def spelled(row: Spelling, installed: str | None) -> str:
    """Choose the text for a version.

    Args:
        row: The two texts, and since when it is the new one.
        installed: The package's version; the new text counts where it is None or cannot be read.
    """
    have, since = release_of(installed or ""), release_of(row.since)
    return row.old if have is not None and since is not None and have < since else row.new


def release_of(version: str) -> tuple[int, ...] | None:
    """Read a version's leading numbers, without zeros at the end: "5.0.0rc1" and "5" are both (5,).

    A release candidate counts as its release, for it already has that spelling.
    """
    match = _VERSION.match(version.strip())
    if match is None:
        return None
    numbers = [int(number) for number in match[1].split(".")]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)
