"""What goes through a model, or is compared with all others, at once: done in parts, which are joined again."""

from __future__ import annotations

import ast
from collections.abc import Collection

from nb_oomhelper.source.moving import moves
from nb_oomhelper.source.source_text import Edit, SourceText
from nb_oomhelper.source.tree import (
    blocks_of,
    is_at,
    is_name,
    last_name,
    names_in,
    nodes_above,
    parents_of,
    statement_around,
    walk,
)

PARTS = 32
_REDUCES = frozenset({"topk", "argmax", "argmin", "max", "min"})
_ONE = frozenset({"argmax", "argmin"})
_MIXES = frozenset(
    {"t", "cdist", "pdist", "cov", "corrcoef", "randperm", "unique", "permutation", "choice", "shuffle", "accumulate"}
    | {"Counter", "value_counts", "duplicated", "drop_duplicates", "factorize", "groupby", "bincount", "histogram"}
    | {"sorted", "reversed", "rankdata", "zscore", "rolling", "ewm", "expanding", "fit", "fit_transform", "isin"}
    | {"svd", "qr", "lstsq", "pinv", "eigh", "diag", "trace", "sliding_window_view", "as_strided"}
)
_DRAWS = frozenset({"rand", "randn", "rand_like", "randn_like"})
_KEEP_ROWS = frozenset({"unsqueeze", "squeeze", "repeat_interleave"})  # along the first axis, each row by itself
_ALL = frozenset(
    {"mean", "sum", "std", "var", "max", "min", "norm", "prod", "median", "quantile", "percentile", "average"}
    | {"nanquantile", "nanpercentile"}
    | {"nanmean", "nansum", "nanstd", "nanvar", "nanmax", "nanmin", "nanmedian", "ptp"}
)
_ALONG = frozenset(
    {"softmax", "log_softmax", "cumsum", "cumprod", "cat", "concat", "sort", "argsort", "flip", "logsumexp"}
    | {"normalize", "argmax", "argmin", "amax", "amin", "var_mean", "std_mean", "cummax", "cummin"}
)
_FLAT = frozenset({"argmax", "argmin", "amax", "amin", "cumsum", "cumprod", "count_nonzero"})
_SHARES = frozenset({"quantile", "percentile", "nanquantile", "nanpercentile"})  # are told first, of how many
_NUMPY = frozenset({"np", "numpy"})
_LINEAR = frozenset({"np.linalg", "numpy.linalg", "torch.linalg"})
_JOINS = frozenset({"cat", "concat", "concatenate", "stack", "vstack"})
_TURNS = frozenset({"transpose", "swapaxes", "swapdims", "movedim", "roll", "unfold"})
FUNCTIONAL = frozenset({"torch", "F", "nn.functional", "torch.nn.functional"})
_MAKERS = frozenset({"from_numpy", "as_tensor", "tensor", "Tensor", "FloatTensor"})
_TENSOR = frozenset(
    {"cpu", "numpy", "softmax", "sigmoid", "argmax", "max", "min", "mean", "sum", "squeeze", "detach", "float", "shape"}
    | {"topk", "log_softmax", "view", "reshape", "flatten", "tolist", "norm", "exp", "size", "to", "std", "round"}
)


