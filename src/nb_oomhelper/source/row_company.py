"""Code in which a row may depend on how many others there are, or on those before it."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator, Sequence

from nb_oomhelper.source.tree import (
    arguments,
    is_name,
    is_unpacked,
    last_name,
    names_bound,
    names_in,
    parameters_of,
    root_name,
    walk,
)

_OF_FORM = frozenset({"ndim", "dim", "dtype", "device", "is_cuda", "is_sparse"})
_ASK_FORM = frozenset({"isinstance", "hasattr", "is_tensor", "callable", "type"})
_PUTS = frozenset({"append", "extend", "add", "update", "insert", "setdefault", "pop", "remove"})
_BUILTIN = frozenset(
    {
        "len",
        "range",
        "zip",
        "enumerate",
        "list",
        "tuple",
        "dict",
        "float",
        "int",
        "str",
        "bool",
        "abs",
        "round",
        "print",
    }
    | {"isinstance", "map", "reversed", "min", "max", "sum", "any", "all", "iter", "tqdm", "trange"}
)
BY_ROWS = frozenset(  # of scikit-learn's and of others that are used like them
    {"predict", "predict_proba", "predict_log_proba", "decision_function", "score_samples", "transform"}
    | {"inverse_transform", "kneighbors", "apply", "encode", "embed", "get_text_features", "get_image_features"}
)
_MODULES = frozenset({"torch", "np", "numpy", "F", "nn", "math"})
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


def decides_for_all(body: Sequence[ast.AST], rows: Collection[str]) -> bool:
    """Tell whether one decision is made for all rows: `if x.max() > 1`, `if len(x) > 50`.

    Args:
        body: The code.
        rows: Names that stand for rows, or for what is computed of them.
    """
    return any(one.id in rows for node in walk(body) for test in _tests(node) for one in _asked(test))


def carries_on(body: Sequence[ast.AST], rows: Collection[str]) -> bool:
    """Tell whether a loop over rows takes something along from one to the next: what it has seen, a running sum.

    Args:
        body: The code.
        rows: Names that stand for rows.
    """
    for node in walk(body):
        over = isinstance(node, ast.For) and any(one.id in rows for one in _asked(node.iter))
        if over and _takes_along(node.body, node.target):  # type: ignore[attr-defined]
            return True
        if isinstance(node, _COMPREHENSIONS) and any(isinstance(one, ast.NamedExpr) for one in ast.walk(node)):
            return True
        over = isinstance(node, _COMPREHENSIONS) and any(names_in(one.iter) & {*rows} for one in node.generators)
        if over and _changed([node]):
            return True
    return False


def looks_up_others(body: Sequence[ast.AST], rows: Collection[str], tables: Collection[str] = ()) -> bool:
    """Tell whether rows are looked up by their numbers, or multiplied with each other: `x[neighbors]`, `x @ y`.

    Args:
        body: The code.
        rows: Names that stand for rows, or for what is computed of them.
        tables: Those that surely have a row for each; of them none is taken by its place, `x[0]`, `x[::-1]`.
    """
    if tables and (_counts(body, rows) or _forms_anew(body, rows)):
        return True
    for node in walk(body):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult):
            right = node.right
            if isinstance(right, ast.Name) and right.id in tables:
                return True
        if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load) and isinstance(node.value, ast.Name):
            index = node.slice.elts[0] if isinstance(node.slice, ast.Tuple) and node.slice.elts else node.slice
            name, asked = node.value.id, {one.id for one in _asked(index)}
            if name in rows and asked & {*rows} and not isinstance(index, ast.Slice):
                return True
            if name in tables and ast.unparse(index) not in (":", "...", "None", "np.newaxis"):
                return True
            if tables and name in rows and _is_of_places(index):
                return True  # `query = vectors[17]`, `first = spectra[:1]`
    return False


def _is_of_places(index: ast.expr) -> bool:
    if isinstance(index, ast.Slice):
        return (index.lower or index.upper or index.step) is not None
    return isinstance(index, ast.Constant) and type(index.value) is int


def _counts(body: Sequence[ast.AST], rows: Collection[str]) -> bool:
    """Whether code asks how many rows there are, and not only to leave them as many: of a part there are fewer."""
    forms = {id(part) for call in _reshaped(body, rows) for one in call.args[:1] for part in ast.walk(one)}
    return any(_is_count(node, rows) for node in walk(body) if id(node) not in forms)


def _is_count(node: ast.AST, rows: Collection[str]) -> bool:
    if isinstance(node, ast.Call) and last_name(node.func) == "len":
        return any(isinstance(one, ast.Name) and one.id in rows for one in node.args)
    if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Attribute) and node.value.attr == "shape":
        return ast.unparse(node.slice) == "0" and root_name(node.value) in rows
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "size":
        return [ast.unparse(one) for one in node.args] == ["0"] and root_name(node.func) in rows
    return False


def _forms_anew(body: Sequence[ast.AST], rows: Collection[str]) -> bool:
    """Whether rows get another form in which there are not as many: `rgb.reshape(H, W, 3)`."""
    firsts = [next(iter(call.args), ast.Constant(0)) for call in _reshaped(body, rows)]
    return not all(ast.unparse(one) == "-1" or _is_count(one, rows) or isinstance(one, ast.Starred) for one in firsts)


def _reshaped(body: Sequence[ast.AST], rows: Collection[str]) -> Iterator[ast.Call]:
    for node in walk(body):
        called = node.func if isinstance(node, ast.Call) else None
        if isinstance(called, ast.Attribute) and called.attr in ("reshape", "view") and root_name(called) in rows:
            yield node  # type: ignore[misc]


def takes_columns(node: ast.AST, frame: str) -> bool:
    """Tell whether code reads nothing of a DataFrame but columns as arrays: `trips.lat.values`, `df["x"].to_numpy()`.

    Args:
        node: The code.
        frame: The DataFrame's name.
    """
    parts = [one for one in ast.walk(node) if isinstance(one, ast.Attribute) and one.attr in ("values", "to_numpy")]
    columns = [one.value for one in parts if isinstance(one.value, ast.Attribute) or _is_item(one.value)]
    taken = {id(one.value) for one in columns}  # type: ignore[attr-defined]
    return all(id(one) in taken for one in ast.walk(node) if is_name(one, frame))


def _is_item(node: ast.AST) -> bool:
    return isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant) and type(node.slice.value) is str


def repeats_rows(body: Sequence[ast.AST], rows: Collection[str]) -> bool:
    """Tell whether rows are made several of, one after another: `x.repeat(3, 1)` gives no row for each.

    Args:
        body: The code.
        rows: Names that stand for rows.
    """
    for node in walk(body):
        if isinstance(node, ast.Call) and last_name(node.func) in ("repeat", "tile"):
            of_module = root_name(node.func) in ("torch", "np", "numpy")
            what = node.args[:1] if of_module else [node.func]
            if any(names_in(one) & {*rows} for one in what):
                return True
    return False


def calls_unknown(body: Sequence[ast.AST], rows: Collection[str], known: Collection[str]) -> bool:
    """Tell whether rows are given to something that nobody has read, and that may look at all of them: `linkage(x)`.

    Args:
        body: The code.
        rows: Names that stand for rows, or for what is computed of them.
        known: Names of functions, classes and models that are known to go row by row, or are looked at elsewhere.
    """
    known = {*known, *_chosen_functions(body)}
    for node in walk(body):
        if not isinstance(node, ast.Call) or not any(
            one.id in rows for part in arguments(node) for one in _handed(part)
        ):
            continue
        name = last_name(node.func)
        if name is None or not (name in known or _is_usual(node.func, name, rows)):
            return True
    return False


def _chosen_functions(body: Sequence[ast.AST]) -> Iterator[str]:
    """What a loop goes through where these are functions of libraries: `for fn in (torch.sin, torch.cos):`."""
    for node in walk(body):
        over = node.iter if isinstance(node, ast.For) else None
        functions = over.elts if isinstance(over, (ast.Tuple, ast.List)) else []
        if functions and all(isinstance(one, ast.Attribute) and root_name(one) in _MODULES for one in functions):
            yield from names_bound([node.target])  # type: ignore[attr-defined]


def _is_usual(function: ast.expr, name: str, rows: Collection[str]) -> bool:
    """Whether a call is Python's, PyTorch's or NumPy's, a method of rows, or what estimators do row by row."""
    if isinstance(function, ast.Name):
        return name in _BUILTIN
    owner = function.value if isinstance(function, ast.Attribute) else function
    if any(isinstance(one, ast.Call) for one in ast.walk(owner)):  # of what another call gives, which is looked at, too
        return True
    return name in BY_ROWS | _PUTS or root_name(function) in {*rows, *_MODULES, "self"}


