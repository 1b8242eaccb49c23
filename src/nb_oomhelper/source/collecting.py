"""What a piece of code collects one by one, and what it adds up: places where a tensor with its graph may be put."""

from __future__ import annotations

import ast
import functools
from collections.abc import Collection, Iterator, Mapping

from nb_oomhelper.source.element import Element
from nb_oomhelper.source.flows import reached_from
from nb_oomhelper.source.source_text import Edit, SourceText
from nb_oomhelper.source.tree import is_at, last_name, made_alike, pairs, parents_of, walk

_ADDS = frozenset({"append", "appendleft", "add"})
_PLAIN = (ast.Name, ast.Attribute, ast.Subscript, ast.Call)  # `.item()` can be written right behind them
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
REDUCTIONS = frozenset(
    {"cross_entropy", "mse_loss", "nll_loss", "l1_loss", "smooth_l1_loss", "binary_cross_entropy", "kl_div"}
    | {"binary_cross_entropy_with_logits", "mean", "sum"}
)
# Who reads what was kept like this, or through them, wants a tensor and no number.
_TENSOR_WORDS = frozenset(
    {"stack", "cat", "hstack", "vstack", "concat", "concatenate", "item", "detach", "cpu", "numpy", "tolist", "to"}
    | {"backward", "mean", "sum", "data", "float", "requires_grad", "shape", "size", "grad_fn"}
)
_MAKES_NUMBERS = frozenset({"item", "detach", "tolist", "numpy", "data"})


def find_appends(
    text: SourceText,
    body: list[ast.stmt],
    keeper: str,
    element: Element | None,
    readers: Collection[list[ast.stmt]] = (),
) -> list[Edit]:
    """Find what is put into a keeper, to be taken off its graph.

    Args:
        text: The source.
        body: The statements to look in.
        keeper: "losses", "trainer.outputs", "history['loss']".
        element: What is in it, as it really is. Where nobody knows only a loss counts, on which `backward()` is called.
        readers: Other code that may read it.
    """
    tensors = wants_tensors(body, keeper, readers)
    puts = list(find_kept(body, keeper))
    if element is not None and element.listed:
        parents = parents_of(walk(body))
        puts = [one for one in puts if is_put_in_item(one, parents)]
    return [
        edit
        for node in puts
        for leaf, number in _with_graph(node, element, _losses(body))
        for edit in put_behind(text, leaf, ".item()" if number and not tensors else ".detach()")
    ]


def find_kept(body: list[ast.stmt], keeper: str) -> Iterator[ast.expr]:
    """Find what is put into a keeper, or into one of its items.

    Args:
        body: The statements to look in.
        keeper: As of `find_appends`.
    """
    wanted = _expression(keeper)
    for node in walk(body) if wanted is not None else ():
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and _in(node.func.value, wanted):
            if node.func.attr in _ADDS and len(node.args) == 1 and not node.keywords:
                yield node.args[0]
            elif node.func.attr == "insert" and len(node.args) == 2:
                yield node.args[1]
            elif node.func.attr == "extend" and len(node.args) == 1:
                yield from _members(node.args[0])
        elif isinstance(node, ast.AugAssign) and isinstance(node.op, ast.Add) and _in(node.target, wanted):
            yield from _members(node.value)
        for target, value in pairs(node):
            if _is(target, wanted):
                yield from _members(value)
            elif isinstance(target, ast.Subscript) and _in(target.value, wanted):
                yield value


def grows_as_tuple(body: list[ast.stmt], keeper: str) -> bool:
    """Tell whether a tuple gets longer: `outs += (out,)`, `outs = outs + (out,)`.

    Args:
        body: The statements to look in.
        keeper: As of `find_appends`.
    """
    for node in walk(body):
        if isinstance(node, ast.AugAssign) and is_keeper(node.target, keeper):
            return isinstance(node.op, ast.Add)
        for target, value in pairs(node):
            if is_keeper(target, keeper) and isinstance(value, ast.BinOp) and is_keeper(value.left, keeper):
                return True
    return False


