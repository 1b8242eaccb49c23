"""A training step of all rows at once, written so that its gradients are added up over parts of them."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from nb_oomhelper.source.in_parts import FUNCTIONAL, PARTS
from nb_oomhelper.source.moving import moves, what_moves
from nb_oomhelper.source.source_text import Edit, SourceText
from nb_oomhelper.source.tree import arguments, is_at, is_name, last_name, names_bound, names_in, walk

_FUNCTIONS = frozenset(
    {"mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "binary_cross_entropy_with_logits", "binary_cross_entropy"}
    | {"cross_entropy"}
)
_FLATTENS = frozenset({"view", "reshape", "flatten", "squeeze", "ravel"})
_CONVERTS = frozenset({"to", "cuda", "type", "type_as"})
_KEEPS = frozenset({"float", "double", "half", "bfloat16", "long", "int", "bool", "contiguous", "sigmoid", "tanh"})
_BUILTINS = frozenset({"sum", "zip", "len"})
_SHOWS = frozenset({"item", "detach"})


@dataclass(frozen=True, slots=True)
class _Step:
    """The statements of a step: the model's, if it has one of its own, the loss's and `loss.backward()`."""

    model: ast.Assign | None
    loss: ast.Assign
    backward: ast.Expr
    call: ast.Call


def step_in_parts(
    text: SourceText,
    body: list[ast.stmt],
    line: int,
    models: Collection[str],
    rows: Mapping[str, int],
    losses: Mapping[str, str],
    taken: Collection[str] = (),
    read: Collection[str] = (),
    *,
    flat: bool = False,
    at_top: bool = False,
) -> tuple[str, list[Edit]] | None:
    """Write `loss = f(net(x), y); loss.backward()` as a loop over parts of the rows, each with its share of the loss.

    Args:
        text: The source.
        body: The statements of one function, or of the cell.
        line: The line that was running, from 1.
        models: Names of models through which each row goes by itself.
        rows: How many axes tensors have that have as many rows as what goes through the model, by name.
        losses: Names that stand for the mean of what each row has lost, with what they are: "MSELoss".
        taken: The user's names.
        read: Names that functions of the notebook read beside these statements.
        flat: A model may give one number for each row, and no column of them.
        at_top: The statements are a cell's: what they bind stays.

    Returns:
        What goes through the model, and the edits; None where it may not come to the same.
    """
    for block in _blocks(body):
        step = _step_in(block, models, losses)
        running = step is not None and any(
            is_at(one, line) for one in (step.model, step.loss, step.backward) if one is not None
        )
        if step is None or not running or not _is_alone(body, block, step, read) or _BUILTINS & {*taken}:
            continue
        given = step.call.args[0]
        given = what_moves(given) if moves(given) else given
        made = {target.id for one in (step.model, step.loss) if one is not None for target in _named(one)}
        read = {name for one in (step.model, step.loss) if one is not None for name in names_in(one)} - made
        cut = sorted(read & {*rows}, key=lambda name: not is_name(given, name))
        fits = len(cut) == 2 and _is_row_by_row(step, cut[1], rows[cut[1]], losses, flat=flat)
        if isinstance(given, ast.Name) and given.id in cut and fits and not _is_batch(body, step, cut):
            edits = _written(text, step, cut, taken, at_top=at_top)
            return (given.id, edits) if edits else None
    return None


def _blocks(body: list[ast.stmt]) -> Iterator[list[ast.stmt]]:
    yield body
    for node in walk(body):
        inner = getattr(node, "body", None)
        if isinstance(node, (ast.For, ast.While, ast.With, ast.If)) and isinstance(inner, list):
            yield inner


def _step_in(block: list[ast.stmt], models: Collection[str], losses: Mapping[str, str]) -> _Step | None:
    backward = [one for one in block if _goes_backward(one)]
    if len(backward) != 1 or not isinstance(backward[0], ast.Expr):
        return None
    before = block[: block.index(backward[0])]
    name = backward[0].value.func.value.id  # type: ignore[attr-defined]
    loss = next((one for one in reversed(before) if name in {each.id for each in _named(one)}), None)
    if not isinstance(loss, ast.Assign) or len(loss.targets) != 1 or not _is_mean(loss.value, losses):
        return None
    made = [one for one in before if isinstance(one, ast.Assign) and _calls_of(one, models)]
    model = next((one for one in made if one is not loss), None)
    calls = [call for one in made for call in _calls_of(one, models)]
    plain = len(calls) == 1 and len(calls[0].args) == 1 and not calls[0].keywords
    single = model is None or len(_named(model)) == len(model.targets) == 1
    ordered = single and (model is None or block.index(model) < block.index(loss))
    return _Step(model, loss, backward[0], calls[0]) if plain and ordered else None


def _goes_backward(node: ast.stmt) -> bool:
    call = node.value if isinstance(node, ast.Expr) else None
    method = call.func if isinstance(call, ast.Call) and not call.args and not call.keywords else None
    return isinstance(method, ast.Attribute) and method.attr == "backward" and isinstance(method.value, ast.Name)


def _is_batch(body: list[ast.stmt], step: _Step, names: Collection[str]) -> bool:
    """Whether a loop gives other rows to each step: then its batch can be smaller, which costs less time.

    Or another model, or loss, of which nobody knows yet.
    """
    loops = [one for one in walk(body) if isinstance(one, (ast.For, ast.While)) and step.backward in ast.walk(one)]
    tried = {name for one in loops if isinstance(one, ast.For) for name in names_in(one.target)}
    called = {name for one in (step.call, step.loss.value) for name in names_in(one.func)}  # type: ignore[attr-defined]
    return not names_bound(loops).isdisjoint(names) or bool(tried & called)


def _named(node: ast.AST) -> list[ast.Name]:
    targets = node.targets if isinstance(node, ast.Assign) else []
    return [one for one in targets if isinstance(one, ast.Name)]


def _is_mean(node: ast.expr, losses: Mapping[str, str]) -> bool:
    """Whether it is a loss whose value is the mean over the rows; weights would make it another."""
    if not isinstance(node, ast.Call) or node.keywords or len(node.args) != 2:
        return False
    if isinstance(node.func, ast.Name):
        return node.func.id in losses
    return isinstance(node.func, ast.Attribute) and node.func.attr in _FUNCTIONS and _is_of_torch(node.func)


def _is_of_torch(function: ast.Attribute) -> bool:
    return ast.unparse(function.value) in FUNCTIONAL


def _is_row_by_row(step: _Step, target: str, axes: int, losses: Mapping[str, str], *, flat: bool) -> bool:
    """Whether each row is compared with its own target alone, as far as can be read.

    Of a column and a flat target MSE and its like compare all pairs. Of tokens, padded ones may be left out, and then
    the mean is of other numbers in each part. And of a part of one row a model that gives no column may give no axis.
    """
    call = step.loss.value
    ways = [_way_to(one, target, step) for one in call.args]  # type: ignore[attr-defined]
    if step.model is not None and (made := _way_to(step.model.value, "", step)) is None:
        return False
    if None in ways or {one[0] for one in ways if one} != {"model", "target"}:
        return False
    told = dict(one for one in ways if one)
    shaped = [*told["model"], *(made[1] if step.model is not None and made else [])]
    name = last_name(call.func) or ""  # type: ignore[attr-defined]
    name = losses.get(name, name).lower().replace("_", "")
    if name.startswith(("crossentropy", "binarycrossentropy", "bce")):
        fitting = axes == 1 or not name.startswith("crossentropy")
        return fitting and not (shaped or told["target"] or flat)
    if axes != 1:
        return not (shaped or told["target"] or flat)
    if shaped:
        return not any(map(_is_column, [*shaped, *told["target"]]))
    return bool(told["target"]) and _is_column(told["target"][0]) and not flat


def _way_to(node: ast.expr, target: str, step: _Step) -> tuple[str, list[ast.Call]] | None:
    """Whether something is the model's or the target, and what gives it another shape, outermost first.

    Returns:
        "model" or "target", and the calls; None where it may be computed of several rows.
    """
    shaped: list[ast.Call] = []
    given = _named(step.model)[0].id if step.model is not None else ""
    while node is not step.call:
        if isinstance(node, ast.Name):
            root = "target" if node.id == target else "model" if node.id == given else ""
            return (root, shaped) if root else None
        if isinstance(node, ast.Attribute) and node.attr == "logits":
            node = node.value
            continue
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            return None
        whole = arguments(node)
        of_torch = _is_of_torch(node.func)
        inner, others = (node.func.value, whole) if not of_torch else (whole[0] if node.args else None, whole[1:])
        if inner is None or not _is_plain_call(node.func.attr, others):
            return None
        shaped += [node] if node.func.attr in _FLATTENS else []
        node = inner
    return "model", shaped


def _is_plain_call(name: str, given: list[ast.expr]) -> bool:
    """Whether a method computes each element by itself, or gives a number for each row, or a column of them."""
    if name in _CONVERTS:
        return not any(isinstance(one, ast.Call) for part in given for one in ast.walk(part))
    told = [ast.unparse(one) for one in given]
    if name in ("view", "reshape"):
        return told in (["-1"], ["-1", "1"])
    return not told if name in _KEEPS | {"flatten", "ravel"} else name == "squeeze" and told in ([], ["1"], ["-1"])


def _is_column(call: ast.Call) -> bool:
    return len(call.args) > 1 and ast.unparse(call.args[-1]) == "1"


def _calls_of(node: ast.AST, models: Collection[str]) -> list[ast.Call]:
    return [one for one in ast.walk(node) if isinstance(one, ast.Call) and last_name(one.func) in models and one.args]


def _is_alone(body: list[ast.stmt], block: list[ast.stmt], step: _Step, read: Collection[str]) -> bool:
    """Whether what the model gives is read by the loss alone, and the loss later only as a number."""
    own = {id(one) for node in (step.model, step.loss, step.backward) if node is not None for one in ast.walk(node)}
    others = [one for one in walk(body) if isinstance(one, ast.Name) and id(one) not in own]
    given = {one.id for one in _named(step.model)} if step.model is not None else set[str]()
    loss = _named(step.loss)[0].id
    if any(one.id in given for one in others) or (given | {loss}) & {*read}:
        return False
    first = block.index(step.model or step.loss)
    between = block[first : block.index(step.backward)]
    quiet = all(one in (step.model, step.loss) or (_begins_anew(one) and loss not in names_in(one)) for one in between)
    shown = {id(one.value) for one in walk(body) if isinstance(one, ast.Attribute) and one.attr in _SHOWS}
    shown |= {
        id(one.args[0]) for one in walk(body) if isinstance(one, ast.Call) and _is_float(one) and len(one.args) == 1
    }
    return quiet and all(id(one) in shown for one in others if one.id == loss)


def _is_float(call: ast.Call) -> bool:
    return isinstance(call.func, ast.Name) and call.func.id == "float"


def _begins_anew(node: ast.stmt) -> bool:
    call = node.value if isinstance(node, ast.Expr) else None
    return isinstance(call, ast.Call) and last_name(call.func) in ("zero_grad", "print")


def _written(text: SourceText, step: _Step, cut: list[str], taken: Collection[str], *, at_top: bool) -> list[Edit]:
    parts = [f"{name}_part" for name in cut]
    loss = _named(step.loss)[0].id
    whole = f"{loss}_parts"
    start = text.span(step.backward)[0]
    indent = text.text[text.line_start(start) : start]
    gone = [text.span(one) for one in (step.model, step.loss) if one is not None]
    if (
        indent.strip()
        or any(one in text.text or one in taken for one in (*parts, whole))
        or not all(text.stands_alone(*one) for one in gone)
    ):
        return []
    inner = [_with_parts(text, one, cut) for one in (step.model, step.loss) if one is not None]
    inner[-1] += f" * (len({parts[0]}) / len({cut[0]}))"
    lines = [
        f"{whole} = []",
        f"for {', '.join(parts)} in zip({', '.join(f'{name}.chunk({PARTS})' for name in cut)}):",
        *(f"    {one}".replace("\n", "\n    ") for one in (*inner, f"{loss}.backward()")),
        f"    {whole}.append({loss}.detach())",
        f"{loss} = sum({whole})",
    ]
    if at_top:  # what stands for one part only is no result
        made = [_named(step.model)[0].id] if step.model is not None else []
        lines.append(f"del {', '.join([*made, *parts, whole])}")
    removed = [(text.line_start(first), min(text.line_end(last) + 1, len(text.text)), "") for first, last in gone]
    return [*removed, (*text.span(step.backward), f"\n{indent}".join(lines))]


def _with_parts(text: SourceText, node: ast.Assign, cut: list[str]) -> str:
    start, end = text.span(node)
    written = text.text[start:end]
    reads = [one for one in ast.walk(node.value) if isinstance(one, ast.Name) and one.id in cut]
    for one in sorted(reads, key=lambda one: -text.span(one)[0]):
        first, last = text.span(one)
        written = f"{written[: first - start]}{one.id}_part{written[last - start :]}"
    return written