def given_rows(
    function: ast.FunctionDef | ast.AsyncFunctionDef, callers: Sequence[tuple[ast.AST, set[str]]]
) -> set[str]:
    """Give the parameters of a function that may get rows: none that gets each by itself, `[clean(t) for t in x]`.

    Args:
        function: The function.
        callers: Code that may call it, with the names in it that stand for rows.
    """
    names = parameters_of(function) - {"self", "cls"}
    mentions = [
        (one, rows)
        for node, rows in callers
        for one in ast.walk(node)
        if isinstance(one, (ast.Name, ast.Attribute)) and last_name(one) == function.name
    ]
    calls = {id(one.func): one for node, _ in callers for one in ast.walk(node) if isinstance(one, ast.Call)}
    if not mentions or any(id(one) not in calls for one, _ in mentions):  # who calls it with what, nobody knows
        return names
    found = [_given_rows(function, calls[id(one)], rows) for one, rows in mentions]
    return names if None in found else set[str]().union(*(one for one in found if one is not None))


def _given_rows(function: ast.FunctionDef | ast.AsyncFunctionDef, call: ast.Call, rows: set[str]) -> set[str] | None:
    """The parameters to which a call gives rows, or what is computed of them; None where that cannot be told."""
    if is_unpacked(call):
        return None
    places = [one.arg for one in (*function.args.posonlyargs, *function.args.args) if one.arg not in ("self", "cls")]
    pairs = [*zip(places, call.args, strict=False), *((one.arg or "", one.value) for one in call.keywords)]
    return {name for name, value in pairs if {one.id for one in _asked(value)} & rows}