def model_in_parts(
    text: SourceText, body: list[ast.stmt], line: int, models: Collection[str], behind: str = ""
) -> tuple[str, list[Edit]] | None:
    """Put what a model gets through it in parts: `torch.cat([net(part.cuda()) for part in x.chunk(32)])`.

    Args:
        text: The source.
        body: The statements of one function, or of the cell.
        line: The line that was running, from 1.
        models: Names of models, or of attributes that are one.
        behind: What is written behind what comes out of each part: ".detach()".

    Returns:
        What is put through, and the edits; None where what comes out may be no tensor.
    """
    parents = parents_of(walk(body))
    for node in walk(body):
        if not isinstance(node, ast.Assign | ast.Return) or not is_at(node, line):
            continue
        calls = [one for one in ast.walk(node) if isinstance(one, ast.Call) and _is_model(one.func, models)]
        if len(calls) != 1 or len(calls[0].args) != 1 or calls[0].keywords or _is_step(calls[0], parents):
            continue
        call, given = calls[0], calls[0].args[0]
        whole = given.func.value if isinstance(given, ast.Call) and moves(given) else given  # type: ignore[attr-defined]
        above = parents.get(call)
        named = node.targets[0] if isinstance(node, ast.Assign) else None
        if not _is_rows(whole) or (isinstance(above, ast.Attribute) and above.attr not in _TENSOR):
            continue
        if above is node and isinstance(node, ast.Assign) and not _is_used_as_tensor(body, named):
            continue
        if "part" in {one.id for one in walk(body) if isinstance(one, ast.Name)}:
            return None
        start, end = text.span(call)
        first, last = text.span(whole)
        inner = f"{text.text[start:first]}part{text.text[last:end]}"
        written = f"torch.cat([{inner}{behind} for part in {text.text[first:last]}.chunk({PARTS})])"
        return ast.unparse(whole), [(start, end, written)]
    return None


def joins_rows(forward: ast.AST, *, draws: bool = True, rows: Collection[str] | None = None) -> bool:
    """Tell whether code computes with several rows of a batch at once, as far as can be read.

    Args:
        forward: What a model does.
        draws: Random numbers count as well: in parts there are others.
        rows: The only names that may stand for rows; not given: all of them may.
    """
    mixes = _MIXES | _DRAWS if draws else _MIXES
    for node in ast.walk(forward):
        if rows is not None and not names_in(node).intersection(rows):
            continue
        if isinstance(node, ast.Attribute) and node.attr in ("T", "H", "training"):
            return True
        if _remembers(node):
            return True
        if not isinstance(node, ast.Call):
            continue
        if last_name(node.func) in mixes or _goes_along_rows(node):
            return True
    return False


def _goes_along_rows(call: ast.Call) -> bool:
    """Whether a call takes the first axis away, sorts along it, or puts it elsewhere, as far as can be read."""
    name = last_name(call.func)
    if not isinstance(call.func, ast.Attribute) or name in _KEEP_ROWS:
        return False
    told = call.args[1:] if ast.unparse(call.func.value) in FUNCTIONAL | _NUMPY | _LINEAR else call.args
    told = told[1:] if name in _SHARES else told
    axes = [one.value for one in call.keywords if one.arg in ("dim", "axis")]
    if name in _ALL | _JOINS | _FLAT and not told and not axes:
        return True
    if name == "permute":
        return _numbers(told) == [1, 0]  # of more axes it mostly parts q, k and v
    axes += told[:1] if name in _ALL | _ALONG else told[:2] if name in _TURNS else []
    return 0 in _numbers(axes)


def _numbers(nodes: list[ast.expr]) -> list[int]:
    """The whole numbers that stand there, also in tuples and lists."""
    parts = [part for one in nodes for part in (one.elts if isinstance(one, (ast.Tuple, ast.List)) else [one])]
    return [one.value for one in parts if isinstance(one, ast.Constant) and type(one.value) is int]


def _remembers(node: ast.AST) -> bool:
    """Whether something stays of what a model has seen: of the last part then, or of each."""
    if isinstance(node, (ast.Attribute, ast.Subscript)) and not isinstance(node.ctx, ast.Load):
        return isinstance(node, ast.Attribute) or isinstance(node.value, ast.Attribute)
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
        return isinstance(node, ast.Global)
    inner, name = ast.unparse(node.func.value), node.func.attr
    grows = name in ("append", "extend", "update") and isinstance(node.func.value, ast.Attribute)
    return grows or (name.endswith("_") and inner.startswith("self."))  # `self.seen.add_(1)`


