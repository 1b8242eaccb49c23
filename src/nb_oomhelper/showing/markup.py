"""Text from outside, made safe for sentences whose only markup is backticks around code and `**` around bold."""

from __future__ import annotations

import re

from nb_oomhelper.untrusted import printable

_STARS = re.compile(r"\*{2,}")
_NAME = 60  # characters that are shown of a name at most, from its begin and its end
_MARKS = r"[\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]"
_PILED = re.compile(f"({_MARKS}{{3}}){_MARKS}+")  # of more than three on one letter the lines above would be covered


def plain(text: str) -> str:
    """Take out the characters that mean markup here, and write out those that hide."""
    return _STARS.sub("*", printable(text).replace("`", "'"))


def short(text: str) -> str:
    """Take out what `plain` does, and of each name that is too long for a line its middle.

    Args:
        text: A name, or several with ", " between them.
    """
    return ", ".join(_cut(part) for part in plain(_PILED.sub(r"\1", text)).split(", "))


def _cut(name: str) -> str:
    half = (_NAME - 1) // 2
    return name if len(name) <= _NAME else f"{name[:half]}…{name[-half:]}"


def code(text: str, *, whole: bool = False) -> str:
    """Mark a name as code.

    Args:
        text: The name, or several.
        whole: However long it is, as a path that is to be copied.
    """
    return f"`{plain(text) if whole else short(text)}`"


def unmarked(text: str) -> str:
    """Take the backticks and double stars out of one of our sentences."""
    return text.replace("`", "").replace("**", "")
