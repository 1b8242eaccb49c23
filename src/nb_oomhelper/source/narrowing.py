"""Expressions that need more memory than they must, written so that they need less."""

from __future__ import annotations

import ast
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from nb_oomhelper.source.collecting import put_behind
from nb_oomhelper.source.flows import reached_from
from nb_oomhelper.source.source_text import Edit, SourceText
from nb_oomhelper.source.text_edits import with_argument
from nb_oomhelper.source.tree import is_name, last_name, names_in, pairs, walk

_REDUCING = frozenset({"mean", "std", "sum", "min", "max", "median", "var"})
_IN_PLACE = {ast.Add: "+=", ast.Sub: "-=", ast.Mult: "*=", ast.Div: "/="}
_WRAPPING = frozenset(
    {"dot", "diff", "mul", "multiply", "sub", "subtract", "add", "pow", "cumsum", "cumprod", "matmul"}
)
_DENSE = frozenset({"toarray", "todense"})
_COLLECTING = frozenset({"array", "asarray", "stack", "vstack", "hstack", "concatenate"})
_KEPT_BY_ADAFACTOR = frozenset({"lr", "weight_decay", "params", "maximize"})


def in_place(
    text: SourceText, body: list[ast.stmt], name: str, small: Collection[str] = (), alike: Collection[str] = ()
) -> list[Edit]:
    """Write `x = (x - x.mean()) / x.std()` so that each step changes the array that is there.

    Args:
        text: The source.
        body: The statements to look in.
        name: The array, which nobody else looks at.
        small: Names of numbers, and of arrays that are much smaller.
        alike: Names of other arrays whose reductions are as wide as its own.
    """
    known = _Known({*small}, {name, *alike, "np", "numpy"})
    for node in body:
        for target, value in pairs(node):
            steps = _steps(value, name, known) if is_name(target, name) and isinstance(node, ast.Assign) else None
            if steps and len(node.targets) == 1:  # type: ignore[attr-defined]
                return _stepwise(text, node, steps, name)
    return []


def reduced_names(body: list[ast.stmt]) -> set[str]:
    """Give the names that stand for what a reduction gives: `mean = x.mean(axis=0)`.

    Args:
        body: The statements that bind them.
    """
    found = [(target, value) for node in body for target, value in pairs(node)]
    return {target.id for target, value in found if isinstance(target, ast.Name) and _is_reduced(value)}


