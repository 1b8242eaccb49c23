"""Whether a size can be why the failed cell ran out: read on the way to the error, by code that keeps no more with it.

Anything else may be made as small as one likes, and the cell runs out at the same place.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator, Mapping

from nb_oomhelper.remedies.elements import Kept
from nb_oomhelper.remedies.places import Place
from nb_oomhelper.remedies.written import Written
from nb_oomhelper.source.collecting import binds, find_kept, is_free, is_keeper, last_of, root_of
from nb_oomhelper.source.cures import Function, statement_at, words_in
from nb_oomhelper.source.to_host import ELSEWHERE
from nb_oomhelper.source.tree import LOOPS, is_at, last_name, nodes_above, parents_of, walk

_MUCH = 64 << 20  # bytes that are collected
_MOST = 40  # definitions; of a notebook that has as many, some were not read
MAKING = frozenset({"__init__", "__new__", "__post_init__"})
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp)
_PUTS = frozenset({"append", "appendleft", "extend", "insert", "add"})
_STEPS = frozenset({"split", "chunk", "batched", "array_split", "DataLoader"})
_ALL_AT_ONCE = frozenset({"vars", "getattr", "asdict", "astuple", "globals", "locals", "eval", "exec"})
_COUNTS = frozenset({"range", "trange", "view", "reshape", "print"})
_SHOWS = frozenset({"print", "display", "len", "type", "id", "str", "repr", "isinstance"})


def is_read(path: str, written: Written) -> bool:
    """Tell whether a number or a loader may be read on the way to the error.

    Args:
        path: What the user would write for it: "bs", 'config["batch_size"]', "args.batch_size".
        written: What the notebook's code says.
    """
    nodes = _reached(written)
    root = root_of(path)
    last = last_of(path)
    own = {one.name for one in written.definitions} | {one.owner for one in written.definitions}
    for node in nodes:
        stored = isinstance(getattr(node, "ctx", None), ast.Store)
        if not stored and last in (
            getattr(node, "id", None),
            getattr(node, "attr", None),
            getattr(node, "value", None),
        ):
            return True
        if isinstance(node, ast.Call) and _hands_on(node, root, own):
            return True
    return len(written.definitions) >= _MOST


def strides(written: Written) -> frozenset[str]:
    """Give the names, in lower case, of numbers by which loops on the way to the error go through data in slices.

    Args:
        written: What the notebook's code says.
    """
    found = set()
    for node in _reached(written):
        call = node.iter if isinstance(node, ast.For) else None
        if isinstance(call, ast.Call) and last_name(call.func) in ("range", "trange") and len(call.args) == 3:
            name = last_name(call.args[2])
            slices = [one for one in ast.walk(node) if isinstance(one, ast.Slice) and one.upper is not None]
            if name and any(name in words_in(one.upper) for one in slices if one.upper is not None):
                found.add(name.lower())
    return frozenset(found)


def learns(written: Written) -> bool:
    """Tell whether the code on the way to the error trains: it goes backward, or begins gradients anew.

    Args:
        written: What the notebook's code says.
    """
    return any(getattr(node, "attr", None) in ("backward", "zero_grad") for node in _reached(written))


def words_reached(written: Written) -> set[str]:
    """Give the names of variables, attributes and modules in the code that ran, or could have, before the error.

    Args:
        written: What the notebook's code says.
    """
    nodes = _reached(written)
    names = {one.id for one in nodes if isinstance(one, ast.Name)} | {
        one.attr for one in nodes if isinstance(one, ast.Attribute)
    }
    return names | {part for one in nodes if isinstance(one, ast.alias) for part in one.name.split(".")}


def only_counts(name: str, written: Written) -> bool:
    """Tell whether a number says only how often something is done: the first time needs as much with any number.

    Args:
        name: Its last name: "max_len".
        written: What the notebook's code says.
    """
    nodes = _reached(written)
    parents = parents_of(nodes)
    counts = False
    for node in nodes:
        if name not in (getattr(node, "id", None), getattr(node, "attr", None)) or _is_handed_on(node, name, parents):
            continue
        if not isinstance(getattr(node, "ctx", None), ast.Load):
            continue
        call = next((one for one in nodes_above(node, parents) if isinstance(one, ast.Call)), None)
        if call is None or last_name(call.func) not in _COUNTS:
            return False
        counts = True
    return counts


def _is_handed_on(node: ast.AST, name: str, parents: Mapping[ast.AST, ast.AST]) -> bool:
    """`generate(max_len=max_len)`: who gets it is looked at, too."""
    above = parents.get(node)
    return isinstance(above, ast.keyword) and above.arg == name


def _hands_on(call: ast.Call, root: str, own: Collection[str]) -> bool:
    """Whether a call may read whatever there is: of all names at once, or where something is given to a library."""
    name = last_name(call.func) or ""
    plain = isinstance(call.func, ast.Name)
    if (plain and name in _ALL_AT_ONCE) or any(one.arg is None for one in call.keywords):
        return True
    if name in own or name in _SHOWS:
        return False
    method = call.func.value if isinstance(call.func, ast.Attribute) else None
    given = [method, *call.args, *(one.value for one in call.keywords)]
    return any(isinstance(one, ast.Name) and one.id == root for one in given)


def last_line(written: Written) -> int | None:
    """Give the last line of the failed cell's statement that was running, from 1; None where that is not known."""
    line = written.line_in_cell()
    node = None if line is None else statement_at(written.cell.tree.body, line)
    return None if node is None else node.end_lineno


