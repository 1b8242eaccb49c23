"""The user's statement written anew for options of a loader: which arguments are set, taken away, or put elsewhere.

The texts are cut in `source.call_text`; here is what an option means for a call that has some of the arguments already.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from nb_oomhelper.errors import UsageError
from nb_oomhelper.knowledge.versions import installed_version
from nb_oomhelper.loading.loaders import Loader, Option, load_rows, spell
from nb_oomhelper.records.event import FailedCall
from nb_oomhelper.source.call_sites import read_expression, read_tree
from nb_oomhelper.source.call_text import CallEditor, CallText
from nb_oomhelper.source.source_text import UnwritableError
from nb_oomhelper.source.tree import arguments


@dataclass(frozen=True, slots=True, kw_only=True)
class Argument:
    """One argument that was changed.

    Attributes:
        name: As it is written: "dtype", "model_kwargs.dtype"; ".to" for a method call that follows or was put in.
        old: Its text before, or None where it was not there.
        new: Its text now, or None where it is gone.
    """

    name: str
    old: str | None
    new: str | None


@dataclass(slots=True, kw_only=True)
class Draft:
    """A statement on its way, the call in it, and what was changed so far."""

    text: str
    position: tuple[int, int]
    function: str
    row: Loader
    arguments: list[Argument] = field(default_factory=list)

    def call(self) -> CallEditor:
        """Read the text as it is now."""
        return CallEditor(self.text, self.position, self.function)

    def note(self, text: str, name: str, old: str | None, new: str | None) -> None:
        """Take a new text, and what was changed in it.

        Args:
            text: The statement.
            name, old, new: As in `Argument`; where the old text is the new one, nothing was.
        """
        self.text = text
        if old != new:
            self.arguments.append(Argument(name=name, old=old, new=new))


def apply(draft: Draft, option: Option, fill: Callable[[str], str]) -> None:
    """Carry an option out.

    Args:
        draft: The statement; it is changed.
        option: What to do.
        fill: Fills in a template text.

    Raises:
        UnwritableError: It cannot be done to this statement.
    """
    for name, value in option.set:
        _set(draft, fill(name), fill(value))
    for name in option.remove:
        _remove(draft, name)
    _unchain(draft, option.unchain)
    if option.before:
        text = fill(option.before)
        call = draft.call()
        draft.note(call.inserted(text), text.partition("(")[0], None, text)
        draft.function = _through(call.call.func, text)
    if read_tree(draft.text) is None:
        raise UnwritableError("unparsable")


def _through(function: ast.expr, text: str) -> str:
    """What is called once something has been put before its name."""
    if not isinstance(function, ast.Attribute):
        raise UnwritableError("unparsable")
    return ast.unparse(ast.parse(f"({ast.unparse(function.value)}){text}.{function.attr}", mode="eval"))


def _same_names(row: Loader, name: str) -> tuple[str, ...]:
    return next((group for group in row.same if name in group), (name,))


def _set(draft: Draft, path: str, value: str) -> None:
    name, _, key = path.partition(".")
    call = draft.call()
    written = [word for one in _same_names(draft.row, name) if (word := call.keyword((one,))) is not None]
    there = written[0].value if written else _positional(call, draft.row, name)
    if key:
        _set_entry(draft, call, there, name, key, value)
    elif there is None:
        draft.note(call.added(f"{name}={value}", call.call), name, None, value)
    elif not written:
        draft.note(call.replaced(there, value), name, call.source(there), value)
    for word in written if not key else ():  # under both of its names, say: which one counts is the library's affair
        call = draft.call()
        here = call.keyword((str(word.arg),))
        assert here is not None
        draft.note(call.replaced(here.value, value), str(word.arg), call.source(here.value), value)


def _set_entry(draft: Draft, call: CallEditor, there: ast.expr | None, name: str, key: str, value: str) -> None:
    """Set one entry of a dict argument; only one that is written out can be changed."""
    entry = f'"{key}": {value}'
    if there is None or (isinstance(there, ast.Constant) and there.value is None):
        text = call.added(f"{name}={{{entry}}}", call.call) if there is None else call.replaced(there, f"{{{entry}}}")
        draft.note(text, f"{name}.{key}", None, value)
        return
    if not isinstance(there, ast.Dict):
        raise UnwritableError("not_a_dict")
    keys = [one.value if isinstance(one, ast.Constant) and isinstance(one.value, str) else None for one in there.keys]
    names = _same_names(draft.row, key)
    found = [number for number, one in enumerate(keys) if one in names]
    if not found:
        draft.note(call.added(entry, there), f"{name}.{key}", None, value)
        return
    if None in keys[found[0] :] or len(found) > 1:  # what comes after it may give it another value
        raise UnwritableError("not_a_dict")
    old = there.values[found[0]]
    draft.note(call.replaced(old, value), f"{name}.{keys[found[0]]}", call.source(old), value)


def _positional(call: CallText, row: Loader, name: str) -> ast.expr | None:
    """The argument of that name where it stands without it.

    Raises:
        UnwritableError: What stands in a place that several arguments share is none of them for sure.
    """
    given = call.call.args
    for at, node in enumerate(given):
        here = [place for place in row.places if place.at == at]
        fits = {place.name for place in here if _looks_like(place.like, call.source(node))}
        if name in fits:
            return node
        if here and not fits:
            raise UnwritableError("positional")
    own = [place.at for place in row.places if place.name == name]
    if own and all(at < len(given) for at in own):  # something else has its place
        raise UnwritableError("positional")
    return None


def _looks_like(like: str, text: str) -> bool:
    return not like or re.fullmatch(like, text, re.DOTALL) is not None


def _remove(draft: Draft, name: str) -> None:
    call = draft.call()
    keyword = call.keyword((name,))
    if keyword is not None:
        draft.note(call.removed(keyword), name, call.source(keyword.value), None)
        return
    there = _positional(call, draft.row, name)
    if there is not None and not (isinstance(there, ast.Constant) and there.value is None):
        raise UnwritableError("positional")


def moves_only(name: str, link: ast.Call, source: Callable[[ast.expr], str]) -> bool:
    """Say whether a method call can do no more than to move a model.

    Args:
        name: The method's.
        link: The call.
        source: Gives an argument's text: of a plain name it is all that is known.
    """
    values, named = arguments(link), {keyword.arg for keyword in link.keywords}
    if len(values) > 1 or any(isinstance(one, ast.Starred) for one in values) or not named <= {"device"}:
        return False
    if name == "cuda" or named:
        return name in ("cuda", "to")
    move = load_rows().row("torch-to")
    likes = [place.like for place in move.places if place.name == "device"] if move is not None else []
    return name == "to" and any(_looks_like(like, source(one)) for like in likes for one in values)


def _unchain(draft: Draft, names: Sequence[str]) -> None:
    """Take method calls away that follow; one that may do more than to move the model stays, and stops us."""
    while True:
        call = draft.call()
        found = next(((name, link) for name, link in reversed(call.links()) if name in names), None)
        if found is None:
            return
        name, link = found
        if not moves_only(name, link, call.source):
            raise UnwritableError("chained")
        old = f".{name}({', '.join(call.source(one) for one in arguments(link))})"
        draft.note(call.unchained(link), f".{name}", old, None)


_SOFT = frozenset({"starred", "several"})  # obstacles to a change, none to running the statement as it is


# -- writing it anew -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """The user's statement with other arguments.

    Attributes:
        statement: Its text; all that was not asked to change is as the user wrote it.
        loader: How the call is named in it: `FailedCall.loader`, so that it can be changed again.
        imports: Statements that it needs, one line each.
        needs: Distributions that it needs, "name" or "name>=1.2".
        arguments: What was changed, in the order of the changes.
    """

    statement: str
    loader: str
    imports: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    arguments: tuple[Argument, ...] = ()


def change(
    call: FailedCall,
    option: Option,
    fields: Mapping[str, str],
    versions: Callable[[str], str | None] = installed_version,
) -> Changed | str:
    """Write the user's statement with an option's arguments.

    Args:
        call: The failed call, with its statement.
        option: An option of the call's row.
        fields: Text by field name, at least those in ``option.fields``: ``device`` is a device such as "cuda:1", the
            others are expressions.
        versions: Gives a package's installed version, or None.

    Returns:
        The statement; or why it cannot be written, as the key of an obstacle.

    Raises:
        UsageError: A field is missing, or may not stand in code.
    """
    _check_fields(option, fields)
    row = load_rows().row(call.row)
    if row is None or call.statement is None or call.position is None:
        return call.obstacle or "no_source"
    if call.obstacle is not None and not (option.is_empty and call.obstacle in _SOFT):
        return call.obstacle
    draft = Draft(text=call.statement, position=call.position, function=call.loader, row=row)
    try:
        apply(draft, option, lambda text: spell(row, text, fields, versions))
    except UnwritableError as error:
        return str(error)
    return Changed(
        statement=draft.text,
        loader=draft.function,
        imports=option.imports,
        needs=option.needs,
        arguments=tuple(draft.arguments),
    )


def _check_fields(option: Option, fields: Mapping[str, str]) -> None:
    if missing := option.fields - fields.keys():
        raise UsageError(f"option {option.id} needs {', '.join(sorted(missing))}")
    for name in option.fields:
        text = fields[name]
        fits = re.fullmatch(r"[a-z]+(:\d+)?", text) if name == "device" else _is_expression(text)
        if not fits:
            raise UsageError(f"{text[:60]!r} cannot be used as {name}")


def _is_expression(text: str) -> bool:
    parses = read_expression(text) is not None and read_expression(f"({text}\n)") is not None
    return parses and "#" not in text and "\n" not in text
