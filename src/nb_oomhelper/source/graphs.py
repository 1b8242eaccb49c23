"""What has an autograd graph as far as the text of some code tells: what goes backward, and what models make."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Literal

from nb_oomhelper.source.bindings import BACKWARD, LIBRARIES, bindings, sent_back
from nb_oomhelper.source.collecting import REDUCTIONS, is_free
from nb_oomhelper.source.element import Element
from nb_oomhelper.source.tree import LOOPS, last_name, names_in, nodes_above, parents_of, walk

GraphKind = Literal["graph", "number"]
_WITHOUT = frozenset({"no_grad", "inference_mode", "set_grad_enabled"})
_KEEP = frozenset(
    {"view", "reshape", "squeeze", "unsqueeze", "flatten", "permute", "transpose", "contiguous", "clone", "to", "cuda"}
    | {"cpu", "float", "half", "double", "exp", "log", "sqrt", "abs", "pow", "clamp", "neg", "sigmoid", "tanh", "relu"}
    | {"softmax", "log_softmax", "normalize", "mean", "sum", "norm"}
)
_TO_ONE = frozenset({"mean", "sum", "norm"})
_PARTS: Mapping[str, GraphKind] = {
    "loss": "number",
    "logits": "graph",
    "last_hidden_state": "graph",
    "pooler_output": "graph",
}
_DEPTH = 60  # names and calls behind one another


class Graphs:
    """Tells of some statements which values have a graph; what it does not know has none.

    A name is what it was bound to last, in the order of the text.
    """

    def __init__(
        self,
        body: Sequence[ast.stmt],
        models: Collection[str],
        losses: Collection[str] = (),
        made: Mapping[str, GraphKind] | None = None,
    ) -> None:
        """Read the statements.

        Args:
            body: The statements.
            models: Paths of models that learn: "model", "self.encoder".
            losses: Paths of losses that give one number.
            made: What functions give that give something with a graph, by name.
        """
        self.body = list(body)
        nodes = list(walk(self.body))
        self.parents = parents_of(nodes)
        self._made = made or {}
        self._known: dict[int, GraphKind | None] = {}
        self._bound = bindings(nodes)
        self._sent = sent_back(nodes, self._bound)
        found = [(path, value) for name in self._bound for path, value in ((name, one) for _, one in self._bound[name])]
        self.models = {*models, *(path for path, value in found if _is_model(value))}
        self._losses = {*losses, *(path for path, value in found if _is_loss(value))}

    def kind(self, node: ast.expr, depth: int = _DEPTH) -> GraphKind | None:
        """Tell whether an expression has a graph, and whether it is a single number; None is neither, or unknown.

        Args:
            node: The expression, one of the statements'.
            depth: How many names and calls to follow.
        """
        if not depth or id(node) in self._known:
            return self._known.get(id(node))
        self._known[id(node)] = None  # of what is computed from itself
        self._known[id(node)] = found = None if self.is_off(node) else self._kind(node, depth)
        return found

    def is_off(self, node: ast.AST) -> bool:
        """Tell whether a node lies where no graph is made, or may be: below `with torch.no_grad():`.

        Args:
            node: One of the statements'.
        """
        above = (one for one in (node, *nodes_above(node, self.parents)))
        return any(_switches(one) for one in above)

    def goes_backward(self, code: Collection[ast.AST]) -> bool:
        """Tell whether code goes backward, itself or by a function that is known to.

        Args:
            code: The nodes.
        """
        calls = [one for one in walk(code) if isinstance(one, ast.Call)]
        return any(last_name(one.func) in BACKWARD or last_name(one.func) in self._made for one in calls)

    def binds(self, name: str) -> bool:
        """Tell whether the statements bind a name."""
        return name in self._bound

    def is_plain(self, name: str) -> bool:
        """Tell whether a name stands for a constant, or for what a maker of PyTorch's gives: `torch.randn(8, 4)`.

        Args:
            name: The name.
        """
        values = [value for _, value in self._bound.get(name, ())]
        return bool(values) and all(
            isinstance(one, ast.Constant)
            or (isinstance(made := _made_by(one), ast.Call) and ast.unparse(made.func).startswith("torch."))
            for one in values
        )

    # what expressions are

    def _kind(self, node: ast.expr, depth: int) -> GraphKind | None:
        if isinstance(node, ast.Name):
            return self._of_name(node, depth)
        if isinstance(node, ast.Call):
            return self._of_call(node, depth)
        if isinstance(node, ast.BinOp):
            return self._of_both(node, depth)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            return self.kind(node.operand, depth - 1)
        if isinstance(node, (ast.Attribute, ast.Subscript)) and self.kind(node.value, depth - 1) == "graph":
            key = node.attr if isinstance(node, ast.Attribute) else getattr(node.slice, "value", None)
            return _PARTS.get(key) if isinstance(key, str) else "graph" if isinstance(node, ast.Subscript) else None
        return None

    def _of_name(self, node: ast.Name, depth: int) -> GraphKind | None:
        place = (node.lineno, node.col_offset)
        bound = self._bound.get(node.id, [])
        sent = self._sent.get(node.id, [])
        before = [at for at, (where, _) in enumerate(bound) if where <= place]
        if not before:
            return "number" if sent and not bound else None
        start, value = bound[before[-1]]
        end = bound[before[-1] + 1][0] if before[-1] + 1 < len(bound) else (1 << 30, 0)
        if any(start <= one < end for one in sent):
            return None if value is not None and is_free(value) else "number"
        return self.kind(value, depth - 1) if value is not None else None

    def _of_call(self, node: ast.Call, depth: int) -> GraphKind | None:
        path, name = ast.unparse(node.func), last_name(node.func)
        plain = not node.args and not node.keywords
        given = [part for one in node.args for part in (one.elts if isinstance(one, (ast.List, ast.Tuple)) else [one])]
        from_graph = any(self.kind(one, depth - 1) for one in given)
        if path in self.models:
            return "graph"
        if from_graph and (path in self._losses or _is_loss(node.func)):
            return "number"
        if isinstance(node.func, ast.Name) and node.func.id in self._made:
            return self._made[node.func.id]
        owner = node.func.value if isinstance(node.func, ast.Attribute) else None
        if name in REDUCTIONS - _TO_ONE and from_graph:
            return "graph" if any(one.arg == "reduction" for one in node.keywords) else "number"
        if owner is None or name not in _KEEP | {"cat", "stack"}:
            return None
        if last_name(owner) in LIBRARIES:
            one = name in _TO_ONE and len(node.args) == 1 and not node.keywords
            return None if not from_graph else "number" if one else "graph"
        base = self.kind(owner, depth - 1)
        return "number" if base and name in _TO_ONE and plain else base

    def _of_both(self, node: ast.BinOp, depth: int) -> GraphKind | None:
        sides = [(one, self.kind(one, depth - 1)) for one in (node.left, node.right)]
        kinds = {kind for _, kind in sides}
        if kinds == {None}:
            return None
        single = all(kind == "number" or (kind is None and _is_count(one)) for one, kind in sides)
        return "number" if single else "graph"


def element_of(graphs: Graphs, node: ast.expr) -> Element:
    """Say what an expression gives, as far as graphs matter.

    Args:
        graphs: Of the statements.
        node: The expression, one of theirs.
    """
    if isinstance(node, (ast.Tuple, ast.List)):
        return Element("parts", {at: element_of(graphs, one) for at, one in enumerate(node.elts)})
    if isinstance(node, ast.Dict):
        known = zip(node.keys, node.values, strict=True)
        parts: dict[object, Element] = {}
        parts.update((key.value, element_of(graphs, one)) for key, one in known if isinstance(key, ast.Constant))
        return Element("parts", parts)
    return Element(graphs.kind(node) or "other")


def loop_around(graphs: Graphs, node: ast.AST) -> ast.AST | None:
    """Give the innermost loop around a node; None where there is none in its function.

    Args:
        graphs: Of the statements.
        node: One of theirs.
    """
    for one in nodes_above(node, graphs.parents):
        if isinstance(one, LOOPS):
            return one
        if isinstance(one, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            return None
    return None


def _switches(node: ast.AST) -> bool:
    """Whether no graph is made within a node, or it says itself where one is."""
    if isinstance(node, (ast.With, ast.AsyncWith)):
        return any(last_name(one.func) in _WITHOUT for item in node.items for one in _calls_in(item.context_expr))
    decorators = getattr(node, "decorator_list", ())
    return any(names_in(one) & _WITHOUT or _attributes(one) & _WITHOUT for one in decorators)


def _calls_in(node: ast.expr) -> Iterator[ast.Call]:
    return (one for one in ast.walk(node) if isinstance(one, ast.Call))


def _attributes(node: ast.AST) -> set[str]:
    return {one.attr for one in ast.walk(node) if isinstance(one, ast.Attribute)}


def _made_by(node: ast.expr | None) -> ast.expr | None:
    """The call that makes an object, without `.to(device)`, `.cuda()`, `.train()` behind it."""
    while isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Call):
        node = node.func.value
    return node


def _is_model(node: ast.expr | None) -> bool:
    made = _made_by(node)
    if not isinstance(made, ast.Call) or not isinstance(made.func, ast.Attribute):
        return False
    owner = last_name(made.func.value) or ""
    return (owner == "nn" and not _is_loss(made)) or (made.func.attr == "from_pretrained" and "Model" in owner)


def _is_loss(node: ast.expr | None) -> bool:
    """Whether an expression makes a loss that gives one number: `nn.CrossEntropyLoss()`."""
    made = _made_by(node)
    if not isinstance(made, ast.Call) or not (last_name(made.func) or "").endswith("Loss"):
        return False
    return not any(one.arg in ("reduction", "reduce") for one in made.keywords)


def _is_count(node: ast.expr) -> bool:
    """Whether an expression surely is one number of Python's."""
    if isinstance(node, ast.Call):
        return last_name(node.func) in ("len", "size", "item", "numel", "float", "int") and len(node.args) < 2
    return isinstance(node, ast.Constant) or (
        isinstance(node, ast.Subscript) and isinstance(node.value, ast.Attribute) and node.value.attr == "shape"
    )
