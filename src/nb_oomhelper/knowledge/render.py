"""How a fix becomes the exact code for one notebook."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from string import Template

from nb_oomhelper.errors import UsageError
from nb_oomhelper.knowledge.fix import LINES, LITERALS, Fix, fields_of_code
from nb_oomhelper.knowledge.versions import spelled
from nb_oomhelper.source.call_sites import read_expression

_DIGITS = ("pid", "half", "was", "steps", "before")


def render(fix: Fix, fields: Mapping[str, str], versions: Callable[[str], str | None]) -> str:
    """Write a fix's code.

    Args:
        fix: The fix.
        fields: Text by field name, at least those in ``fix.needs``: ``name`` is a name, ``pid``, sizes and steps are
            digits, ``statement``, ``cell`` and those in ``LINES`` are whole statements, the last may be empty;
            ``block`` is such, indented.
        versions: Gives a package's installed version, or None; `installed_version` does.

    Returns:
        The code, without a line break at its end.

    Raises:
        UsageError: A field is missing, or may not stand in code.
    """
    if missing := fix.needs - fields.keys():
        raise UsageError(f"fix {fix.id} needs {', '.join(sorted(missing))}")
    fields = dict.fromkeys(LINES, "") | dict(fields)
    values = {name: _safe(fix, name, fields[LITERALS.get(name, name)]) for name in fields_of_code(fix)}
    values |= {row.field: spelled(row, versions(row.package)) for row in fix.spelling}
    empty = {f"${name}" for name in LINES if not values.get(name, " ")}
    lines = [line for line in fix.code.splitlines() if line not in empty]
    return Template("\n".join(lines)).substitute(values)


def fill(text: str, fields: Mapping[str, str]) -> str:
    """Fill in a title, note or loss, for people to read.

    Args:
        text: Template text.
        fields: Text by field name; a field that is not given stays as it is written.
    """
    return Template(text).safe_substitute(fields)


def _safe(fix: Fix, name: str, value: str) -> str:
    """Give a field's text as it may stand in code: one from outside must not change the code around it."""
    if name == "names_literal":
        return repr(value.split(", "))
    if name in LITERALS:
        return repr(value)
    if name in (*LINES, "statement"):
        fits = _is_code(value)
    elif name in ("cell", "block"):
        fits = _is_code(value if name == "cell" else f"if 1:\n{value}")
    elif name in _DIGITS:
        numbers = value.split(" ") if name == "pid" else [value]
        fits = all(number.isascii() and number.isdecimal() for number in numbers)
    else:
        found = read_expression(value)  # it must fill its text: no brackets, no comment, no second line
        fits = _is_path(found) and "\n" not in value and "\r" not in value
        fits = fits and found is not None and found.end_col_offset == len(value.encode()) and not found.col_offset
    if not fits:
        raise UsageError(f"fix {fix.id}: {value[:60]!r} cannot be used as {name}")
    return value


def _is_path(node: ast.expr | None) -> bool:
    """Whether it is a name, or attributes and items by a text below one."""
    while isinstance(node, (ast.Attribute, ast.Subscript)):
        if isinstance(node, ast.Subscript) and not (
            isinstance(node.slice, ast.Constant) and type(node.slice.value) is str
        ):
            return False
        node = node.value
    return isinstance(node, ast.Name)


def _is_code(text: str) -> bool:
    try:
        ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True