def _reached(written: Written) -> list[ast.AST]:
    """The code that ran, or could have, before the error: the cell's, and of the functions that it leads to."""
    end = last_line(written)
    todo: list[ast.AST] = [one for one in written.cell.tree.body if end is None or one.lineno <= end]
    found: list[ast.AST] = []
    met: set[int] = set()
    while todo:
        nodes = list(ast.walk(todo.pop()))
        found += nodes
        words = {one.id for one in nodes if isinstance(one, ast.Name)}
        words |= {one.attr for one in nodes if isinstance(one, ast.Attribute)}
        for at, one in enumerate(written.definitions):
            made = one.name in MAKING
            implied = one.owner in words if made else one.name.startswith("__") or one.name == "forward"
            if at not in met and (one.name in words or implied or written.step_of(one) is not None):
                met.add(at)
                function = written.function(one)
                todo += [] if function is None else [function[1]]
    return found


def gathers(written: Written, places: list[Place], backend: str, loaders: Collection[str]) -> bool:
    """Tell whether the notebook's code keeps what each step makes: smaller steps then fill the same in more of them.

    Args:
        written: What the notebook's code says.
        places: The code on the way to the error.
        backend: Where memory ran out.
        loaders: Names of data loaders.
    """
    large = [path for path, kept in written.kept.items() if _is_large(kept, backend)]
    functions = list(functions_of(written))
    if any(_grows(written.cell.tree.body, path) for path in large):
        return True
    if any(_grows(one.body, path, called=True) for path in large for one in functions):
        return True
    for place in places:
        one = place.definition
        local = written.local.get((one.file, one.line), {}) if one is not None else {}
        if any(_is_large(kept, backend) and _grows(place.body, path, called=True) for path, kept in local.items()):
            return True
        if place.line is not None and any(_keeps_steps(node, place.line, loaders) for node in walk(place.body)):
            return True
    return False


def _is_large(kept: Kept, backend: str) -> bool:
    return (kept.size or {}).get(backend, 0) >= _MUCH


def functions_of(written: Written) -> Iterator[Function]:
    """Give all functions in the cells that define any: a hook is called by none of them.

    Args:
        written: What the notebook's code says.
    """
    for source in written.sources():
        text = written.read(source)
        yield from (one for one in (ast.walk(text.tree) if text is not None else ()) if isinstance(one, Function))


def _grows(body: list[ast.stmt], path: str, *, called: bool = False) -> bool:
    """Whether code puts more and more into something, and does not begin it anew each time.

    Args:
        body: The statements.
        path: What it is put into.
        called: They are those of a function, which may be called again and again.
    """
    parents = parents_of(walk(body))
    for put in find_kept(body, path):
        if _is_fixed(put, parents, path):
            continue
        above = list(nodes_above(put, parents))
        loops = [one for one in above if isinstance(one, LOOPS)]
        inner = next((one for one in above if isinstance(one, Function)), None)
        own = body if inner is None else inner.body
        outlives = (called or inner is not None) and not ("." not in path and binds(own, root_of(path)))
        if (loops or outlives) and not any(_begins(loop, path) for loop in loops):
            return True
    return False


def _is_fixed(put: ast.expr, parents: Mapping[ast.AST, ast.AST], path: str) -> bool:
    """Whether something takes the place of what was there: `out["x"] = x`, `parts = [a, b]`."""
    above = [put, *nodes_above(put, parents)]
    if any(isinstance(one, ast.Call) and last_name(one.func) in _PUTS for one in above):
        return False
    statement = next((one for one in above if isinstance(one, ast.Assign)), None)
    for target in statement.targets if statement is not None else ():
        if isinstance(target, ast.Subscript):
            return isinstance(target.slice, ast.Constant)
        if statement is not None and is_keeper(target, path):  # `outs = outs + [out]` reads itself
            return not any(is_keeper(one, path) for one in ast.walk(statement.value))
    return False


def _begins(loop: ast.AST, path: str) -> bool:
    """Whether each turn of a loop begins with something new under a path, or under its first name."""
    root = root_of(path)
    for node in ast.walk(loop):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.For) else []
        bound = [part for one in targets for part in (one.elts if isinstance(one, (ast.Tuple, ast.List)) else [one])]
        value = node.value if isinstance(node, ast.Assign) else None
        grown = value is not None and any(is_keeper(one, path) for one in ast.walk(value))
        if not grown and any(is_keeper(one, path) or (isinstance(one, ast.Name) and one.id == root) for one in bound):
            return True
    return False


def _keeps_steps(node: ast.AST, line: int, loaders: Collection[str]) -> bool:
    """Whether a comprehension that was running keeps something of each batch, where it was made."""
    if not isinstance(node, _COMPREHENSIONS) or not is_at(node, line):
        return False
    made = node.value if isinstance(node, ast.DictComp) else node.elt
    if is_free(made) or any(isinstance(one, ast.Attribute) and one.attr in ELSEWHERE for one in ast.walk(made)):
        return False
    roots = {root_of(one) for one in loaders}
    for part in node.generators:
        for one in ast.walk(part.iter):
            if isinstance(one, ast.Name) and one.id in roots:
                return True
            if isinstance(one, ast.Call) and last_name(one.func) in _STEPS:
                return True
            if isinstance(one, ast.Call) and last_name(one.func) == "range" and len(one.args) == 3:
                return True
    return False
