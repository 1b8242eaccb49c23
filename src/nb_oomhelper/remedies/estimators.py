"""What the notebook has of scikit-learn: its estimators, as one would write them, and what only has such a name."""

from __future__ import annotations

import ast
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import BuiltinFunctionType, FunctionType
from typing import cast

from nb_oomhelper.introspection import class_dict, class_name, instance_dict
from nb_oomhelper.source.call_sites import read_expression

_PARTS = ("steps", "transformers", "transformer_list")
_DEPTH = 6
_PLAIN = (bool, int, str, type(None))


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """What the notebook has of scikit-learn.

    Attributes:
        estimators: Its estimators by name, as expressions that would make them.
        foreign: Names of functions and classes that are not scikit-learn's.
        version: Its version; () where it is not imported.
        gives_frames: What transformers give is to be a table of pandas' or Polars'.
    """

    estimators: Mapping[str, ast.expr] = field(default_factory=dict)
    foreign: frozenset[str] = frozenset()
    version: tuple[int, ...] = ()
    gives_frames: bool = False


def find_learned(names: Mapping[str, object]) -> Learned:
    """Find what some names stand for.

    Args:
        names: Names and their objects.
    """
    learn = sys.modules.get("sklearn")
    if learn is None:
        return Learned()
    version, config = str(getattr(learn, "__version__", "")), getattr(learn, "get_config", None)
    texts = {name: _write(thing, _DEPTH) for name, thing in names.items()}
    read = {name: read_expression(text) for name, text in texts.items() if text}
    return Learned(
        estimators={name: one for name, one in read.items() if one is not None},
        foreign=frozenset(name for name, thing in names.items() if _is_foreign(thing)),
        version=tuple(int(part) for part in version.split(".")[:2] if part.isdigit()),
        gives_frames=config is not None and config().get("transform_output", "default") != "default",
    )


def _is_foreign(thing: object) -> bool:
    if issubclass(type(thing), type):  # `isinstance` would ask the object itself
        module: object = class_dict(cast("type", thing)).get("__module__")
    elif type(thing) is FunctionType or type(thing) is BuiltinFunctionType:
        module = thing.__module__
    else:
        return False
    return not _is_of_sklearn(module)


def _is_of_sklearn(module: object) -> bool:
    """Whether a `__module__`, which may be anything, is one of scikit-learn's."""
    return type(module) is str and module.partition(".")[0] == "sklearn"


def _write(thing: object, depth: int) -> str | None:
    """An estimator as one would write it; None of anything else."""
    kind, values = type(thing), instance_dict(thing)
    module = class_dict(kind).get("__module__")
    if not depth or not _is_of_sklearn(module) or "_sklearn_output_config" in values:
        return None
    given: list[str] = []
    for name, value in values.items():
        if type(name) is not str or not name.isidentifier() or name.startswith("_") or name.endswith("_"):
            continue
        if name in _PARTS:
            rows = _write_rows(value, depth - 1)
            if rows is None:
                return None
            given.insert(0, rows)
        elif name == "estimator":
            given.insert(0, _write(value, depth - 1) or "_")
        else:
            given.append(f"{name}={_write_option(value)}")
    return f"{class_name(kind)}({', '.join(given)})"


def _write_rows(rows: object, depth: int) -> str | None:
    if type(rows) is not list or not all(type(row) is tuple and len(row) > 1 and type(row[0]) is str for row in rows):
        return None
    parts = [f"({row[0]!r}, {_write(row[1], depth) or _write_option(row[1])}, ())" for row in rows]
    return f"[{', '.join(parts)}]"


def _write_option(value: object) -> str:
    """A number, a text, or the name of a function; `_` stands for anything else."""
    if type(value) in _PLAIN or (type(value) is float and math.isfinite(value)):
        return repr(value)
    return value.__name__ if type(value) is FunctionType and value.__name__.isidentifier() else "_"
