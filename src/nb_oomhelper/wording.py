"""Every sentence that is shown, in English and Chinese, from `knowledge/wording.toml`.

And what may be shown of a text from outside.
"""

from __future__ import annotations

import functools
import locale
import os
import re
import tomllib
from importlib import resources
from typing import Any, Literal

Language = Literal["en", "zh"]

# Controls but tab and line break; what turns the direction of a text, hides in it or breaks its line; halves of
# surrogate pairs, which no message can carry. Joiners stay: emoji and some scripts are written with them.
_UNSEEN = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]"
    r"|[\U000e0000-\U000e007f]"
)


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


def printable(text: str) -> str:
    """A text from outside with what cannot be seen written out: ESC is "\\x1b", a turn to the left "\\u202e".

    Tabs, line breaks and all that can be seen stay as they are.
    """
    return _UNSEEN.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def one_line(text: str) -> str:
    """A name from outside as one line: a blank for whatever space it holds, and the rest as `printable` has it."""
    return printable(" ".join(text.split()))


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
    file = resources.files("nb_oomhelper.knowledge").joinpath("wording.toml")
    return tomllib.loads(file.read_text("utf-8"))
