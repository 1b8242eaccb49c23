"""What `torch.load` gives, put into host memory where it is only copied on from there."""

from __future__ import annotations

import ast
from collections.abc import Mapping

from nb_oomhelper.source.source_text import Edit, SourceText
from nb_oomhelper.source.text_edits import with_argument
from nb_oomhelper.source.tree import is_name, last_name, parents_of, walk

# Words in the keys of what is no weight.
_NO_WEIGHTS = ("epoch", "step", "iter", "loss", "acc", "score", "metric", "config", "args", "vocab")


def on_host(text: SourceText, body: list[ast.stmt]) -> list[Edit]:
    """Let `torch.load` put what it loads into host memory, from where `load_state_dict` copies it.

    Args:
        text: The source.
        body: The statements to look in.
    """
    calls = [node for node in walk(body) if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load"]
    given = [one for one in calls if not {"map_location", None} & {keyword.arg for keyword in one.keywords}]
    return [edit for one in given if len(one.args) == 1 for edit in with_argument(text, one, 'map_location="cpu"')]


def copied_on(text: SourceText, body: list[ast.stmt]) -> list[tuple[str, list[Edit]]]:
    """Find names for what `torch.load` gives that is only copied on, and let it give that in host memory.

    Args:
        text: The source.
        body: The statements to look in.

    Returns:
        The names, each with the places that change.
    """
    parents = parents_of(walk(body))
    found = []
    for node in walk(body):
        call = node.value if isinstance(node, ast.Assign) and len(node.targets) == 1 else None
        if not isinstance(call, ast.Call) or ast.unparse(call.func) != "torch.load":
            continue
        target = node.targets[0]  # type: ignore[attr-defined]
        reads = [one for one in walk(body) if is_name(one, target.id)] if isinstance(target, ast.Name) else []
        if reads and all(one is target or _is_copied(one, parents) for one in reads):
            told = [one.value for one in call.keywords if one.arg == "map_location"] or call.args[1:2]
            edits = [(*text.span(told[0]), '"cpu"')] if told else with_argument(text, call, 'map_location="cpu"')
            if not any(one.arg is None for one in call.keywords) and "cpu" not in ast.unparse(call):
                found.append((target.id, edits))
    return found


def _is_copied(read: ast.AST, parents: Mapping[ast.AST, ast.AST]) -> bool:
    """Whether `load_state_dict` gets it or a part of it, or it is only asked for what is no weight, or deleted."""
    above = parents.get(read)
    part = isinstance(above, ast.Subscript) and isinstance(above.slice, ast.Constant)
    key = str(above.slice.value) if part else ""  # type: ignore[union-attr]
    outer = parents.get(above) if part and above is not None else above
    if isinstance(outer, ast.Call) and last_name(outer.func) == "load_state_dict":
        return True
    return isinstance(outer, ast.Delete) or (part and any(word in key for word in _NO_WEIGHTS))
