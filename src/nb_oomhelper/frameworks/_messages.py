"""Error texts matched against rules that are data: one row a message format.

A rule has a *trigger*, which every text of that format contains, and a *marker*, which tells the format
from others with the same trigger. Each place where the trigger matches opens a window that ends at the
next one; markers and fields are searched in that window alone, so that figures of two messages in one
text never mix. Fields are searched one by one and each may be missing: programs cut and re-wrap texts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, lru_cache
from itertools import accumulate

from nb_oomhelper.frameworks._talk import is_spoken_of
from nb_oomhelper.records.event import OomEvent, Remote
from nb_oomhelper.units import parse_bytes

# A size as frameworks print it. The number is bounded so that a search stays linear in the text.
SIZE = r"\d[\d.,]{0,30} ?(?:bytes?|[KMGTPE]i?B)(?![^\W_])"

_HALF = 64 << 10  # characters kept of either end of a long text: wrappers put the message last
_WINDOW = 6_000  # the longest message seen has 1,100; each process on the device adds 50
_PLACES = 50  # places where one trigger matched that are looked at, the last ones
_KEPT = 4_000  # characters of a text that an event keeps
_SAID = 300  # characters of a message in which its first figures stand
ORDINALS = 1_024  # a device number above this is a broken one
_COLOR = re.compile(  # what was pasted has often lost the escape character; the last are links
    r"\x1b\[[\d;]{0,20}[A-Za-z]|\[\d{1,3}(?:;\d{1,3}){0,5}m|\x1b\][^\x07\x1b]{0,300}(?:\x07|\x1b\\)"
)
_QUOTED = re.compile(r"^[ \t]*[>|│]+|│[ \t]*$|\\n", re.MULTILINE)  # e-mail, groups of exceptions, rich, a repr
# All that a shell says of a command that was killed, in the languages of the C library.
_KILLED = "Killed|已杀死|強制結束|強制終了|죽었음|Getötet|Processus arrêté|Terminado \\(killed\\)|Ucciso|Убито"
_ALONE = re.compile(rf"^[ \t]*(?:{_KILLED})(?:: 9)?[ \t]*\r?$", re.MULTILINE)
_SHELL = "shell: Killed"
_CLASS = re.compile(r"[\w.]{1,80}(?:Error|Exception): $")
_compiled = cache(re.compile)


@dataclass(frozen=True, slots=True)
class Rule:
    """One message format.

    Attributes:
        format: Its id, e.g. "pt.cuda.capacity".
        backend: Where memory ran out: "cuda", "host", …
        trigger: Regular expression; where it matches, the window begins.
        marker: Regular expression that the window must contain; "" asks for nothing more.
        probable: True where the same text also has causes that are not a lack of memory.
        without: Regular expression that the window must not contain; "" forbids nothing.
        kind: Regular expression that the error's class must match, where it is known; "" takes any class.
        known: Whether the class must be known for it: the text alone says too little.
        remote: The kind of process that ran out, where the text is never about this one.
    """

    format: str
    backend: str
    trigger: str
    marker: str = ""
    probable: bool = False
    without: str = ""
    kind: str = ""
    known: bool = False
    remote: Remote | None = None

    def __post_init__(self) -> None:
        _compiled(self.trigger)  # while there is time: an error is to be read at once

    def suits(self, exception_type: str) -> bool:
        """Whether errors of this class may bring it."""
        if not exception_type:
            return not self.known
        return not self.kind or _compiled(self.kind).search(exception_type) is not None

    def fits(self, window: str) -> bool:
        """Whether the text from the trigger on is of this format."""
        if self.without and _compiled(self.without).search(window):
            return False
        return _compiled(self.marker).search(window) is not None


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Messages:
    """All messages of one framework: what a file in `frameworks/messages/` has.

    Attributes:
        name: As events name the framework, e.g. "xgboost".
        module: Its package: an error of a class of that package is read by these rules first.
        rules: Its formats, in order of preference.
        fields: Regular expressions by attribute of `OomEvent`, or by a name of the framework's own; what the first
            group that takes part has found is a size, or an ordinal for "device".
    """

    name: str
    module: str
    rules: tuple[Rule, ...]
    fields: Mapping[str, str] = field(default_factory=dict)

    def recognize(self, text: str, exception_type: str) -> OomEvent | None:
        """Read one of these messages; None where the text is another's, or not about a lack of memory.

        Args:
            text: The error's own.
            exception_type: Its class, as a traceback prints it.
        """
        found = read_message(self.name, self.rules, self.fields, text, exception_type)
        return None if found is None else self.complete(found[1], found[0].window)

    def complete(self, event: OomEvent, window: str) -> OomEvent:  # noqa: ARG002
        """Add what no pattern of one field can read.

        Args:
            event: As the patterns have read it.
            window: The message, on one line.
        """
        return event


def read_message(
    name: str, rules: Iterable[Rule], fields: Mapping[str, str], text: str, exception_type: str
) -> tuple[Match, OomEvent] | None:
    """Read a framework's message: which of its rules matched, and what its patterns have read.

    Args:
        name: The framework's.
        rules: Its formats, in order of preference.
        fields: As `Messages` has them.
        text: The error's own.
        exception_type: Its class, as a traceback prints it.

    Returns:
        None where the text is another's, or not about a lack of memory.
    """
    words = squeeze(text)
    match = find(
        rules, words, exception_type, lambda window: bool(read_fields(fields, window)), lambda: line_starts(text)
    )
    if match is None:
        return None
    return match, event_of(name, match, text, exception_type, read_fields(fields, match.window))


def event_of(name: str, match: Match, text: str, exception_type: str, fields: Mapping[str, str]) -> OomEvent:
    """Make the event of a match.

    Args:
        name: The framework's.
        match: What was found.
        text: The error's own.
        exception_type: Its class, as a traceback prints it.
        fields: Texts of sizes, by attribute of `OomEvent`; those of other names become `figures`.
    """
    on_host = match.rule.backend == "host"
    sizes = {key: size for key, value in fields.items() if (size := parse_bytes(value)) is not None}
    device = sizes.pop("device", None)
    return OomEvent(
        framework=name,
        backend=match.rule.backend,
        exception_type=exception_type,
        message=excerpt(text, match),
        format=match.rule.format,
        device=None if on_host or device is None or device >= ORDINALS else device,
        requested=sizes.pop("requested", None),
        capacity=sizes.pop("capacity", None),
        free=sizes.pop("free", None),
        allocated=sizes.pop("allocated", None),
        reserved=sizes.pop("reserved", None),
        cached=sizes.pop("cached", None),
        limit=sizes.pop("limit", None),
        certainty="probable" if match.rule.probable else "sure",
        figures=tuple(sorted(sizes.items())),  # what is left
        remote=match.rule.remote,
    )


@lru_cache(maxsize=1)  # every recognizer asks for it; who has asked them all empties it
def squeeze(text: str) -> str:
    """One blank for each run of white space, no colors, no marks of quoting, and of a long text both ends only.

    What tells only by standing alone on its line says so.
    """
    return " ".join(_plain(text).split())


@lru_cache(maxsize=1)
def line_starts(text: str) -> frozenset[int]:
    """Where in the squeezed text its lines begin.

    Args:
        text: As `squeeze` takes it.
    """
    lines = [" ".join(line.split()) for line in _plain(text).splitlines()]
    return frozenset(accumulate(len(line) + 1 for line in lines if line))


def _plain(text: str) -> str:
    if len(text) > 2 * _HALF:
        text = f"{text[:_HALF]} … {text[-_HALF:]}"
    text = _ALONE.sub(_SHELL, text)
    return _QUOTED.sub(" ", _COLOR.sub("", text.replace("\0", "")))  # UTF-16 that was read as bytes


def find(
    rules: Iterable[Rule],
    text: str,
    exception_type: str,
    has_figures: Callable[[str], bool],
    starts: Callable[[], frozenset[int]],
) -> Match | None:
    """The rule that matches: sure ones before probable ones.

    Of several places in the text the last one counts, since wrappers quote the real message last. A sentence that only
    speaks of the error is none; where figures are printed it was one.

    Args:
        rules: In order of preference.
        text: As `squeeze` returns it.
        exception_type: The error's class; "" where it is not known.
        has_figures: Whether a message has any.
        starts: Where in the text its lines begin.
    """
    by_trigger: dict[str, list[Rule]] = {}
    for rule in rules:
        if rule.suits(exception_type):
            by_trigger.setdefault(rule.trigger, []).append(rule)
    probable = None
    for trigger, group in by_trigger.items():
        if _compiled(trigger).search(text) is None:  # nearly all of them: fast
            continue
        for start, end, window in _windows(trigger, text):
            fitting = next((rule for rule in group if rule.fits(window)), None)
            if fitting is None or (fitting.probable and probable is not None):
                continue
            told = exception_type and not fitting.probable
            if not told and not has_figures(window[:_SAID]) and _is_talk(text, start, end, starts):
                continue
            if not fitting.probable:
                return Match(fitting, window, text[:start])
            probable = Match(fitting, window, text[:start])
    return probable


def _is_talk(text: str, start: int, end: int, starts: Callable[[], frozenset[int]]) -> bool:
    """Whether a message that begins and ends there is only spoken of; what a line begins with is said."""
    before, after = text[max(0, start - _SAID) : start], text[end : end + _SAID]
    if not is_spoken_of(before, after):
        return False
    named = _CLASS.search(before)
    begins = start - (len(named[0]) if named else 0) in starts()
    return not begins or is_spoken_of("", after)


def _windows(trigger: str, text: str) -> Iterator[tuple[int, int, str]]:
    """Where a trigger matches, from where to where, and the text from there to its next match, last first."""
    end = len(text)
    for found in [*_compiled(trigger).finditer(text)][-_PLACES:][::-1]:
        start = found.start()
        yield start, found.end(), text[start : min(end, start + _WINDOW)]
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
        found = _compiled(pattern).search(window)
        if found is not None:
            fields[name] = next(group for group in found.groups() if group is not None)
    return fields
