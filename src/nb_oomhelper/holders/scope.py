"""Where a shell's user keeps things."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from nb_oomhelper.failure import retained
from nb_oomhelper.failure.detection import Failure

RECENT_RESULTS = ("_", "__", "___")  # IPython's names for the last three displayed results
_RESULTS = re.compile(r"_{1,3}|_[0-9]+|_oh|Out")
_INPUTS = re.compile(r"_i{1,3}|_i[0-9]+|_ih|In|_dh")  # and the folders that it has been in


@dataclass(slots=True)
class Scope:
    """Where to look. It refers to the user's objects: make it, search, drop it.

    Attributes:
        variables: The user's names and their objects.
        results: Displayed results by number.
        frames: The failed cell's frames and the lines that failed in them, outermost first.
        barred: Objects that the search must not enter: the shell and its namespaces.
        inputs: Sources of the cells that ran, by number, as they were compiled.
    """

    variables: Mapping[str, object] = field(default_factory=dict)
    results: Mapping[int, object] = field(default_factory=dict)
    frames: Sequence[tuple[FrameType, int]] = ()
    barred: Sequence[object] = ()
    inputs: Sequence[str] = ()


def scope_of(shell: Any, failure: Failure | None = None) -> Scope:
    """Find where a shell's user keeps things.

    Args:
        shell: The InteractiveShell.
        failure: The failed cell's exception as it was read; None takes what Python and IPython still keep.

    Returns:
        A scope that refers to the user's objects: drop it soon.
    """
    hidden = shell.user_ns_hidden
    variables = {
        name: thing
        for name, thing in list(shell.user_ns.items())
        if isinstance(name, str)
        and not (name in hidden and hidden[name] is thing)
        and not _is_ipythons(shell, name, thing)
    }
    if failure is None:
        frames = retained.frames_of(retained.kept_exceptions(shell), retained.kept_tracebacks(shell))
    else:
        frames = failure.frames()
    kept = shell.user_ns.get("_oh")
    results = dict(kept) if isinstance(kept, dict) else {}  # it is only a name, and may be the user's
    own = [shell, shell.history_manager, *shell.configurables]  # the frames of a magic have its object
    barred = [*own, shell.user_ns, hidden, shell.user_ns.get("_oh"), variables, results]
    inputs = shell.user_ns.get("In")
    return Scope(
        variables=variables,
        results=results,
        frames=frames,
        barred=barred,
        inputs=inputs if isinstance(inputs, list) else (),
    )


def is_result(name: str) -> bool:
    """Tell whether IPython gives a displayed result, or all of them, this name: `_`, `_12`, `Out`."""
    return _RESULTS.fullmatch(name) is not None


def _is_ipythons(shell: Any, name: str, thing: object) -> bool:
    """Whether IPython keeps its inputs and results under this name; a user's own `_` is none."""
    if name in RECENT_RESULTS:
        return thing is getattr(shell.displayhook, name, None)
    return is_result(name) or _INPUTS.fullmatch(name) is not None