def _is_reduced(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and last_name(node.func) in _REDUCING


@dataclass(frozen=True, slots=True)
class _Known:
    """Names of what is small, and of what may be reduced."""

    small: set[str]
    alike: set[str]


def _steps(value: ast.expr, name: str, small: _Known) -> list[tuple[str, ast.expr]] | None:
    """What is done to an array one by one, from the inside out; None where that is more than arithmetic."""
    if is_name(value, name):
        return []
    if not isinstance(value, ast.BinOp) or type(value.op) not in _IN_PLACE or not _is_small(value.right, small):
        return None
    before = _steps(value.left, name, small)
    return None if before is None else [*before, (_IN_PLACE[type(value.op)], value.right)]


def _is_small(node: ast.expr, small: _Known) -> bool:
    """Whether an operand is a number, or what a reduction gives."""
    if isinstance(node, ast.BinOp):
        return _is_small(node.left, small) and _is_small(node.right, small)
    if isinstance(node, ast.Call):
        kept = {one.arg for one in node.keywords} - {"axis", "keepdims", "ddof"}
        return last_name(node.func) in _REDUCING and not kept and _names(node) <= small.alike
    if isinstance(node, ast.Name):
        return node.id in small.small
    return isinstance(node, ast.Constant) and type(node.value) in (int, float)


def _stepwise(text: SourceText, node: ast.stmt, steps: list[tuple[str, ast.expr]], name: str) -> list[Edit]:
    start, end = text.span(node)
    indent = text.text[text.line_start(start) : start]
    if indent.strip():
        return []
    first: list[str] = []
    lines: list[str] = []
    if any(f"{name}_{number}" in text.text for number in range(1, len(steps))):
        return []
    for number, (sign, operand) in enumerate(steps):
        written = text.text[slice(*text.span(operand))]
        if number and _names(operand) & {name}:  # it is to see the array as it was
            first.append(f"{name}_{number} = {written}")
            written = f"{name}_{number}"
        elif "\n" in written or isinstance(operand, ast.BinOp):
            written = f"({written})"
        lines.append(f"{name} {sign} {written}")
    return [(start, end, f"\n{indent}".join([*first, *lines]))]


def sparse_dummies(text: SourceText, body: list[ast.stmt]) -> list[Edit]:
    """Let `pd.get_dummies` make sparse columns.

    Args:
        text: The source.
        body: The statements to look in.
    """
    fitting = [one for one in _dummies(body, of_texts=False) if not {"sparse", None} & {of.arg for of in one.keywords}]
    return [edit for call in fitting for edit in with_argument(text, call, "sparse=True")]


def small_dummies(text: SourceText, body: list[ast.stmt]) -> list[Edit]:
    """Let `df["tags"].str.get_dummies("|")` make columns of bytes: there are only 0 and 1 in them.

    Args:
        text: The source.
        body: The statements to look in.
    """
    edits = list[Edit]()
    names = {
        name
        for node in body
        for target, value in pairs(node)
        if _dummies([value], of_texts=True)
        for name in names_in(target)
    }
    if _wraps_around(text.tree.body, reached_from(text.tree.body, names)):
        return []
    for call in _dummies(body, of_texts=True):
        if not {"dtype", None} & {one.arg for one in call.keywords} and len(call.args) < 2:
            place = text.span(call)[1] - 1
            edits += with_argument(text, call, 'dtype="uint8"') or [(place, place, 'dtype="uint8"')]
    return edits


def _wraps_around(body: list[ast.stmt], names: Collection[str]) -> bool:
    """Whether code computes with what is in some names: a byte has no room for -1, or for 256."""
    for node in walk(body):
        method = getattr(node.func, "attr", "") if isinstance(node, ast.Call) else ""
        computes = isinstance(node, (ast.BinOp, ast.UnaryOp, ast.AugAssign)) or method in _WRAPPING
        if computes and (names_in(node) & {*names} or _dummies([node], of_texts=True)):
            return True
    return False


def _dummies(body: Sequence[ast.AST], *, of_texts: bool) -> list[ast.Call]:
    """Calls of `pd.get_dummies`, or of the method of a column of texts, which takes other arguments."""
    calls = [node for node in walk(body) if isinstance(node, ast.Call) and last_name(node.func) == "get_dummies"]
    return [one for one in calls if (last_name(getattr(one.func, "value", one)) == "str") is of_texts]


def still_sparse(text: SourceText, body: list[ast.stmt], arrays: Collection[str] | None = None) -> list[Edit]:
    """Multiply a sparse matrix, or add it all up, as it is and not made dense before.

    Args:
        text: The source.
        body: The statements to look in.
        arrays: Names of what is surely dense: of two sparse ones the product is another one. None trusts all.
    """
    found = []
    for node in walk(body):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult):
            dense = [one for one in (node.left, node.right) if _is_made_dense(one)]
            other = node.right if node.left in dense else node.left
            alone = len(dense) == 1 and not _is_matrix(dense[0]) and _are_known(other, arrays)
            found += dense if alone else []
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and _is_made_dense(node.func.value):
            alone = node.func.attr in _REDUCING & {"mean", "sum", "min", "max"} and not node.args and not node.keywords
            times = node.func.attr == "dot" and not _is_matrix(node.func.value)
            times = times and all(_are_known(one, arrays) for one in node.args)
            found += [node.func.value] if alone or times else []
    return [(text.span(one.func.value)[1], text.span(one)[1], "") for one in found]  # type: ignore[attr-defined]


def _are_known(node: ast.expr, arrays: Collection[str] | None) -> bool:
    return arrays is None or _names(node) <= {"np", "numpy", *arrays}


def _is_matrix(node: ast.expr) -> bool:
    """Whether it is NumPy's `matrix`, as its products are."""
    return isinstance(node, ast.Call) and last_name(node.func) == "todense"


def _is_made_dense(node: ast.expr) -> bool:
    made = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _DENSE
    return made and not node.args and not node.keywords  # type: ignore[attr-defined]


def collected_as_float32(text: SourceText, body: list[ast.stmt], lists: Collection[str]) -> list[Edit]:
    """Let NumPy put lists of arrays together as float32.

    Args:
        text: The source.
        body: The statements to look in.
        lists: Names of lists of arrays of float64.
    """
    edits = []
    for node in walk(body):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _COLLECTING:
            told = {keyword.arg for keyword in node.keywords} & {"dtype", "out", None}
            module = ast.unparse(node.func.value)
            if module in ("np", "numpy") and not told and node.args and _joins_any(node.args[0], lists):
                edits += with_argument(text, node, f"dtype={module}.float32")
    return edits


