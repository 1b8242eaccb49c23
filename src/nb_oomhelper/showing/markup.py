"""Text from outside, made safe for sentences whose only markup is backticks around code and `**` around bold."""

from __future__ import annotations

import re

from nb_oomhelper.untrusted import printable, short_names

_STARS = re.compile(r"\*{2,}")


def plain(text: str) -> str:
    """Take out the characters that mean markup here, and write out those that hide."""
    return _STARS.sub("*", printable(text).replace("`", "'"))


def short(text: str) -> str:
    """Take out what `plain` does, and of each name that is too long for a line its middle.

    Args:
        text: A name, or several with ", " between them.
    """
    return short_names(plain(text))


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
