"""Error texts matched against rules that are data: one row a message format.

A rule has a *trigger*, which every text of that format contains, and a *marker*, which tells the format
from others with the same trigger. Each place where the trigger matches opens a window that ends at the
next one; markers and fields are searched in that window alone, so that figures of two messages in one
text never mix. Fields are searched one by one and each may be missing: programs cut and re-wrap texts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

# A size as frameworks print it. The number is bounded so that a search stays linear in the text.
SIZE = r"\d[\d.,]{0,30} ?(?:bytes?|[KMGTPE]i?B)\b"

_HALF = 64 << 10  # characters kept of either end of a long text: wrappers put the message last
_WINDOW = 6_000  # the longest message seen has 1,100; each process on the device adds 50
_PLACES = 50  # places where one trigger matched that are looked at, the last ones
_KEPT = 4_000  # characters of a text that an event keeps
_COLOR = re.compile(r"\x1b\[[\d;]{0,20}m")


@dataclass(frozen=True, slots=True)
class Rule:
    """One message format.

    Attributes:
        format: Its id, e.g. "pt.cuda.capacity".
        backend: Where memory ran out: "cuda", "host", …
        trigger: Regular expression; where it matches, the window begins.
        marker: Regular expression that the window must contain; "" asks for nothing more.
        probable: True where the same text also has causes that are not a lack of memory.
    """

    format: str
    backend: str
    trigger: str
    marker: str = ""
    probable: bool = False


@dataclass(frozen=True, slots=True)
class Match:
    """A rule that matched.

    Attributes:
        rule: The rule.
        window: The text from the trigger on, white space squeezed, at most 6,000 characters.
        before: What stands before the window.
    """

    rule: Rule
    window: str
    before: str


def squeeze(text: str) -> str:
    """One blank for each run of white space, no terminal colors, and of a long text both ends only."""
    if len(text) > 2 * _HALF:
        text = f"{text[:_HALF]} … {text[-_HALF:]}"
    return " ".join(_COLOR.sub("", text).split())


def find(rules: Iterable[Rule], text: str) -> Match | None:
    """The rule that matches: sure ones before probable ones.

    Of several places in the text the last one counts, since wrappers quote the real message last.

    Args:
        rules: In order of preference.
        text: As `squeeze` returns it.
    """
    by_trigger: dict[str, list[Rule]] = {}
    for rule in rules:
        by_trigger.setdefault(rule.trigger, []).append(rule)
    probable = None
    for trigger, group in by_trigger.items():
        for start, window in _windows(trigger, text):
            fitting = next((rule for rule in group if re.search(rule.marker, window)), None)
            if fitting is not None and not fitting.probable:
                return Match(fitting, window, text[:start])
            if fitting is not None and probable is None:
                probable = Match(fitting, window, text[:start])
    return probable


def _windows(trigger: str, text: str) -> Iterator[tuple[int, str]]:
    """Where a trigger matches and the text from there to its next match, last first."""
    end = len(text)
    for start in reversed([found.start() for found in re.finditer(trigger, text)][-_PLACES:]):
        yield start, text[start : min(end, start + _WINDOW)]
        end = start


def excerpt(text: str, match: Match) -> str:
    """What an event keeps of a text: all of it, or of a long one the message that was found in it.

    Args:
        text: The error's own.
        match: What was found.
    """
    return text if len(text) <= _KEPT else match.window[:_KEPT]


def read_fields(patterns: Mapping[str, str], window: str) -> dict[str, str]:
    """The first thing that each pattern finds: the text of its first group that took part.

    Args:
        patterns: Regular expressions by the field's name.
        window: The text to search, on one line.
    """
    fields = {}
    for name, pattern in patterns.items():
        found = re.search(pattern, window)
        if found is not None:
            fields[name] = next(group for group in found.groups() if group is not None)
    return fields
