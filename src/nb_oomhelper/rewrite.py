"""The user's failed call, read off the source that ran: which loader, which model, which target.

Only source text is read, never an object: what cannot be read is None.
"""

from __future__ import annotations

import ast
import linecache
from collections.abc import Iterator, Sequence
from types import FrameType

from nb_oomhelper.frames import is_users
from nb_oomhelper.model import FailedCall

_LOADERS = frozenset({"from_pretrained"})


def find_call(frames: Sequence[tuple[FrameType, int]]) -> FailedCall | None:
    """The loader call that the innermost frame of the user's was in.

    Loaders call loaders, and packages wrap theirs in decorators, also in those of other packages: between the
    user's frame and the loader's may stand any of a library's.

    Args:
        frames: The failed cell's frames and their failing lines, outermost first.
    """
    for place in range(len(frames) - 2, -1, -1):
        frame, line = frames[place]
        inside = (callee for callee, _ in frames[place + 1 :] if callee.f_code.co_name in _LOADERS)
        module = next((_package(callee) for callee in inside), "")
        if module in ("", _package(frame)) or not is_users(frame.f_code.co_filename.replace("\\", "/")):
            continue
        found = _read_call(frame, line)
        if found is not None:
            loader, model, target = found
            return FailedCall(loader=loader, module=module, model=model, target=target if _is_top(frame) else None)
    return None


def _package(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]


def _is_top(frame: FrameType) -> bool:
    """Whether a name that is bound here is a variable of the notebook: not in a function, not in another module."""
    return frame.f_code.co_name == "<module>" and frame.f_globals.get("__name__") == "__main__"


def _read_call(frame: FrameType, line: int) -> tuple[str, str | None, str | None] | None:
    source = "".join(linecache.getlines(frame.f_code.co_filename, frame.f_globals))
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # magics, or nothing to read
        return None
    for target, call in _calls(tree):
        last = call.end_lineno or call.lineno
        if call.lineno <= line <= last and isinstance(call.func, ast.Attribute) and call.func.attr in _LOADERS:
            return ast.unparse(call.func), _model(call), target
    return None


def _calls(tree: ast.AST) -> Iterator[tuple[str | None, ast.Call]]:
    """Every call, with the single name that its result is bound to, if it is; assigned ones first."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.value, ast.Call):
            target = node.targets[0]
            yield target.id if isinstance(target, ast.Name) else None, node.value
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield None, node


def _model(call: ast.Call) -> str | None:
    """The model argument as the user wrote it, where it is a plain text or a name."""
    named = [keyword.value for keyword in call.keywords if keyword.arg == "pretrained_model_name_or_path"]
    first = next(iter([*call.args, *named]), None)
    if isinstance(first, ast.Name) or (isinstance(first, ast.Constant) and isinstance(first.value, str)):
        return ast.unparse(first)
    return None
