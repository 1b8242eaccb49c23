"""The user's failed call, read off the source that ran.

Of the frames only names, lines and source are read, and of objects only a plain text or path that names the model:
never a tensor, an attribute or a repr.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from types import FrameType, FunctionType, ModuleType, TracebackType

from nb_oomhelper.failure.places import at_top, is_users
from nb_oomhelper.introspection import class_dict, class_name, module_dict
from nb_oomhelper.loading.loaders import Loader, Loaders, load_rows
from nb_oomhelper.records.event import FailedCall
from nb_oomhelper.source.call_sites import (
    Site,
    find_obstacle,
    find_target,
    read_source,
    read_tree,
    running,
    sites_on,
    statement_text,
)

Links = Sequence[TracebackType]


def find_call(traceback: TracebackType | None) -> FailedCall | None:
    """Find the loader call that the innermost frame of the user's was in.

    Loaders call loaders, and packages wrap theirs in decorators, also in those of other packages: between the
    user's frame and the loader's may stand any of a library's.

    Args:
        traceback: An exception's, by itself: a frame that wraps an error failed elsewhere in each of the two.
    """
    links = []
    while traceback is not None:
        links.append(traceback)
        traceback = traceback.tb_next
    try:
        loaders = load_rows()
        hits = _hits(links, loaders)
        for place in range(len(links) - 2, -1, -1):
            below = [hit for hit in hits if hit.place > place and hit.package != _package(links[place].tb_frame)]
            found = _find_at(links, place, below, loaders) if below else None
            if found is not None:
                return found
    except (RecursionError, MemoryError):  # no room left to read in
        return None
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Hit:
    """A frame that is a loader's: its place, its package, and the rows that it may be of."""

    place: int
    package: str
    rows: tuple[Loader, ...]


def _hits(links: Links, loaders: Loaders) -> list[_Hit]:
    found = []
    for place, link in enumerate(links):
        frame = link.tb_frame
        rows = tuple(row for row in loaders.rows if row.ran(_module(frame), frame.f_code))
        if rows and _package(frame):
            found.append(_Hit(place=place, package=_package(frame), rows=rows))
    return found


def _module(frame: FrameType) -> str:
    name = frame.f_globals.get("__name__", "")
    return name if type(name) is str else ""


def _package(frame: FrameType) -> str:
    return _module(frame).partition(".")[0]


def _find_at(links: Links, place: int, below: Sequence[_Hit], loaders: Loaders) -> FailedCall | None:
    link, frame = links[place], links[place].tb_frame
    file = frame.f_code.co_filename.replace("\\", "/")
    if not is_users(file):
        return _without_source(links, place, below)
    source = read_source([one.tb_frame for one in links[: place + 1]])
    tree = read_tree(source)
    if tree is None:
        return (
            _unread(below, "unreadable" if source.strip() else "no_source") if _calls_it(links, place, below) else None
        )
    sites = list(sites_on(tree, link.tb_lineno))
    for hit, row, site in _matches(frame, below, running(sites, link)):
        chained = _load_before(site, sites, frame, loaders) if row.in_place else None
        if chained is not None:
            loaded, one = chained
            return _describe(frame, source, one, loaded.modules[0].partition(".")[0], loaded, loaders)
        return _describe(frame, source, site, hit.package, row, loaders)
    return None


def _load_before(site: Site, sites: Sequence[Site], frame: FrameType, loaders: Loaders) -> tuple[Loader, Site] | None:
    """The load that a method is chained to: `AutoModel.from_pretrained(x).to("cuda")` can do more than move less."""
    node: ast.AST = site.call
    while isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in loaders.keeps:
        node = node.func.value
    found = next((one for one in sites if one.call is node), None)
    if found is None or found is site:
        return None
    module = _defined_in(found.call.func, frame)
    inside = [row for row in loaders.rows if found.name in row.calls and not row.in_place and row.is_of(module)]
    return (inside[0], found) if inside else None


def _called(function: ast.expr, frame: FrameType) -> tuple[object, list[str]]:
    """What a call begins with, modules left behind, and the names that are asked of it, the last first."""
    root, names = function, []
    while isinstance(root, ast.Attribute):
        names.append(root.attr)
        root = root.value
    thing = dict.get(frame.f_globals, root.id) if isinstance(root, ast.Name) else None
    while issubclass(type(thing), ModuleType) and names:
        thing = module_dict(thing).get(names.pop())  # type: ignore[arg-type]
    return thing, names


