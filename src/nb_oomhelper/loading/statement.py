"""The user's statement with the options of a reload; and where that cannot be, a plain call to copy.

Only source text is read, and none of it is run.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import replace

from nb_oomhelper.knowledge.versions import installed_version
from nb_oomhelper.loading import rewrite
from nb_oomhelper.loading.checkpoint import FLOATING
from nb_oomhelper.loading.loaders import Loader, Option, spell
from nb_oomhelper.loading.rewrite import moves_only
from nb_oomhelper.records.event import FailedCall
from nb_oomhelper.source.call_sites import bound_names, read_expression, read_tree
from nb_oomhelper.source.call_text import CallText
from nb_oomhelper.source.source_text import UnwritableError

# What stands where the user's own call could not be read.
_BLANK = ("AutoModelForCausalLM.from_pretrained", 'AutoModelForCausalLM.from_pretrained("your-model")')
# Arguments that say what weights are loaded as, in ways that are not read here.
_DECIDES = ("quantization_config", "load_in_8bit", "load_in_4bit", "model_kwargs")


def restate(
    row: Loader, call: FailedCall, options: Sequence[Option], fields: dict[str, str]
) -> tuple[list[str], str, str | None]:
    """Write the statement of a failed call with options.

    Args:
        row: The call's loader.
        call: The call.
        options: Options of that row, in the order in which they are applied.
        fields: Text by field name, as `rewrite.change` takes it.

    Returns:
        The imports that it needs, one line each; the statement; and why it can only be shown, or None. In that case
        it is the user's call by itself with the options, or a blank one.
    """
    found = _change(call, options, fields)
    if not isinstance(found, str):
        return *found, None
    blank = blank_call(row, call)
    for plain in (_alone(row, call), blank):
        changed = _change(plain, options, fields) if plain is not None else found
        if not isinstance(changed, str):
            return *changed, found
    return [], blank.statement or "", found


def _change(call: FailedCall, options: Sequence[Option], fields: dict[str, str]) -> tuple[list[str], str] | str:
    if call.target is None:
        return call.obstacle or "no_target"
    imports: list[str] = []
    for option in options:
        changed = rewrite.change(call, option, fields)
        if isinstance(changed, str):
            return changed
        imports += changed.imports
        if "folder" in option.fields:
            imports.append("import tempfile")
        call = replace(call, statement=changed.statement, loader=changed.loader)
        if option.id == "half" and _converts(call):
            return "chained"
    if call.statement is None:
        return call.obstacle or "no_source"
    return list(dict.fromkeys(imports)), call.statement


def _converts(call: FailedCall) -> bool:
    """Whether a method that follows the call makes, or may make, another dtype of what was loaded."""
    text = _text(call)
    return text is not None and any(
        name in ("float", "double", "half", "bfloat16", "type")
        or (name == "to" and not moves_only(name, link, text.source))
        for name, link in text.links()
    )


def _is_conversion(call: FailedCall) -> bool:
    """Whether the call itself, which moves a model, may make another dtype of it."""
    text = _text(call)
    name = call.loader.rpartition(".")[2]
    return text is not None and name == "to" and not moves_only(name, text.call, text.source)


def _alone(row: Loader, call: FailedCall) -> FailedCall | None:
    """The user's call out of the statement around it, with all of its arguments."""
    text = _text(call)
    if text is None or call.obstacle not in ("loop", "comprehension", "function", "block", "await", "no_target"):
        return None
    return _plain(row, call.target, call.loader, text.source(text.call))


def blank_call(row: Loader, call: FailedCall | None = None) -> FailedCall:
    """Write a plain call of a loader, for the user to fill in.

    Args:
        row: The loader.
        call: The user's own, of which all is taken over that could be read, or None.
    """
    if call is None or "(" in call.loader or read_expression(call.loader) is None:
        return _plain(row, None, *_BLANK)
    loader = call.loader if call.loader != "from_pretrained" else "AutoModelForCausalLM.from_pretrained"
    model = call.model or repr("your-model")
    if row.keyword is None:
        model = ""
    elif row.position != 0:
        model = f"{row.keyword}={model}"
    return _plain(row, call.target, loader, f"{loader}({model})")


def _plain(row: Loader, target: str | None, loader: str, text: str) -> FailedCall:
    """A call that stands alone; what changes its object needs no name to be bound to."""
    before = "" if row.in_place else f"{target or 'model'} = "
    return FailedCall(
        loader=loader,
        module="",
        row=row.id,
        target=target or "model",
        statement=before + text,
        position=(1, len(before.encode())),
    )


def names_bound(imports: Sequence[str]) -> set[str]:
    """Give the names that import statements bind."""
    return {name for text in imports for node in ast.parse(text).body for name in bound_names(node)}


def uses_itself(call: FailedCall) -> bool:
    """Say whether a statement reads the name that it binds: `model = model.to("cuda")`."""
    if call.statement is None:
        return False
    tree = read_tree(call.statement)
    if tree is None:
        return True
    read = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    return call.target in read


def asked_dtype(call: FailedCall, row: Loader) -> str | None:
    """Read the dtype that a call asks for.

    Args:
        call: The call.
        row: Its loader.

    Returns:
        A name, "auto" for the file's own, or None where it cannot be told.
    """
    if row.in_place and argument(call, ("dtype",)) is None:
        return None if _converts(call) or _is_conversion(call) else "auto"
    if any(argument(call, (name,)) for name in _DECIDES) or _converts(call):
        return None
    names = next((names for names in row.same if "dtype" in names), ("dtype",))
    both = {text for name in names if (text := argument(call, (name,))) is not None}
    if len(both) > 1:  # which one counts is the library's affair
        return None
    written = next(iter(both), None)
    if written is None:
        default = {one.field for one in row.spelling} & {"default_dtype"}
        return spell(row, "$default_dtype", {}, installed_version) if default else None
    name = written.strip("\"'").removeprefix("torch.")
    name = {"half": "float16", "float": "float32", "double": "float64"}.get(name, name)
    return name if name == "auto" or name in FLOATING else None


def argument(call: FailedCall, names: Sequence[str]) -> str | None:
    """Give the text of an argument; None where it is not written.

    Args:
        call: The call.
        names: The names that it may be written with.
    """
    text = _text(call)
    found = text.keyword(names) if text is not None else None
    return None if text is None or found is None else text.source(found.value)


def _text(call: FailedCall) -> CallText | None:
    """The call in its statement; None where it was not read."""
    if call.statement is None or call.position is None:
        return None
    try:
        return CallText(call.statement, call.position, call.loader)
    except UnwritableError:
        return None


def literal(text: str | None) -> str | None:
    """Give the text that a literal stands for; None where it is none."""
    try:
        value = ast.literal_eval(text or "None")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    return value if isinstance(value, str) else None
