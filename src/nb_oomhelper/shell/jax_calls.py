"""Calls of functions that `jax.jit` gave, as they are written after `%oom forecast`."""

from __future__ import annotations

import ast
import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from nb_oomhelper.forecasting.compiled import forecast_jitted, is_jitted, refuse_unjitted, works_with_jax
from nb_oomhelper.introspection import instance_dict, module_dict
from nb_oomhelper.records.forecast import Forecast

_THROUGH, _SHAPES = "_nb_oomhelper_through", "_nb_oomhelper_shapes"
_NOTHING = object()


def is_of_jax(tree: ast.Expression, names: Mapping[str, Any]) -> bool:
    """Tell whether a call is one of a jitted function, or must be, as it has to do with JAX; nothing of it runs.

    Args:
        tree: The call.
        names: The user's.

    Raises:
        UsageError: It has to do with JAX, and the function is known and not jitted.
    """
    if not isinstance(tree.body, ast.Call):
        return False
    function, given = tree.body.func, [*tree.body.args, *(one.value for one in tree.body.keywords)]
    meant = _meant(function, names)
    if is_jitted(meant):
        return True
    if not works_with_jax([_meant(one, names) for one in given]):
        return False
    if meant is not _NOTHING:
        raise refuse_unjitted(ast.unparse(function))
    return True


def forecast(tree: ast.Expression, text: str, names: dict[str, Any]) -> Forecast:
    """Compile the function for this call; arguments that are computed in it are asked for by their shapes alone.

    Args:
        tree: The call.
        text: The same as it was written.
        names: The user's.

    Raises:
        UsageError: The function is not jitted.
        OomHelperError: As `forecast_jitted`.
    """
    call: Any = tree.body
    name = ast.unparse(call.func)
    call.args = [call.func, *(one if isinstance(one, ast.Starred) else _by_shape(one) for one in call.args)]
    for keyword in call.keywords:
        keyword.value = keyword.value if keyword.arg is None else _by_shape(keyword.value)
    call.func = ast.Name(_THROUGH, ast.Load())
    code = compile(ast.fix_missing_locations(tree), "<forecast>", "eval")

    def through(function: Any, /, *args: Any, **kwargs: Any) -> Forecast:
        if not is_jitted(function):
            raise refuse_unjitted(name)
        return forecast_jitted(function, args, kwargs, text)

    found: Forecast = eval(code, names, {_THROUGH: through, _SHAPES: sys.modules["jax"].eval_shape})
    return found


def _by_shape(node: ast.expr) -> ast.expr:
    """An expression that computes something as one that gives the shapes of that."""
    inside = list(ast.walk(node))
    if not any(isinstance(one, (ast.Call, ast.BinOp)) for one in inside):
        return node
    if not any(isinstance(one, ast.Name) for one in inside):  # `2**20`, which may be static
        return node
    plain = ast.arguments(posonlyargs=[], args=[], kwonlyargs=[], kw_defaults=[], defaults=[])
    return ast.Call(ast.Name(_SHAPES, ast.Load()), [ast.Lambda(plain, node)], [])


def _meant(node: ast.expr, names: Mapping[str, Any]) -> object:
    """What a name, or an attribute of one, stands for; read past any code of the user's."""
    if isinstance(node, ast.Name):
        return names.get(node.id, _NOTHING)
    if not isinstance(node, ast.Attribute):
        return _NOTHING
    owner = _meant(node.value, names)
    own = module_dict(owner) if isinstance(owner, ModuleType) else instance_dict(owner)
    return own.get(node.attr, _NOTHING)