def is_put_in_item(put: ast.expr, parents: Mapping[ast.AST, ast.AST]) -> bool:
    """Tell whether something is put into an item of what keeps it: `history[key].append(out)`.

    An item whose name is written, `history["loss"]`, is something that keeps by itself.

    Args:
        put: As `find_kept` gives it.
        parents: Of the code, by node.
    """
    above = parents.get(put)
    while isinstance(above, (ast.List, ast.ListComp)):
        above = parents.get(above)
    into: ast.AST | None = above.target if isinstance(above, ast.AugAssign) else None
    if isinstance(above, ast.Call) and isinstance(above.func, ast.Attribute):
        into = above.func.value
    if isinstance(into, ast.Subscript):
        return not (isinstance(into.slice, ast.Constant) and type(into.slice.value) is str)
    return isinstance(into, ast.Call)


def is_keeper(node: ast.AST, keeper: str) -> bool:
    """Tell whether an expression is a keeper.

    Args:
        node: The expression.
        keeper: As of `find_appends`.
    """
    return _is(node, _expression(keeper))


def reads_tensors(body: list[ast.stmt], keeper: str) -> bool:
    """Tell whether a body uses what is kept as tensors: stacks it, or calls a method of theirs.

    Args:
        body: The statements to look in.
        keeper: As of `find_appends`.
    """
    wanted = _expression(keeper)
    if wanted is None:
        return True
    for node in walk(body):
        if isinstance(node, ast.Call) and last_name(node.func) in _TENSOR_WORDS:
            read = [node.func.value] if isinstance(node.func, ast.Attribute) else []
            if any(_is(part, wanted) for one in (*read, *node.args) for part in ast.walk(one)):
                return True
        elif isinstance(node, (ast.For, ast.comprehension)) and any(_is(one, wanted) for one in ast.walk(node.iter)):
            members = {one.id for one in ast.walk(node.target) if isinstance(one, ast.Name)}
            if any(
                isinstance(one, ast.Attribute) and isinstance(one.value, ast.Name) and one.value.id in members
                for one in walk(body)
            ):
                return True
    return False


def wants_tensors(body: list[ast.stmt], keeper: str, readers: Collection[list[ast.stmt]] = ()) -> bool:
    """Tell whether anybody may want what is kept as tensors: who reads it here, or gets it from here.

    Args:
        body: The statements that keep it.
        keeper: As of `find_appends`.
        readers: Other code that may read it.
    """
    if any(reads_tensors(one, keeper) for one in (body, *readers)):
        return True
    names = reached_from(body, [keeper]) if keeper.isidentifier() else {keeper}
    given = [one.value for one in walk(body) if isinstance(one, (ast.Return, ast.Yield)) and one.value is not None]
    nodes = [part for value in given if not is_free(value) for part in ast.walk(value)]
    return any(is_keeper(part, name) for part in nodes for name in names)


def comprehends_at(tree: ast.Module, line: int | None) -> bool:
    """Tell whether a line lies in a comprehension, which keeps all that it makes.

    Args:
        tree: The source.
        line: The line, from 1; None is in none.
    """
    kinds = (ast.ListComp, ast.SetComp, ast.DictComp)
    found = (node for node in ast.walk(tree) if isinstance(node, kinds))
    return line is not None and any(is_at(node, line) for node in found)


def binds(body: list[ast.stmt], name: str) -> bool:
    """Tell whether a function's body makes a name its own.

    Args:
        body: Its statements.
        name: A plain name.
    """
    stored = {one.id for one in walk(body) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)}
    outer = {given for one in walk(body) if isinstance(one, (ast.Global, ast.Nonlocal)) for given in one.names}
    return name in stored - outer


def root_of(path: str) -> str:
    """Give the name that a path begins with: "trainer" of "trainer.outputs", "config" of 'config["batch_size"]'."""
    return path.partition(".")[0].partition("[")[0]


def last_of(path: str) -> str:
    """Give the last name of a path, of a variable, an attribute or an item: "batch_size" of 'config["batch_size"]'."""
    return path[path.rindex('["') + 2 : -2] if path.endswith('"]') else path.rpartition(".")[2]


def is_free(node: ast.expr) -> bool:
    """Tell whether an expression gives a number already, or has been taken off the graph."""
    names = {one.attr for one in ast.walk(node) if isinstance(one, ast.Attribute)}
    called = node.func if isinstance(node, ast.Call) else None
    plain = isinstance(called, ast.Name) and called.id in ("float", "int", "len", "str")
    return plain or bool(names & _MAKES_NUMBERS)


def _members(node: ast.expr) -> Iterator[ast.expr]:
    """What a list, or what makes one, puts in one by one."""
    if isinstance(node, (ast.List, ast.Tuple, ast.Set)):
        yield from node.elts
    elif isinstance(node, (ast.ListComp, ast.SetComp, ast.GeneratorExp)):
        yield node.elt
    elif isinstance(node, ast.DictComp):
        yield node.value
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        yield from _members(node.right)


