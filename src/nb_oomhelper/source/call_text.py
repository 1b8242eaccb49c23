"""The text of one call in a statement: where its arguments stand, and the same text with one argument changed.

Texts are cut at the places that the parser and the tokenizer give, never written anew, so that comments, quotes and
line breaks stay as they are. Each change gives a new text; the call is looked up in it again.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence

from nb_oomhelper.source.source_text import SourceText, Token, UnwritableError, first
from nb_oomhelper.source.tree import arguments, parents_of


class CallText:
    """A statement's text, and one call in it.

    Attributes:
        whole: The statement.
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
        self.whole = SourceText(text)
        nodes = list(ast.walk(self.whole.tree))
        parents = parents_of(nodes)
        calls = (node for node in nodes if isinstance(node, ast.Call) and (node.lineno, node.col_offset) == position)
        self.call = first(call for call in calls if ast.unparse(call.func) == function)
        self.above: list[ast.AST] = []
        node: ast.AST | None = parents.get(self.call)
        while node is not None:
            self.above.append(node)
            node = parents.get(node)
        if any(type(node).__name__ in ("JoinedStr", "TemplateStr") for node in self.above):
            raise UnwritableError("unparsable")  # within a text: before Python 3.12 nobody says where it stands there

    def source(self, node: ast.expr) -> str:
        """Give the text of an expression, without brackets around it."""
        start, end = self.whole.span(node)
        return self.whole.text[start:end]

    def keyword(self, names: Sequence[str]) -> ast.keyword | None:
        """Find the argument that is written with one of these names; None where there is none."""
        return next((one for one in self.call.keywords if one.arg in names), None)

    def links(self) -> list[tuple[str, ast.Call]]:
        """Give the method calls that follow the call, with their names, from the inside out."""
        found = []
        inner: ast.AST = self.call
        for attribute, call in zip(self.above, self.above[1:], strict=False):
            if isinstance(attribute, ast.Attribute) and attribute.value is inner and isinstance(call, ast.Call):
                found.append((attribute.attr, call))
            elif not (isinstance(inner, ast.Attribute) and isinstance(attribute, ast.Call) and attribute.func is inner):
                break
            inner = attribute
        return found


class CallEditor(CallText):
    """The same, changed: each method gives the whole text with one change, and leaves the editor as it is."""

    def replaced(self, node: ast.expr, new: str) -> str:
        """Put another expression in one's place.

        Args:
            node: An expression of the statement.
            new: The text of the other one.
        """
        return self.whole.edited([(*self.whole.span(node), new)])

    def added(self, item: str, within: ast.Call | ast.Dict) -> str:
        """Add an argument, or an entry of a dict, at the end and in the layout of those before it.

        Args:
            item: Its text.
            within: The call or the dict.
        """
        whole = self.whole
        opening, closing = whole.brackets(whole.span(within)[1])
        inside = whole.tokens[opening + 1 : closing]
        if not inside:
            return whole.edited([(whole.tokens[opening].end, whole.tokens[opening].end, item)])
        end, close = inside[-1].end, whole.tokens[closing].start
        comma = inside[-1].operator == ","
        indent = whole.indent(self._segments(within)[-1][0].start)
        if indent is None:
            return whole.edited([(end, end, f"{' ' if comma else ', '}{item}{',' if comma else ''}")])
        line_end = whole.line_end(end)
        at = end if close < line_end else line_end  # after a comment on the last argument's line
        line = f"\n{indent}{item}{',' if comma else ''}"
        if comma or at == end:
            return whole.edited([(at, at, line if comma else f",{line}")])
        return whole.edited([(end, end, ","), (at, at, line)])

    def removed(self, keyword: ast.keyword) -> str:
        """Take a named argument away; comments beside it stay."""
        whole, segments = self.whole, self._segments(self.call)
        begin = whole.span(keyword)[0]
        number = first(n for n, segment in enumerate(segments) if segment[0].start == begin)
        start, end = segments[number][0].start, segments[number][-1].end
        after = whole.token_from(end)
        before = segments[number - 1][-1].end if number else None
        if after.operator == "," and "#" in whole.text[end : after.start]:
            return whole.edited([(start, end, ""), (after.start, after.end, "")])
        if after.operator == "," and (number + 1 < len(segments) or before is None or whole.indent(start) is not None):
            return whole.edited([whole.cut(start, after.end, whole.token_from(after.end).start)])
        if before is None:
            return whole.edited([(start, end, "")])
        comma = whole.token_from(before)  # the last one goes with the comma before it, and leaves one after it
        if "#" not in whole.text[comma.end : start]:
            return whole.edited([(comma.start, end, "")])
        return whole.edited([(comma.start, comma.end, ""), whole.cut(start, end, end)])

    def inserted(self, text: str) -> str:
        """Put something between the call's object and the name of its method."""
        function = self.call.func
        if not isinstance(function, ast.Attribute):
            raise UnwritableError("unparsable")
        at = self.whole.before_dot(self.whole.span(function)[1]).end
        return self.whole.edited([(at, at, text)])

    def unchained(self, link: ast.Call) -> str:
        """Take one of the method calls away that follow."""
        whole = self.whole
        before = whole.before_dot(whole.span(link.func)[1])
        dot, end = whole.token_from(before.end).start, whole.span(link)[1]
        commented = "#" in whole.text[before.end : dot]
        return whole.edited([whole.cut(dot, end, end) if commented or dot == before.end else (before.end, end, "")])

    def _segments(self, node: ast.Call | ast.Dict) -> list[list[Token]]:
        """The tokens of each argument between the brackets of a call or a dict, without the commas between them."""
        opening, closing = self.whole.brackets(self.whole.span(node)[1])
        values = arguments(node) if isinstance(node, ast.Call) else node.values
        inner = [self.whole.span(value) for value in values]  # a lambda has commas that stand in no bracket
        segments: list[list[Token]] = [[]]
        depth = 0
        for token in self.whole.tokens[opening + 1 : closing]:
            depth += token.depth
            if token.operator == "," and not depth and not any(start < token.start < end for start, end in inner):
                segments.append([])
            else:
                segments[-1].append(token)
        return [segment for segment in segments if segment]