def _joins_any(node: ast.expr, lists: Collection[str]) -> bool:
    """Whether members of lists are put together as they are, or parts of them; how many there are is a whole number."""
    if isinstance(node, (ast.List, ast.Tuple)):
        return any(_joins_any(one, lists) for one in node.elts)
    if isinstance(node, (ast.ListComp, ast.GeneratorExp)):
        targets = {name for part in node.generators for name in _names(part.target) if _joins_any(part.iter, lists)}
        return _joins_any(node.elt, targets)
    if isinstance(node, ast.Subscript):
        return _joins_any(node.value, lists)
    return isinstance(node, ast.Name) and node.id in lists


def scaled_as_float32(text: SourceText, body: list[ast.stmt], whole: Collection[str]) -> list[Edit]:
    """Compute with float32 what is made of whole numbers: `np.stack(images) / 255.0` would be float64.

    Args:
        text: The source.
        body: The statements to look in.
        whole: Names of arrays of whole numbers.
    """
    edits: list[Edit] = []
    indexes = {part for one in walk(body) if isinstance(one, ast.Subscript) for part in ast.walk(one.slice)}
    for node in walk(body):
        operands = [node.left, node.right] if isinstance(node, ast.BinOp) and type(node.op) in _IN_PLACE else []
        for one in operands if node not in indexes else ():
            if isinstance(one, ast.Name) and one.id in whole:
                edits += put_behind(text, one, '.astype("float32")')
            elif not isinstance(node.op, ast.Div):  # type: ignore[attr-defined]
                continue  # whole numbers may stay whole
            elif isinstance(one, ast.Call) and isinstance(one.func, ast.Attribute) and one.func.attr in _COLLECTING:
                module = ast.unparse(one.func.value)
                if module in ("np", "numpy") and not {keyword.arg for keyword in one.keywords} & {"dtype", "out", None}:
                    edits += with_argument(text, one, f"dtype={module}.float32")
    return edits


def less_state(text: SourceText, body: list[ast.stmt]) -> list[Edit]:
    """Make an Adafactor of an Adam: it keeps a row and a column for each matrix, and not two whole ones.

    Args:
        text: The source.
        body: The statements to look in.
    """
    edits: list[Edit] = []
    for node in walk(body):
        maker = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
        if not isinstance(node, ast.Call) or maker.rpartition(".")[2] not in ("Adam", "AdamW"):
            continue
        where = maker.rpartition(".")[0]
        if where not in ("torch.optim", "optim"):
            continue
        kept = [one for one in node.keywords if one.arg in _KEPT_BY_ADAFACTOR]
        if len(node.args) > 2 or any(one.arg is None for one in node.keywords):
            return []
        given: list[ast.expr | ast.keyword] = [*node.args[:1], *kept]
        written = [text.text[slice(*text.span(one))] for one in given]
        written += [f"lr={text.text[slice(*text.span(one))]}" for one in node.args[1:]]
        edits.append((*text.span(node), f"{where}.Adafactor({', '.join(written)})"))
    return edits


def other_optimizer(name: str) -> list[Edit]:
    """Make an Adafactor of an Adam of another cell's, as a cell's first line: with its parameters and learning rates.

    Args:
        name: The optimizer.
    """
    groups = f'[{{"params": group["params"], "lr": group["lr"]}} for group in {name}.param_groups]'
    return [(0, 0, f"{name} = torch.optim.Adafactor({groups})\n")]


def float32_tensors(text: SourceText, body: list[ast.stmt], wide: Collection[str]) -> list[Edit]:
    """Make tensors of float32 from NumPy's arrays of float64, and where float64 is asked for.

    Args:
        text: The source.
        body: The statements to look in.
        wide: Names of arrays that are float64.
    """
    edits: list[Edit] = []
    for node in walk(body):
        if not isinstance(node, ast.Call) or last_name(node.func) in _REDUCING:  # added up with 16 digits
            continue
        given = {keyword.arg: keyword.value for keyword in node.keywords}
        source = node.args[0] if len(node.args) == 1 else None
        if "dtype" in given and ast.unparse(given["dtype"]) in ("torch.float64", "torch.double"):
            edits.append((*text.span(given["dtype"]), "torch.float32"))
        elif isinstance(source, ast.Name) and source.id in wide and "dtype" not in given and None not in given:
            maker = ast.unparse(node.func)
            if maker in ("torch.tensor", "torch.as_tensor"):
                edits += with_argument(text, node, "dtype=torch.float32")
            elif maker == "torch.from_numpy":
                edits += put_behind(text, node, ".float()")
    return edits


def _names(node: ast.AST) -> set[str]:
    return {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}
