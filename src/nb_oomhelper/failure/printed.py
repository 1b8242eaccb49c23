"""Printed tracebacks in a text, line by line: Python's own and IPython's of all versions.

Every pattern here is bounded, so that reading stays linear in the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from nb_oomhelper.failure.places import Place

_LONGEST = 4_000  # characters of one row; a longer line becomes several
_PREFIXES = 6  # of one line
_MESSAGE = 60  # rows of an error's message
_LOOSE, _CHARACTERS = 40, 16_000  # rows, or characters, that stand outside of tracebacks and are searched at once
_OVERLAP = 6  # rows of these that are searched once more with the next: a message may go on there
_COLOR = re.compile(r"\x1b(?:\[[0-9;:?]{0,40}[A-Za-z]|\][^\x07\x1b]{0,200}(?:\x07|\x1b\\))")
# What launchers, Ray, exception groups and mails put before each line.
_BEFORE = re.compile(
    r"\[?\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d\S{0,20} "
    r"| {0,8}\d{1,7} (?=\[[\dA-Za-z])|\[[A-Za-z][\w.:-]{0,30}\] (?=\[\d{4}-\d\d-)"
    r"|\[(?:rank|default)\d{1,6}\]:? ?|\[\d{1,6}\](?:<std(?:out|err)>:|:) ?"
    r"|\(\w[^()]{0,80}\bpid=\d{1,9}[^()]{0,80}\) ?| {0,40}(?:\| ){1,8}|(?:> ?){1,8}"
)
_MARKS = ("`", "*")  # of code and of bold text around a line
_HEADER = re.compile(r".{0,200}Traceback \(most recent call last\):?\s{0,9}$")
_NAMED = re.compile(r"(\w{0,40}MemoryError|ResourceExhaustedError)\s{0,80}Traceback")  # as IPython begins one
_GLUED = re.compile(r"(.{1,200}[^\s\[(])Traceback")  # what a program has printed without a line's end
_LINKS = (
    "During handling of the above exception, another exception occurred",
    "The above exception was the direct cause of the following exception",
)
_NAME = r"(?:[A-Za-z_]\w{0,60}\.){0,8}_{0,2}[A-Za-z]\w{0,80}?"
# An error's line, at a line's beginning or after what a log puts there. `except MemoryError:` is none.
# Java's are none of Python's: their whole line is a text.
_ERROR = re.compile(
    rf"(?:^|(?<=[\]):|>\-Z\d] ))(?!java\.)({_NAME}(?:Error|Exception|Interrupt|KilledWorker|Traceback)|Exception)"
    r"(\(\w{1,80}\))?(?::(?: |$)| {0,9}$)"
)
_LAST = re.compile(rf"({_NAME})(\(\w{{1,80}}\))?(?:: |:?$)")  # what ends a traceback may have any name
_FRAMES = (
    re.compile(r' {0,40}File "(?P<file>[^"]{1,500})", line (?P<line>\d{1,9})(?:, in (?P<function>.{1,200}))?'),
    re.compile(r"File (?P<file>\S.{0,500}?):(?P<line>\d{1,9}),? in (?P<function>[^(]{1,200})\("),
    re.compile(
        r"(?:Cell|Input) In ?(?P<cell>\[\d{1,9}\]),?(?: line (?P<line>\d{1,9}))?,?(?: in (?P<function>[^(]{1,200})\()?"
    ),
    re.compile(
        r"(?P<file><ipython-input-\S{1,80}>|[~/]\S{1,300}|[A-Z]:\\\S{1,300}) in "
        r"(?:(?P<function>[^(]{1,200})\(|<module>$)"
    ),
)
_ENDS = re.compile(r"""[-=]{10,}|\"{3}\s*$|'{3}\s*$""")  # what ends a message, beside a blank line
_ARROW = re.compile(r"-{1,9}> ?(\d{1,9})\b")
_TOP = ("<module>", "<cell line:", "<genexpr>")


@dataclass(frozen=True, slots=True)
class Row:
    """One line, without colors and what was put before it.

    Attributes:
        line: Its number.
        text: The line.
        printed_by: The process that printed it, as Ray and vLLM put it before the line: "(f pid=12, ip=192.0.2.1) ".
    """

    line: int
    text: str
    printed_by: str = ""


@dataclass(slots=True)
class Raised:
    """One error as it was printed.

    Attributes:
        kind: Its class, as printed, "" where it cannot be told; of one that wraps another the whole, as in
            `RayTaskError(OutOfMemoryError)`.
        rows: The message, the line with the class first.
        places: The calls before it, outermost first.
    """

    kind: str
    rows: list[Row]
    places: list[Place] = field(default_factory=list)


@dataclass(slots=True)
class Group:
    """Errors that were raised from or after each other, in the order in which they happened; or rows of no error."""

    errors: list[Raised] = field(default_factory=list)
    loose: list[Row] = field(default_factory=list)


