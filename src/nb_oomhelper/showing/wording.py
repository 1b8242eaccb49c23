"""Every sentence that is shown, in English and Chinese, from `wording.toml`."""

from __future__ import annotations

import functools
import locale
import operator
import os
import re
import string
import tomllib
from collections.abc import Iterable
from importlib import resources
from typing import Any

from nb_oomhelper.knowledge.toml_tables import Language
from nb_oomhelper.units import NOISE, format_bytes

_APART = re.compile(r"[\u4e00-\u9fff] [\u4e00-\u9fff]")  # Chinese characters have a space beside other letters only


def say(key: str, language: Language, **fields: Any) -> str:
    """Fill in one sentence.

    Args:
        key: "section.name", as in the file.
        language: "en" or "zh".
        fields: What its braces stand for; `{count:s}` is the ending of a plural, "" where `count` is 1.
    """
    put = _close_up if language == "zh" else operator.add
    said = ""
    for literal, field, ending in _parts(key, language):
        said = put(said, literal)
        if field is not None:
            said = put(said, str(fields[field]) if not ending else "" if str(fields[field]) == "1" else ending)
    return said


def warm() -> None:
    """Read the file: later there may be little room, and less time."""
    _sentences()


def knows(key: str) -> bool:
    """Whether there is such a sentence."""
    section, _, name = key.partition(".")
    return name in _sentences().get(section, {})


def say_size(size: int | None, language: Language) -> str:
    """Say a size.

    Args:
        size: Bytes, or None for unknown.
        language: "en" or "zh".
    """
    if size is None:
        return say("size.unknown", language)
    return say("size.bytes", language, count=size) if abs(size) < 1 << 10 else format_bytes(size)


def say_freed(change: int | None, language: Language) -> str:
    """Say how much less is held than before, "nothing" for what a reading changes by itself.

    Args:
        change: Bytes, or None for unknown.
        language: "en" or "zh".
    """
    return say("size.nothing", language) if is_noise(change) else say_size(change, language)


def say_list(items: Iterable[str], language: Language, key: str = "list.and") -> str:
    """Put words or sentences in a row, with the language's own marks between them.

    Args:
        items: In their order.
        language: "en" or "zh".
        key: "list.and" between words, "list.then" between sentences.

    Returns:
        "" of none.
    """
    words = list(items) or [""]
    return functools.reduce(lambda first, then: say(key, language, first=first, then=then), words)


def say_row(sentences: Iterable[str], language: Language) -> str:
    """Put whole sentences in a row; Chinese ones have no space between them.

    Args:
        sentences: In their order; empty ones are left out.
        language: "en" or "zh".
    """
    return ("" if language == "zh" else " ").join(part for part in sentences if part)


def is_noise(change: int | None) -> bool:
    """Whether a change of so many bytes is too small to mean anything."""
    return change is not None and abs(change) < NOISE


def pick_language(setting: str) -> Language:
    """What "auto" means: Chinese where the environment's language is Chinese, else English."""
    if setting in ("en", "zh"):
        return "zh" if setting == "zh" else "en"
    variables = ("LC_ALL", "LC_MESSAGES", "LANG", "LANGUAGE")
    first = next((os.environ[name] for name in variables if os.environ.get(name)), locale.getlocale()[0] or "")
    return "zh" if first.lower().startswith("zh") else "en"


def _close_up(text: str, more: str) -> str:
    """Put two pieces together, without the space that would part two Chinese characters there."""
    if _APART.fullmatch(text[-2:] + more[:1]):
        return text[:-1] + more
    return text + (more[1:] if _APART.fullmatch(text[-1:] + more[:2]) else more)


@functools.cache
def _parts(key: str, language: Language) -> tuple[tuple[str, str | None, str | None], ...]:
    """A sentence, cut at its braces: what is before one, what stands in it, and the ending of a plural."""
    section, _, name = key.partition(".")
    parsed = string.Formatter().parse(_sentences()[section][name][language])
    return tuple((literal, field, ending) for literal, field, ending, _ in parsed)


@functools.cache
def _sentences() -> dict[str, dict[str, dict[str, str]]]:
    file = resources.files("nb_oomhelper.showing").joinpath("wording.toml")
    return tomllib.loads(file.read_text("utf-8"))
