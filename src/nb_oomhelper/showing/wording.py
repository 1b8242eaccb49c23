"""Every sentence that is shown, in English and Chinese, from `wording.toml`."""

from __future__ import annotations

import functools
import locale
import os
import tomllib
from importlib import resources
from typing import Any

from nb_oomhelper.knowledge.toml_tables import Language


def say(key: str, language: Language, **fields: Any) -> str:
    """One sentence, filled in.

    Args:
        key: "section.name", as in the file.
        language: "en" or "zh".
        fields: What its braces stand for.
    """
    section, _, name = key.partition(".")
    text: str = _sentences()[section][name][language]
    return text.format(**fields)


def knows(key: str) -> bool:
    """Whether there is such a sentence."""
    section, _, name = key.partition(".")
    return name in _sentences().get(section, {})


def pick_language(setting: str) -> Language:
    """What "auto" means: Chinese where the environment's language is Chinese, else English."""
    if setting in ("en", "zh"):
        return "zh" if setting == "zh" else "en"
    variables = ("LC_ALL", "LC_MESSAGES", "LANG", "LANGUAGE")
    first = next((os.environ[name] for name in variables if os.environ.get(name)), locale.getlocale()[0] or "")
    return "zh" if first.lower().startswith("zh") else "en"


@functools.cache
def _sentences() -> dict[str, dict[str, dict[str, str]]]:
    file = resources.files("nb_oomhelper.showing").joinpath("wording.toml")
    return tomllib.loads(file.read_text("utf-8"))