def _tests(node: ast.AST) -> Iterator[ast.expr]:
    if isinstance(node, (ast.If, ast.IfExp, ast.While)):
        yield node.test
    elif isinstance(node, ast.comprehension):
        yield from node.ifs


def _asked(test: ast.AST) -> Iterator[ast.Name]:
    """The names that a decision is made of, but for the form of a row: `x.ndim`, `x.shape[1]`, `x is None`."""
    if _asks_form(test):
        return
    if isinstance(test, ast.Name):
        yield test
    for part in ast.iter_child_nodes(test):
        yield from _asked(part)


def _asks_form(node: ast.AST) -> bool:
    if isinstance(node, ast.Attribute):
        return node.attr in _OF_FORM
    if isinstance(node, ast.Compare):
        return all(isinstance(one, (ast.Is, ast.IsNot)) for one in node.ops)
    if isinstance(node, ast.Call):
        name, given = last_name(node.func), [ast.unparse(one) for one in node.args]
        of_axis = name == "size" and bool(given) and given[0] != "0"
        return of_axis or name in _ASK_FORM | _OF_FORM or (name == "len" and given[0].endswith((".shape", ".size()")))
    if isinstance(node, ast.Subscript) and ast.unparse(node.value).endswith(".shape"):
        fixed = isinstance(node.slice, ast.Constant) and node.slice.value != 0
        return fixed or ast.unparse(node.slice) in ("-1", "1:", "-2:")
    return False


def _handed(node: ast.AST) -> Iterator[ast.Name]:
    """The names of what is handed on, and not only counted: `f(len(x))` gets no row."""
    if _asks_form(node) or (isinstance(node, ast.Call) and last_name(node.func) in ("len", "size")):
        return
    if isinstance(node, ast.Name):
        yield node
    for part in ast.iter_child_nodes(node):
        yield from _handed(part)


def _takes_along(body: Sequence[ast.stmt], target: ast.expr) -> bool:
    """Whether a step of a loop reads what one before has put somewhere."""
    changed, places = _changed(body), {id(one) for one in _places(body)}
    reads = [one for one in walk(body) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Load)]
    if any(one.id in changed and id(one) not in places for one in reads):
        return True
    bound, sure = names_bound(body), names_bound([target])
    for node in body:
        read = {one.id for one in ast.walk(node) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Load)}
        if isinstance(node, ast.AugAssign):
            read |= names_bound([node.target])
        if read & bound - sure:
            return True
        if isinstance(node, (ast.Assign, ast.AnnAssign)):
            sure |= names_bound([node])
    return False


def _changed(body: Sequence[ast.AST]) -> set[str]:
    return {one.id for one in _places(body)}


def _places(body: Sequence[ast.AST]) -> Iterator[ast.Name]:
    """The names of what is put into: `seen.add(x)`, `counts[x] = 1`."""
    for node in walk(body):
        put: ast.AST | None = None
        if isinstance(node, ast.Subscript) and not isinstance(node.ctx, ast.Load):
            put = node.value
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _PUTS:
            put = node.func.value
        if isinstance(put, ast.Name):
            yield put