def _is_model(function: ast.expr, models: Collection[str]) -> bool:
    name = function.attr if isinstance(function, ast.Attribute) else None
    return name in models if name is not None else isinstance(function, ast.Name) and function.id in models


def _is_step(node: ast.AST, parents: dict[ast.AST, ast.AST]) -> bool:
    """Whether it stands in a loop: that is in parts already."""
    loops = (ast.For, ast.While, ast.comprehension, ast.ListComp)
    return any(isinstance(one, loops) for one in nodes_above(node, parents))


def _is_rows(node: ast.expr) -> bool:
    """Whether it is a tensor by a name, or made of an array."""
    if isinstance(node, ast.Call):
        return last_name(node.func) in _MAKERS and len(node.args) == 1
    return isinstance(node, (ast.Name, ast.Attribute))


def _is_used_as_tensor(body: list[ast.stmt], target: ast.expr | None) -> bool:
    if not isinstance(target, ast.Name):
        return False
    parents = parents_of(walk(body))
    for node in walk(body):
        if isinstance(node, ast.Name) and node.id == target.id and isinstance(node.ctx, ast.Load):
            above = parents.get(node)
            if isinstance(above, ast.Attribute) and above.attr not in _TENSOR:
                return False
            if isinstance(above, ast.Subscript) and isinstance(above.slice, ast.Constant):
                return False
    return True


def pairs_in_parts(
    text: SourceText, body: list[ast.stmt], line: int, count: int = PARTS
) -> tuple[str, list[Edit]] | None:
    """Compare rows with all others in parts, where only the nearest are looked for: `(a @ b.T).topk(5, dim=1)`.

    Args:
        text: The source.
        body: The statements of one function, or of the cell.
        line: The line that was running, from 1.
        count: In how many parts.

    Returns:
        The rows, and the edits; None where the table is wanted for something else.
    """
    parents = parents_of(walk(body))
    if "part" in {one.id for one in walk(body) if isinstance(one, ast.Name)}:
        return None
    for node in walk(body):
        if not isinstance(node, ast.Assign) or len(node.targets) != 1:
            continue
        table = next((one for one in ast.walk(node.value) if _is_table(one)), None)
        if table is None or not isinstance(table, ast.expr):
            continue
        here = is_at(node, line)
        target = node.targets[0]
        if table is not node.value or not isinstance(target, ast.Name):
            found = _written(text, node, table, table, parents, count) if here else None
        else:
            reads = [
                one
                for one in walk(body)
                if isinstance(one, ast.Name) and one.id == target.id and isinstance(one.ctx, ast.Load)
            ]
            use = statement_around(reads[0], parents) if len(reads) == 1 else None
            if not isinstance(use, ast.Assign) or not (here or is_at(use, line)):
                continue
            gone_too = _deleted(text, body, node, use, table)
            found = _written(text, use, reads[0], table, parents, count) if gone_too is not None else None
            gone, end = text.line_start(text.span(node)[0]), text.line_end(text.span(node)[1])
            if found is None or text.text[gone:end].strip() != text.text[slice(*text.span(node))]:
                continue
            found = [(gone, min(end + 1, len(text.text)), ""), *(gone_too or []), *found]
        if found is not None:
            return ast.unparse(_rows_of(table)), found
    return None


def _deleted(
    text: SourceText, body: list[ast.stmt], made: ast.Assign, use: ast.Assign, table: ast.expr
) -> list[Edit] | None:
    """The edits that take `del table` out; None where it is bound elsewhere, or what it is made of meanwhile."""
    name = made.targets[0].id  # type: ignore[attr-defined]
    block = next((one for one in blocks_of(body) if made in one and use in one), None)
    if block is None:
        return None
    between = block[block.index(made) + 1 : block.index(use)]
    if any(names_in(one) & (names_in(table) | {name}) - {"torch"} for one in between):
        return None
    outer = [one for node in walk(body) if isinstance(node, (ast.Global, ast.Nonlocal)) for one in node.names]
    others = [one for one in walk(body) if is_name(one, name) and not isinstance(one.ctx, ast.Load)]  # type: ignore[attr-defined]
    gone = [
        one for one in walk(body) if isinstance(one, ast.Delete) and any(is_name(each, name) for each in one.targets)
    ]
    if name in outer or len(others) != 1 + len(gone) or any(len(one.targets) != 1 for one in gone):
        return None
    return [(*text.span(one), "pass") for one in gone]


