"""What may be shown of a text from outside."""

from __future__ import annotations

import re

# Controls but tab and line break; what turns the direction of a text, hides in it or breaks its line; halves of
# surrogate pairs, which no message can carry. Joiners stay: emoji and some scripts are written with them.
_UNSEEN = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]"
    r"|[\U000e0000-\U000e007f]"
)
_NAME = 60  # characters that are shown of a name at most, from its begin and its end
_MARKS = r"[\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]"
_PILED = re.compile(f"({_MARKS}{{3}}){_MARKS}+")  # more than three on one letter would cover the lines above


def printable(text: str) -> str:
    """A text from outside with what cannot be seen written out: ESC is "\\x1b", a turn to the left "\\u202e".

    Tabs, line breaks and all that can be seen stay as they are.
    """
    return _UNSEEN.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def one_line(text: str) -> str:
    """A name from outside as one line: a blank for whatever space it holds, and the rest as `printable` has it."""
    return printable(" ".join(text.split()))


def short_names(text: str) -> str:
    """One name from outside, or several with ", " between them: without its middle where it is too long for a line."""
    return ", ".join(_cut(part) for part in _PILED.sub(r"\1", text).split(", "))


def _cut(name: str) -> str:
    half = (_NAME - 1) // 2
    return name if len(name) <= _NAME else f"{name[:half]}…{name[-half:]}"