def _own_name(function: ast.expr, frame: FrameType) -> str:
    """What a class or function is called where it is defined, if the call is of it; "" for whatever else it is."""
    thing, names = _called(function, frame)
    if names:
        return ""
    if type(thing) is FunctionType:
        return thing.__name__
    return class_name(thing) if issubclass(type(thing), type) else ""  # type: ignore[arg-type]


def _defined_in(function: ast.expr, frame: FrameType) -> str:
    """The module that defines the class or function that a call begins with; "" for whatever else it is."""
    thing, _ = _called(function, frame)
    kind = type(thing)
    if kind is FunctionType:
        return str(getattr(thing, "__module__", ""))
    module = class_dict(thing).get("__module__") if issubclass(kind, type) else ""  # type: ignore[arg-type]
    return module if type(module) is str else ""


def _matches(frame: FrameType, below: Sequence[_Hit], sites: Sequence[Site]) -> Iterator[tuple[_Hit, Loader, Site]]:
    """Calls that were running and that a frame below is of: of such frames the user called the outermost."""
    for hit in below:
        for row in hit.rows:
            for site in sites:  # by its own name, too: `import … as` may have given it another one
                if site.name in row.calls or _own_name(site.call.func, frame) in row.calls:
                    yield hit, row, site


def _calls_it(links: Links, place: int, below: Sequence[_Hit]) -> bool:
    """Whether a frame whose source cannot be read called the loader itself, and no other code of the user's did."""
    between = [link.tb_frame for link in links[place + 1 : below[0].place]]
    return not any(is_users(frame.f_code.co_filename.replace("\\", "/")) for frame in between)


def _without_source(links: Links, place: int, below: Sequence[_Hit]) -> FailedCall | None:
    """The call of code that was given to `exec`: the notebook's own, and nobody can read it."""
    frame = links[place].tb_frame
    executed = frame.f_code.co_filename.startswith("<") and frame.f_code.co_name == "<module>"
    own = executed and _module(frame) == "__main__" and below[0].place == place + 1
    return _unread(below, "no_source") if own else None


def _unread(below: Sequence[_Hit], obstacle: str) -> FailedCall:
    row = below[0].rows[0]
    return FailedCall(loader=row.calls[0], module=below[0].package, row=row.id, obstacle=obstacle)


def _describe(frame: FrameType, source: str, site: Site, package: str, row: Loader, loaders: Loaders) -> FailedCall:
    in_place = {name for one in loaders.rows if one.in_place for name in one.calls}
    is_top = at_top(frame.f_code) or frame.f_code.co_name in ("<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>")
    binds = is_top and _module(frame) == "__main__"  # a name that is bound here is a variable of the notebook
    target = find_target(site, loaders.keeps, in_place) if binds else None
    written = statement_text(source, site)
    obstacle = find_obstacle(site, (*row.calls, site.name))
    model = _model_argument(site.call, row)
    return FailedCall(
        loader=ast.unparse(site.call.func),
        module=package,
        model=ast.unparse(model) if model is not None and _is_plain(model) else None,
        target=target if obstacle not in ("function", "comprehension") else None,
        row=row.id,
        statement=written[0] if written else None,
        position=written[1] if written else None,
        value=_text_value(model, frame),
        obstacle=obstacle or (None if target else "no_target") or (None if written else "unreadable"),
    )


def _model_argument(call: ast.Call, row: Loader) -> ast.expr | None:
    """The argument that names the model; what comes after a starred one has no known place."""
    named = next(
        (keyword.value for keyword in call.keywords if keyword.arg is not None and keyword.arg == row.keyword), None
    )
    if named is not None or row.position is None or len(call.args) <= row.position:
        return named
    before = call.args[: row.position + 1]
    return None if any(isinstance(argument, ast.Starred) for argument in before) else before[-1]


def _is_plain(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def _text_value(node: ast.expr | None, frame: FrameType) -> str | None:
    """The model's name or path, if it is a literal, or a variable that holds a plain text or path."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if not isinstance(node, ast.Name):
        return None
    value = None if at_top(frame.f_code) else frame.f_locals.get(node.id)
    if value is None:
        value = dict.get(frame.f_globals, node.id)
    if type(value) is str:
        return value
    return str(value) if type(value).__module__.startswith("pathlib") and isinstance(value, PurePath) else None