def _is_table(node: ast.AST) -> bool:
    """`a @ b.T`, `torch.mm(a, b.T)`, `torch.cdist(a, b)` of rows that have a name."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult):
        other = node.right
        turned = isinstance(other, ast.Attribute) and other.attr in ("T", "mT")
        turned = turned or (isinstance(other, ast.Call) and last_name(other.func) in ("t", "transpose"))
        return isinstance(node.left, ast.Name) and turned and _is_there(other)
    if isinstance(node, ast.Call) and last_name(node.func) in ("cdist", "mm", "matmul"):
        return len(node.args) == 2 and isinstance(node.args[0], ast.Name) and _is_there(node.args[1])
    return False


def _is_there(node: ast.expr) -> bool:
    """Whether it is at most turned: anything else would be computed for each part."""
    calls = [one for one in ast.walk(node) if isinstance(one, ast.Call)]
    return all(last_name(one.func) in ("t", "transpose") for one in calls)


def _rows_of(table: ast.expr) -> ast.expr:
    return table.left if isinstance(table, ast.BinOp) else table.args[0]  # type: ignore[attr-defined]


def _written(
    text: SourceText,
    statement: ast.Assign,
    read: ast.expr,
    table: ast.expr,
    parents: dict[ast.AST, ast.AST],
    count: int,
) -> list[Edit] | None:
    """The statement that looks for the nearest, in parts."""
    method = parents.get(read)
    call = parents.get(method) if isinstance(method, ast.Attribute) else method
    if not isinstance(call, ast.Call) or last_name(call.func) not in _REDUCES or not _is_last_axis(call):
        return None
    if not isinstance(method, ast.Attribute) and (not call.args or call.args[0] is not read):
        return None
    name, end = last_name(call.func), call
    above = parents.get(call)
    one = name in _ONE
    picked = isinstance(above, ast.Attribute) and above.attr in ("indices", "values")
    if not one and (picked or (isinstance(above, ast.Subscript) and isinstance(above.slice, ast.Constant))):
        end, one = above, True  # type: ignore[assignment]
    rows = _rows_of(table)
    first, last = text.span(table)
    a, b = text.span(rows)
    inner = f"{text.text[first:a]}part{text.text[b:last]}"
    start, stop = text.span(end)
    read_at = text.span(read)
    inner = f"({inner})" if isinstance(table, ast.BinOp) and text.text[read_at[0] - 1 : read_at[0]] != "(" else inner
    step = f"{text.text[start : read_at[0]]}{inner}{text.text[read_at[1] : stop]}"
    parts = f"[{step} for part in {ast.unparse(rows)}.chunk({count})]"
    if one:
        return [(start, stop, f"torch.cat({parts})")]
    target = statement.targets[0]
    if statement.value is call and isinstance(target, ast.Tuple) and len(target.elts) == 2:
        return [(start, stop, f"map(torch.cat, zip(*{parts}))")]
    return None


def _is_last_axis(call: ast.Call) -> bool:
    given = {one.arg: ast.unparse(one.value) for one in call.keywords}
    if "dim" in given:
        return given["dim"] in ("1", "-1")
    if last_name(call.func) == "topk":
        return len(call.args) < 2 or ast.unparse(call.args[-1]) in ("1", "-1")  # the last one by itself
    return bool(call.args) and ast.unparse(call.args[-1]) in ("1", "-1")
