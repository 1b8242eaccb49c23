"""Lists of columns' names that stand under a name, and stay as they were made."""

from __future__ import annotations

import ast

from nb_oomhelper.source.columns_of_calls import TAKE_NAMES
from nb_oomhelper.source.frame_methods import is_list_of_texts, texts_of
from nb_oomhelper.source.tree import arguments, walk


def lists_of_columns(body: list[ast.stmt]) -> dict[str, frozenset[str]]:
    """The names of lists of columns that are made once, and of which nothing is read but as a whole: `df[names]`.

    Args:
        body: The statements.
    """
    nodes = list(walk(body))
    made = [one for one in nodes if isinstance(one, ast.Assign) and is_list_of_texts(one.value)]
    found = {ast.unparse(one.targets[0]): texts_of(one.value) for one in made if len(one.targets) == 1}
    keys = [one.slice for one in nodes if isinstance(one, ast.Subscript)]
    given = [part for one in nodes if isinstance(one, ast.Call) and _takes_names(one) for part in arguments(one)]
    located = [part for one in keys if isinstance(one, ast.Tuple) for part in one.elts]
    fine = {id(one) for one in (*keys, *given, *located)}
    for one in nodes:
        if isinstance(one, ast.Name) and id(one) not in fine and isinstance(one.ctx, ast.Load):
            found.pop(one.id, None)
    bound = [one.id for one in nodes if isinstance(one, ast.Name) and not isinstance(one.ctx, ast.Load)]
    return {name: texts for name, texts in found.items() if texts and bound.count(name) == 1}


def _takes_names(call: ast.Call) -> bool:
    """Whether it is a method that is given names of columns, and changes no list."""
    return isinstance(call.func, ast.Attribute) and call.func.attr in TAKE_NAMES
