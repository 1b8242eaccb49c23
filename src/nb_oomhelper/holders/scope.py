"""Where a shell's user keeps things."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from nb_oomhelper.failure import retained
from nb_oomhelper.failure.detection import Failure


@dataclass(slots=True)
class Scope:
    """Where to look. It refers to the user's objects: make it, search, drop it.

    Attributes:
        variables: The user's names and their objects.
        results: Displayed results by number.
        frames: The failed cell's frames and the lines that failed in them, outermost first.
        barred: Objects that the search must not enter: the shell and its namespaces.
    """

    variables: Mapping[str, object] = field(default_factory=dict)
    results: Mapping[int, object] = field(default_factory=dict)
    frames: Sequence[tuple[FrameType, int]] = ()
    barred: Sequence[object] = ()


_RESULT = re.compile(r"_+|_i{1,3}|_i?[0-9]+|In|Out|_oh|_ih|_dh")


def scope_of(shell: Any, failure: Failure | None = None) -> Scope:
    """Where a shell's user keeps things.

    Args:
        shell: The InteractiveShell.
        failure: The failed cell's exception as it was read; None takes what Python and IPython still keep.
    """
    hidden = shell.user_ns_hidden
    variables = {
        name: thing
        for name, thing in list(shell.user_ns.items())
        if isinstance(name, str)
        and not (name in hidden and hidden[name] is thing)
        and not _is_result(shell, name, thing)
    }
    if failure is None:
        frames = retained.frames_of(retained.kept_exceptions(shell), retained.kept_tracebacks(shell))
    else:
        frames = failure.frames()
    kept = shell.user_ns.get("_oh")
    results = dict(kept) if isinstance(kept, dict) else {}  # it is only a name, and may be the user's
    own = [shell, shell.history_manager, *shell.configurables]  # the frames of a magic have its object
    barred = [*own, shell.user_ns, hidden, shell.user_ns.get("_oh"), variables, results]
    return Scope(variables=variables, results=results, frames=frames, barred=barred)


def _is_result(shell: Any, name: str, thing: object) -> bool:
    """Names under which IPython keeps inputs and results, `_`, `_12`, `_i3`, `_oh`; a user's own `_` is none."""
    if name in ("_", "__", "___"):
        return thing is getattr(shell.displayhook, name, None)
    return _RESULT.fullmatch(name) is not None
