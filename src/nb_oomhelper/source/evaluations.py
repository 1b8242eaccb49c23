"""An evaluation between training steps, in the same code: `model.eval()`, and then `loss = criterion(model(x), y)`."""

from __future__ import annotations

import ast

from nb_oomhelper.source.cures import goes_back, words_in
from nb_oomhelper.source.source_text import Edit, SourceText
from nb_oomhelper.source.tree import blocks_of, is_at, last_name, names_bound, names_in, walk
from nb_oomhelper.source.within import put_within

_SWITCHES = frozenset({"no_grad", "inference_mode", "set_grad_enabled", "enable_grad", "requires_grad"})


def without_graph(text: SourceText, body: list[ast.stmt], line: int) -> list[Edit]:
    """Put the statement of an evaluation into `with torch.no_grad():`, where the code around it trains.

    Args:
        text: The source.
        body: The statements of one function, or of the cell.
        line: The line that was running, from 1.

    Returns:
        The places that change; none where something may go back through what it computes.
    """
    for block in blocks_of(body):
        at = next((number for number, one in enumerate(block) if is_at(one, line)), None)
        path = _evaluated(block[:at]) if at is not None else ""
        if at is None or not path or not _calls(block[at], path):
            continue
        rest = until_training(block[at:], path)
        if any(goes_back(one) or words_in(one) & _SWITCHES for one in rest) or _is_gone_back_through(body, rest):
            return []
        return put_within(text, [block[at]], "with torch.no_grad():")
    return []


def _evaluated(before: list[ast.stmt]) -> str:
    """What the statements have set to evaluate last, and not to train again."""
    for node in reversed(before):
        call = node.value if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) else None
        if call is not None and isinstance(call.func, ast.Attribute) and call.func.attr in ("eval", "train"):
            return ast.unparse(call.func.value) if call.func.attr == "eval" and not call.args else ""
        if goes_back(node):
            return ""
    return ""


def _calls(node: ast.stmt, path: str) -> bool:
    return any(isinstance(one, ast.Call) and ast.unparse(one.func) == path for one in ast.walk(node))


def until_training(block: list[ast.stmt], path: str) -> list[ast.stmt]:
    """Give the statements up to the one that sets a model to train again.

    Args:
        block: The statements.
        path: The model, as it is written there.
    """
    for at, node in enumerate(block):
        calls = [one.func for one in ast.walk(node) if isinstance(one, ast.Call)]
        if any(last_name(one) == "train" and ast.unparse(one) == f"{path}.train" for one in calls):
            return block[:at]
    return block


def _is_gone_back_through(body: list[ast.stmt], some: list[ast.stmt]) -> bool:
    """Whether `backward()` is called on a name that the statements bind."""
    bound = names_bound(some)
    calls = [one for one in walk(body) if isinstance(one, ast.Call) and last_name(one.func) in ("backward", "grad")]
    return any(names_in(one) & bound for one in calls)