def rows_of(text: str, first: int) -> Iterator[Row]:
    """The lines of a text.

    Args:
        text: Of any length.
        first: Number of its first line.
    """
    for number, line in enumerate(text.split("\n"), first):
        clean = _COLOR.sub("", line) if "\x1b" in line else line
        clean = clean.rstrip("\r").replace("\r", " ")
        process = ""
        for _ in range(_PREFIXES):
            if not (before := _BEFORE.match(clean)):
                break
            process = process or (before[0] if "pid=" in before[0] else "")
            clean = clean[before.end() :]
        clean = clean.strip("`*") if clean[:1] in _MARKS or clean[-1:] in _MARKS else clean
        begin = 0
        while len(clean) - begin > _LONGEST:  # between words, for a figure must stay whole
            end = clean.rfind(" ", begin + _LONGEST // 2, begin + _LONGEST) + 1 or begin + _LONGEST
            yield Row(number, clean[begin:end], process)
            begin = end
        yield Row(number, clean[begin:], process)


def groups_of(rows: Iterable[Row]) -> Iterator[Group]:
    """Put rows together to errors, and to rows that belong to none.

    Args:
        rows: A text's, in their order.
    """
    reader = _Reader()
    for row in rows:
        yield from reader.take(row)
    yield from reader.end()


class _Reader:
    """Reads rows one by one; what it keeps is the group that is not complete yet."""

    def __init__(self) -> None:
        self._group = Group()
        self._loose = 0
        self._places: list[Place] = []
        self._inside = False  # of a traceback: its calls and their code
        self._named: Row | None = None  # the class of the traceback that was begun, until its error comes
        self._linked = False  # what comes next belongs to what came last
        self._message: Raised | None = None
        self._indent = ""  # of the whole traceback, as a server's log has it

    def take(self, row: Row) -> Iterator[Group]:
        row = self._outdented(row)
        text = row.text
        if "Traceback" in text and _HEADER.match(text):
            self._indent += text[: len(text) - len(text.lstrip())]
            if glued := _GLUED.match(text):
                yield from self._rest(Row(row.line, glued[1]))
            yield from self._begin(linked="Original" in text)
            self._named = Row(row.line, named[1]) if (named := _NAMED.match(text)) else None
        elif text.startswith(_LINKS):
            self._message, self._linked = None, True
        elif place := _place_of(text):
            if not self._inside:  # Ray leaves the header out
                yield from self._begin(linked=self._message is not None)
            self._places.append(place)
        elif found := self._error_in(text):
            yield from self._raised(found, row)
        elif self._inside:
            self._inside = self._goes_on(text)
            if not self._inside:
                yield from self._rest(row)
        else:
            yield from self._rest(row)

    def _outdented(self, row: Row) -> Row:
        if self._indent and row.text.strip() and not row.text.startswith(self._indent):
            self._indent = ""
        return replace(row, text=row.text.removeprefix(self._indent)) if self._indent else row

    def end(self) -> Iterator[Group]:
        if self._group.errors or self._group.loose:
            yield self._group
        self._group, self._loose = Group(), 0
        if self._named is not None:  # it was cut before the error's line
            yield Group([Raised(self._named.text, [Row(self._named.line, "")], self._places)])
            self._named = None

    def _begin(self, *, linked: bool) -> Iterator[Group]:
        """A traceback begins: of an error of its own, or of one that belongs to the last."""
        if not (linked or self._linked or self._carries()):
            yield from self.end()
        self._inside, self._linked, self._message = True, False, None
        self._places = []

    def _carries(self) -> bool:
        """Whether the last error's text is another traceback, as of what comes from another process."""
        last = self._message
        return last is not None and (
            last.kind.endswith("Traceback") or (len(last.rows) > 1 and "error:" in last.rows[-1].text)
        )

    def _error_in(self, text: str) -> re.Match[str] | None:
        if not self._inside:
            return _ERROR.search(text[:300])
        if text[:1] == "[":  # what a log has put before the line; code is indented
            return _ERROR.search(text[:300])
        return _ERROR.match(text[:300]) or (_LAST.match(text[:300]) if self._places else None)

    def _raised(self, found: re.Match[str], row: Row) -> Iterator[Group]:
        self._named = None
        if not self._inside and not self._linked and not self._carries():
            yield from self.end()
        named = found.re is _ERROR  # else what looks like a class may be the message's first word
        said = replace(row, text=row.text[found.end() :]) if named else row
        error = Raised(found[1] + (found[2] or "") if named else "", [said], self._places)
        self._group.errors.append(error)
        self._message = error if ":" in found[0] else None  # without a colon it has no message
        self._places, self._inside, self._linked = [], False, False

    def _goes_on(self, text: str) -> bool:
        """Whether a line is a traceback's: code, an arrow, a rule; else it ends there, and its error was lost."""
        if arrow := _ARROW.match(text):
            if self._places and self._places[-1].line is None:
                last = self._places[-1]
                self._places[-1] = Place(last.function, last.file, int(arrow[1]))
            return True
        return not text.strip() or text[0] in " \t-(0123456789^~[\"'"

    def _rest(self, row: Row) -> Iterator[Group]:
        """A row of the message that was begun, or one of no error."""
        blank = not row.text.strip() or _ENDS.match(row.text) is not None
        if self._message is not None and self._continues(self._message, row):
            return
        if self._group.errors:
            if blank or self._carries():  # a link may follow
                return
            yield from self.end()
        self._message = None
        self._group.loose.append(row)
        self._loose += len(row.text)
        if len(self._group.loose) >= _LOOSE or self._loose >= _CHARACTERS:
            tail = self._group.loose[-_OVERLAP:] if len(self._group.loose) > _OVERLAP else []
            yield from self.end()
            self._group.loose = tail

    def _continues(self, message: Raised, row: Row) -> bool:
        """Take a row into the message, if it is one of its own."""
        begun = any(one.text.strip() for one in message.rows)
        ended = (not row.text.strip() and begun) or (_ENDS.match(row.text) is not None and not self._carries())
        if ended or len(message.rows) >= _MESSAGE:
            if not self._carries():
                self._message = None
            return ended
        message.rows.append(row)
        return True


def _place_of(text: str) -> Place | None:
    for pattern in _FRAMES:
        found = pattern.match(text)
        if found is not None:
            told = found.groupdict()
            function = (told.get("function") or "<module>").strip()
            function = "<module>" if function.startswith(_TOP) else function
            file = told.get("file") or f"<ipython-input-{(told.get('cell') or '').strip('[]')}>"
            line = told.get("line")
            return Place(function, file.replace("\\", "/"), int(line) if line else None)
    return None
