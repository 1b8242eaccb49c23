"""What runs inside the notebook's kernel, under no name of the user's: libraries, limit, what the panel says."""

from __future__ import annotations

import ctypes
import gc
import importlib
import platform
import resource
import sys
from collections.abc import Iterable, Mapping
from importlib import metadata
from typing import Any

_LIBRARIES = ("nb-oomhelper", "ipython", "ipykernel", "ipywidgets", "torch", "numpy", "pandas", "jax")
_base = 0  # bytes of address space when the notebook began
_case: Any = None  # the panel's; it has numbers and texts only


def prepare(modules: Iterable[str]) -> None:
    """Import what the notebook imports, start threads and workspaces: all that is no part of what runs out."""
    global _base
    import psutil

    wanted = set(modules)
    for name in wanted:
        importlib.import_module(name)
    if "torch" in wanted:
        _warm_torch(optimizer="torch.optim" in wanted)
    if "pandas" in wanted:
        _warm_pandas()
    if "jax" in wanted:
        sys.modules["jax"].numpy.ones((8, 8)).sum().block_until_ready()
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    _base = psutil.Process().memory_info().vms


def _warm_torch(optimizer: bool) -> None:
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    net = torch.nn.Linear(256, 256).to(device)
    classes = torch.zeros(256, dtype=torch.int64, device=device)
    torch.nn.functional.cross_entropy(net(torch.ones(256, 256, device=device)), classes).backward()
    if optimizer:  # the first one imports hundreds of modules
        torch.optim.Adam(net.parameters()).step()
    if device == "cuda":
        del net, classes
        gc.collect()
        torch.cuda.empty_cache()


def _warm_pandas() -> None:
    pandas: Any = importlib.import_module("pandas")
    frame = pandas.DataFrame({"key": ["a", "b"] * 50, "value": range(100)})
    frame.merge(frame, on="key").groupby("key").mean()
    pandas.get_dummies(pandas.concat([frame, frame])).to_numpy()


def limit(room: int) -> int:
    """Let this process map `room` bytes more than now.

    Returns:
        How many more that is than when the notebook began, in bytes.
    """
    import psutil

    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return limit_from_start(psutil.Process().memory_info().vms - _base + room)


def limit_from_start(room: int) -> int:
    """Let this process map `room` bytes more than when the notebook began."""
    resource.setrlimit(resource.RLIMIT_AS, (_base + room, resource.RLIM_INFINITY))
    return room


def room() -> int:
    """How many bytes more than when the notebook began may be mapped."""
    return resource.getrlimit(resource.RLIMIT_AS)[0] - _base


def names(namespace: Mapping[str, Any]) -> list[str]:
    """The user's names, as `who` lists them."""
    from IPython import get_ipython

    hidden = get_ipython().user_ns_hidden
    return sorted(name for name in namespace if not name.startswith("_") and name not in hidden)


def false(checks: Mapping[str, str], namespace: dict[str, Any]) -> list[str]:
    """The keys of the expressions that are not true, or cannot be evaluated."""
    return [name for name, expression in checks.items() if not _holds(expression, namespace)]


def _holds(expression: str, namespace: dict[str, Any]) -> bool:
    try:
        return bool(eval(expression, namespace))
    except Exception:
        return False


def warmed() -> bool:
    """Whether the extension has imported what it needs at an error."""
    return "nb_oomhelper.showing.frontends" in sys.modules and "nb_oomhelper.knowledge.catalog" in sys.modules


def told() -> dict[str, Any] | None:
    """What the panel says first, and its fixes in their order; None where there is no panel."""
    global _case
    from IPython import get_ipython

    from nb_oomhelper.showing.report import write

    extension = get_ipython()._nb_oomhelper
    _case = extension.case
    if _case is None:
        return None
    report = write(_case, extension.services.catalog(), "en")
    return {"headline": report.headline, "fixes": [_fix(row) for row in report.fixes]}


def _fix(row: Any) -> dict[str, Any]:
    return {
        "number": row.plan.number,
        "fix": row.plan.fix,
        "subject": row.plan.subject,
        "applicability": row.plan.applicability,
        "code": row.plan.code,
        "title": row.title,
        "says": " ".join([row.title, row.note, row.effect, row.verdict, row.loses]),
        "verdict": row.verdict,
    }


def outcome() -> dict[str, Any] | None:
    """What came of the fix that was run in the panel of `told`; None where none was."""
    if _case is None or not _case.outcomes:
        return None
    last = _case.outcomes[-1]
    return {"fix": last.fix, "freed": last.freed, "error": last.error, "ran": True if last.loaded else last.ran}


def facts() -> dict[str, Any]:
    """What is measured on: python and versions of libraries by name; nothing that names the machine."""
    libraries = {}
    for name in _LIBRARIES:
        try:
            libraries[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {"python": platform.python_version(), "libraries": libraries}
