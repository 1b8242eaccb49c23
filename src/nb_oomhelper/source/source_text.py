"""A piece of source with its syntax tree and its tokens, all by their places in the text.

A place is a number of characters from the start; an end is the place behind the last one.
`asttokens` would give the same, but IPython 7.34 does not bring it, and it trusts the columns of Python 3.12.1.
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
T = TypeVar("T")
Edit = tuple[int, int, str]  # from, to, and what stands there then


class UnwritableError(ValueError):
    """A text that cannot be changed as asked; its text is the key of an obstacle."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A token that is no comment and no line break.

    Attributes:
        operator: The operator, bracket or comma that it is; "" for all else, also for a bracket within a text.
        start, end: Its place.
    """

    operator: str
    start: int
    end: int

    @property
    def depth(self) -> int:
        """By how many brackets one is deeper inside behind it."""
        return (self.operator in _OPEN) - (self.operator in _CLOSE)


def first(found: Iterator[T]) -> T:
    """Take the first one.

    Raises:
        UnwritableError: There is none: parser and tokenizer do not agree on where things stand.
    """
    for one in found:
        return one
    raise UnwritableError("unparsable")


class SourceText:
    """One text.

    Attributes:
        text: The text; its lines end with "\\n".
        tree: Its syntax tree.
        tokens: Its tokens, in order.
    """

    def __init__(self, text: str) -> None:
        """Read a text.

        Raises:
            UnwritableError: It is no Python.
        """
        self.text = text
        self._lines = text.split("\n")
        self._starts = [0]
        for line in self._lines:
            self._starts.append(self._starts[-1] + len(line) + 1)
        try:
            if "\r" in text:  # a line break to the parser, none to us
                raise ValueError
            self.tree = ast.parse(text)
            self.tokens = self._read_tokens()
        except (SyntaxError, ValueError, RecursionError, MemoryError, tokenize.TokenError):
            raise UnwritableError("unparsable") from None

    def span(self, node: ast.expr | ast.keyword | ast.stmt) -> tuple[int, int]:
        """Find where a node starts and ends, without brackets around it."""
        end = self._place(node.end_lineno or node.lineno, node.end_col_offset or 0)
        return self._place(node.lineno, node.col_offset), end

    def token_from(self, place: int) -> Token:
        """Find the first token from a place on."""
        return first(token for token in self.tokens if token.start >= place)

    def before_dot(self, end: int) -> Token:
        """Find the token before the dot of an attribute that ends there."""
        name = first(number for number, token in enumerate(self.tokens) if token.end == end)
        return self.tokens[name - 2]

    def brackets(self, end: int) -> tuple[int, int]:
        """Number the tokens that are a pair of brackets, of which the second ends there."""
        opened: list[int] = []
        for number, token in enumerate(self.tokens):
            if token.depth > 0:
                opened.append(number)
            elif token.depth < 0 and opened:
                opening = opened.pop()
                if token.end == end:
                    return opening, number
        raise UnwritableError("unparsable")

    def line_end(self, place: int) -> int:
        """Find the end of a place's line."""
        end = self.text.find("\n", place)
        return len(self.text) if end < 0 else end

    def indent(self, place: int) -> str | None:
        """Give the white space before a place, if it begins a line that is not the first."""
        start = self.line_start(place)
        before = self.text[start:place]
        return None if before.strip() or not start else before

    def cut(self, start: int, end: int, following: int) -> Edit:
        """Take something out with the line that it had to itself, or with the blanks up to what follows it.

        Args:
            start: Where it starts.
            end: Where it ends.
            following: Where the next token starts; a comment before that stays.
        """
        line_end = self.line_end(end)
        rest = self.text[end:line_end]
        if self.indent(start) is not None:
            if not rest.strip():
                return self.line_start(start), min(line_end + 1, len(self.text)), ""
            return start, end + len(rest) - len(rest.lstrip()), ""
        return start, end if "#" in self.text[end:following] else following, ""

    def stands_alone(self, start: int, end: int) -> bool:
        """Tell whether code has its lines to itself, but for white space before it and a comment behind it.

        Args:
            start, end: Where it starts and ends.
        """
        rest = self.text[end : self.line_end(end)].strip()
        return not self.text[self.line_start(start) : start].strip() and (not rest or rest.startswith("#"))

    def edited(self, edits: Sequence[Edit]) -> str:
        """Give the text with changes that do not overlap."""
        text = self.text
        for start, end, new in sorted(edits, reverse=True):
            text = text[:start] + new + text[end:]
        return text

    def line_start(self, place: int) -> int:
        """Find the start of a place's line."""
        return self.text.rfind("\n", 0, place) + 1

    def _place(self, line: int, column: int) -> int:
        """Turn a line from 1 and a column in UTF-8 bytes into a place."""
        return self._starts[line - 1] + len(self._lines[line - 1].encode()[:column].decode())

    def _read_tokens(self) -> list[Token]:
        # letters beyond ASCII as "x": Python 3.12.1 counts columns wrongly where they stand before a text of many lines
        plain = re.sub(r"[^\x00-\x7f]", "x", self.text)
        found = []
        for token in tokenize.generate_tokens(io.StringIO(plain).readline):
            start, end = (self._starts[line - 1] + column for line, column in (token.start, token.end))
            if token.type not in _BLANK:
                found.append(Token(operator=token.string if token.type == tokenize.OP else "", start=start, end=end))
        return found
