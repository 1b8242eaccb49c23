"""The text of one call in a statement: where its arguments stand, and the same text with one argument changed.

Texts are cut at the places that the parser and the tokenizer give, never written anew, so that comments, quotes and
line breaks stay as they are. Each change gives a new text; the call is looked up in it again.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

_BLANK = frozenset(
    {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
)
_OPEN, _CLOSE = frozenset("([{"), frozenset(")]}")
# From Python 3.12 on f-strings, and from 3.14 on t-strings, come in pieces; what stands in them is text to us.
_BEGINS = frozenset(getattr(tokenize, name, -1) for name in ("FSTRING_START", "TSTRING_START"))
_ENDS = frozenset(getattr(tokenize, name, -1) for name in ("FSTRING_END", "TSTRING_END"))
T = TypeVar("T")


class UnwritableError(ValueError):
    """A text that cannot be changed as asked; its text is the key of an obstacle."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A token that is no comment and no line break, by its place in the text: characters from 0, end excluded."""

    text: str
    start: int
    end: int


def _first(found: Iterator[T]) -> T:
    """The first one.

    Raises:
        UnwritableError: There is none: parser and tokenizer do not agree on where things stand.
    """
    for one in found:
        return one
    raise UnwritableError("unparsable")


def given(call: ast.Call) -> list[ast.expr]:
    """What a call is given, by place and by name."""
    return [*call.args, *(keyword.value for keyword in call.keywords)]