def _with_graph(node: ast.expr, element: Element | None, losses: frozenset[str]) -> Iterator[tuple[ast.expr, bool]]:
    """The tensors with a graph in what is kept, and whether each is a single number."""
    if element is None:
        if isinstance(node, ast.Name) and node.id in losses:
            yield node, True
    elif element.kind == "parts" and (made := made_alike(node)) is not None:
        kinds = [*element.parts.values()]
        yield from _with_graph(made, kinds[0], losses) if kinds and kinds == kinds[:1] * len(kinds) else ()
    elif element.kind == "parts":
        for key, part in written_parts(node, element.maker):
            if key in element.parts:
                yield from _with_graph(part, element.parts[key], losses)
    elif element.kind in ("graph", "number") and not is_free(node) and not isinstance(node, (ast.Tuple, ast.Dict)):
        yield node, element.kind == "number"


def written_parts(node: ast.expr, maker: str = "") -> Iterator[tuple[object, ast.expr]]:
    """Give the parts of a tuple, list, dict or object that stands written there, by place or key.

    Args:
        node: The expression.
        maker: Name of the class that makes the object, or "".
    """
    if isinstance(node, (ast.Tuple, ast.List)):
        yield from enumerate(node.elts)
    elif isinstance(node, ast.Dict):
        known = zip(node.keys, node.values, strict=True)
        yield from ((key.value, value) for key, value in known if isinstance(key, ast.Constant))
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == (maker or "dict"):
        yield from enumerate(node.args if maker else ())
        yield from ((keyword.arg, keyword.value) for keyword in node.keywords)


def _losses(body: list[ast.stmt]) -> frozenset[str]:
    """Names that stand for a single number: `backward()` is called on them, or they are what a loss gives."""
    found: set[str] = set()
    for node in walk(body):
        called = node.func if isinstance(node, ast.Call) and not node.args else None
        if isinstance(called, ast.Attribute) and called.attr == "backward" and isinstance(called.value, ast.Name):
            found.add(called.value.id)
        for target, value in pairs(node):
            if isinstance(target, ast.Name) and isinstance(value, ast.Call) and last_name(value.func) in REDUCTIONS:
                arguments = {one.arg for one in value.keywords} & {"dim", "axis", "reduction", "keepdim"}
                if not arguments and (last_name(value.func) not in ("mean", "sum") or not value.args):
                    found.add(target.id)
    return frozenset(found)


def put_behind(text: SourceText, node: ast.expr, what: str) -> list[Edit]:
    """Give what to write so that something stands behind an expression, which gets brackets where it needs them.

    Args:
        text: The source.
        node: The expression.
        what: What is to stand there.
    """
    start, end = text.span(node)
    if isinstance(node, _PLAIN):
        return [(end, end, what)]
    if isinstance(node, (ast.Starred, ast.Constant)):
        return []
    return [(start, start, "("), (end, end, f"){what}")]


@functools.lru_cache(256)
def _expression(keeper: str) -> ast.expr | None:
    try:
        return ast.parse(keeper, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _in(node: ast.expr, keeper: ast.expr | None) -> bool:
    """Whether an expression is the keeper or an item of it: `history[key]`, `history.setdefault(key, [])`."""
    if _is(node, keeper):
        return True
    if isinstance(node, ast.Subscript):
        return _in(node.value, keeper)
    called = node.func if isinstance(node, ast.Call) else None
    return isinstance(called, ast.Attribute) and called.attr == "setdefault" and _in(called.value, keeper)


def _is(node: ast.AST, keeper: ast.expr | None) -> bool:
    """Whether an expression is the keeper; of a path the last name counts, since methods call the object `self`."""
    if isinstance(keeper, ast.Name):
        return isinstance(node, ast.Name) and node.id == keeper.id
    if isinstance(keeper, ast.Attribute):
        return isinstance(node, ast.Attribute) and node.attr == keeper.attr
    if isinstance(keeper, ast.Subscript) and isinstance(node, ast.Subscript) and _is(node.value, keeper.value):
        told = isinstance(node.slice, ast.Constant) and isinstance(keeper.slice, ast.Constant)
        return not told or node.slice.value == keeper.slice.value  # type: ignore[attr-defined]
    return False
