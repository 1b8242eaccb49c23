"""What a fix's code does, read once off its syntax tree: nobody searches the text of the code for it."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from string import Template

from nb_oomhelper.source.call_sites import bound_names, read_tree


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeFacts:
    """What a template's own lines do, whatever its fields are filled in with.

    Attributes:
        releases: They give back what the failed cell keeps, and the caches of the frameworks.
        binds: The names that they bind: not those of the fix's subject, of the user's statement or of their cell.
    """

    releases: bool = False
    binds: frozenset[str] = frozenset()


def read_facts(code: str) -> CodeFacts:
    """Read a template; what is for a shell is no Python, never runs here, and does nothing of this."""
    template = Template(code)
    tree = read_tree(template.safe_substitute(dict.fromkeys(template.get_identifiers(), "_") | {"block": "    pass"}))
    nodes = list(ast.walk(tree)) if tree is not None else []
    return CodeFacts(
        releases=any(_is_release(node) for node in nodes),
        binds=frozenset(name for node in nodes for name in bound_names(node)) - {"_"},
    )


def _is_release(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func) == "nb_oomhelper.release"