class CallText:
    """A statement's text, and one call in it.

    Attributes:
        text: The statement.
        call: The call.
        above: What the call is part of, from the inside out.
    """

    def __init__(self, text: str, position: tuple[int, int], function: str) -> None:
        """Find the call again.

        Args:
            text: The statement; its lines end with "\\n".
            position: The call's line from 1 and its column in UTF-8 bytes.
            function: What is called, as `ast.unparse` writes it: chained calls begin at the same place.

        Raises:
            UnwritableError: The text is no statement, or the call is not in it.
        """
        self.text = text
        self._lines = text.split("\n")
        self._starts = [0]
        for line in self._lines:
            self._starts.append(self._starts[-1] + len(line) + 1)
        try:
            if "\r" in text:  # a line break to the parser, none to us
                raise ValueError
            tree = ast.parse(text)
            self._tokens = self._read_tokens()
        except (SyntaxError, ValueError, RecursionError, MemoryError, tokenize.TokenError):
            raise UnwritableError("unparsable") from None
        parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
        self.call = self._find(tree, position, function)
        self.above: list[ast.AST] = []
        node: ast.AST | None = parents.get(self.call)
        while node is not None:
            self.above.append(node)
            node = parents.get(node)
        if any(type(node).__name__ in ("JoinedStr", "TemplateStr") for node in self.above):
            raise UnwritableError("unparsable")  # within a text: before Python 3.12 nobody says where it stands there

    # -- looking ---------------------------------------------------------------------------------------------------

    def source(self, node: ast.expr) -> str:
        """The text of an expression, without brackets around it."""
        start, end = self._span(node)
        return self.text[start:end]

    def keyword(self, names: Sequence[str]) -> ast.keyword | None:
        """The argument that is written with one of these names, or None."""
        return next((one for one in self.call.keywords if one.arg in names), None)

    def links(self) -> list[tuple[str, ast.Call]]:
        """The method calls that follow the call, with their names, from the inside out."""
        found = []
        inner: ast.AST = self.call
        for attribute, call in zip(self.above, self.above[1:], strict=False):
            if isinstance(attribute, ast.Attribute) and attribute.value is inner and isinstance(call, ast.Call):
                found.append((attribute.attr, call))
            elif not (isinstance(inner, ast.Attribute) and isinstance(attribute, ast.Call) and attribute.func is inner):
                break
            inner = attribute
        return found

    # -- changing --------------------------------------------------------------------------------------------------

    def replaced(self, node: ast.expr, new: str) -> str:
        """The text with another expression in one's place."""
        return self._edited([(*self._span(node), new)])

    def added(self, item: str, within: ast.Call | ast.Dict) -> str:
        """The text with one more argument, or entry of a dict, at the end and in the layout of those before it."""
        first, last = self._brackets(within)
        inside = self._tokens[first + 1 : last]
        if not inside:
            return self._edited([(self._tokens[first].end, self._tokens[first].end, item)])
        end, close = inside[-1].end, self._tokens[last].start
        comma = inside[-1].text == ","
        begins = self._segments(within, first, last)[-1][0].start
        indent = self._indent(begins)
        if indent is None:
            return self._edited([(end, end, f"{' ' if comma else ', '}{item}{',' if comma else ''}")])
        line_end = self._line_end(end)
        at = end if close < line_end else line_end  # after a comment on the last argument's line
        line = f"\n{indent}{item}{',' if comma else ''}"
        if comma or at == end:
            return self._edited([(at, at, line if comma else f",{line}")])
        return self._edited([(end, end, ","), (at, at, line)])

    def removed(self, keyword: ast.keyword) -> str:
        """The text without a named argument; comments beside it stay."""
        first, last = self._brackets(self.call)
        begin = self._offset(keyword.lineno, keyword.col_offset)
        segments = self._segments(self.call, first, last)
        number = _first(n for n, segment in enumerate(segments) if segment[0].start == begin)
        start, end = segments[number][0].start, segments[number][-1].end
        after = self._token_at(end)
        before = segments[number - 1][-1].end if number else None
        if after.text == "," and "#" in self.text[end : after.start]:
            return self._edited([(start, end, ""), (after.start, after.end, "")])
        if after.text == "," and (number + 1 < len(segments) or before is None or self._indent(start) is not None):
            return self._edited(self._cut(start, after.end, self._token_at(after.end).start))
        if before is None:
            return self._edited([(start, end, "")])
        comma = self._token_at(before)  # the last one goes with the comma before it, and leaves one after it
        if "#" not in self.text[comma.end : start]:
            return self._edited([(comma.start, end, "")])
        return self._edited([(comma.start, comma.end, ""), *self._cut(start, end, end)])

    def inserted(self, text: str) -> str:
        """The text with something between the call's object and the name of its method."""
        function = self.call.func
        if not isinstance(function, ast.Attribute):
            raise UnwritableError("unparsable")
        at = self._before_dot(self._span(function)[1]).end
        return self._edited([(at, at, text)])

    def unchained(self, link: ast.Call) -> str:
        """The text without one of the method calls that follow."""
        function = self._span(link.func)[1]
        before = self._before_dot(function)
        dot, end = self._token_at(before.end).start, self._span(link)[1]
        start = dot if "#" in self.text[before.end : dot] else before.end
        return self._edited(self._cut(start, end, end) if start == dot else [(start, end, "")])

    # -- places ----------------------------------------------------------------------------------------------------

    def _find(self, tree: ast.Module, position: tuple[int, int], function: str) -> ast.Call:
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and (node.lineno, node.col_offset) == position:  # noqa: SIM102
                if ast.unparse(node.func) == function:
                    return node
        raise UnwritableError("unparsable")

    def _offset(self, line: int, column: int) -> int:
        """Turn a line from 1 and a column in UTF-8 bytes into a place in the text."""
        return self._starts[line - 1] + len(self._lines[line - 1].encode()[:column].decode())

    def _span(self, node: ast.expr) -> tuple[int, int]:
        end = self._offset(node.end_lineno or node.lineno, node.end_col_offset or 0)
        return self._offset(node.lineno, node.col_offset), end

    def _read_tokens(self) -> list[Token]:
        # letters beyond ASCII as "x": Python 3.12.1 counts columns wrongly where they stand before a text of many lines
        plain = re.sub(r"[^\x00-\x7f]", "x", self.text)
        spans: list[tuple[int, int]] = []
        within: list[int] = []  # where the f-strings begin that we are in
        for token in tokenize.generate_tokens(io.StringIO(plain).readline):
            start, end = (self._starts[line - 1] + column for line, column in (token.start, token.end))
            if token.type in _BEGINS:
                within.append(start)
            elif token.type in _ENDS:
                start = within.pop()
            if not within and token.type not in _BLANK:
                spans.append((start, end))
        return [Token(text=self.text[start:end], start=start, end=end) for start, end in spans]

    def _token_at(self, place: int) -> Token:
        """The first token from a place on."""
        return _first(token for token in self._tokens if token.start >= place)

    def _before_dot(self, end: int) -> Token:
        """The token before the dot of an attribute that ends there."""
        name = _first(number for number, token in enumerate(self._tokens) if token.end == end)
        return self._tokens[name - 2]

    def _brackets(self, node: ast.Call | ast.Dict) -> tuple[int, int]:
        """The numbers of the tokens that open and close a call's arguments or a dict."""
        end = self._span(node)[1]
        opened: list[int] = []
        for number, token in enumerate(self._tokens):
            if token.text in _OPEN:
                opened.append(number)
            elif token.text in _CLOSE and opened:
                first = opened.pop()
                if token.end == end:
                    return first, number
        raise UnwritableError("unparsable")

    def _segments(self, node: ast.Call | ast.Dict, first: int, last: int) -> list[list[Token]]:
        """The tokens of each argument between two brackets, without the commas between them."""
        values = [*node.args, *(one.value for one in node.keywords)] if isinstance(node, ast.Call) else node.values
        inner = [self._span(value) for value in values]  # a lambda has commas that stand in no bracket
        segments: list[list[Token]] = [[]]
        depth = 0
        for token in self._tokens[first + 1 : last]:
            depth += (token.text in _OPEN) - (token.text in _CLOSE)
            if token.text == "," and not depth and not any(start < token.start < end for start, end in inner):
                segments.append([])
            else:
                segments[-1].append(token)
        return [segment for segment in segments if segment]

    def _line_start(self, place: int) -> int:
        return self.text.rfind("\n", 0, place) + 1

    def _line_end(self, place: int) -> int:
        end = self.text.find("\n", place)
        return len(self.text) if end < 0 else end

    def _indent(self, place: int) -> str | None:
        """The white space before a place, if it begins its line."""
        before = self.text[self._line_start(place) : place]
        return None if before.strip() or not self._line_start(place) else before

    def _cut(self, start: int, end: int, following: int) -> list[tuple[int, int, str]]:
        """Take something out with the line that it had to itself, or with the blanks up to what follows it."""
        line_end = self._line_end(end)
        rest = self.text[end:line_end]
        if self._indent(start) is not None:
            if not rest.strip():
                return [(self._line_start(start), min(line_end + 1, len(self.text)), "")]
            return [(start, end + len(rest) - len(rest.lstrip()), "")]
        return [(start, end if "#" in self.text[end:following] else following, "")]

    def _edited(self, edits: list[tuple[int, int, str]]) -> str:
        text = self.text
        for start, end, new in sorted(edits, reverse=True):
            text = text[:start] + new + text[end:]
        return text
