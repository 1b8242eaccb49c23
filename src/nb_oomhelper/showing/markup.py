"""Text from outside, made safe for sentences whose only markup is backticks around code and `**` around bold."""

from __future__ import annotations

import re

from nb_oomhelper.untrusted import printable

_STARS = re.compile(r"\*{2,}")


def plain(text: str) -> str:
    """Take out the characters that mean markup here, and write out those that hide."""
    return _STARS.sub("*", printable(text).replace("`", "'"))


def code(text: str) -> str:
    """Mark a name as code."""
    return f"`{plain(text)}`"


def unmarked(text: str) -> str:
    """Take the backticks and double stars out of one of our sentences."""
    return text.replace("`", "").replace("**", "")
