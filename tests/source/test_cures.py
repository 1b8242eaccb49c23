"""The classic mistakes, mended in the text where they are written."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import Any

import numpy
import pytest

from nb_oomhelper.source import cures, narrowing
from nb_oomhelper.source.collecting import find_appends
from nb_oomhelper.source.cure_kinds import CureKind
from nb_oomhelper.source.cures import Cure, function_in, write_cure
from nb_oomhelper.source.element import Element, merged
from nb_oomhelper.source.lighter import find_errors, find_wide
from nb_oomhelper.source.source_text import Edit, SourceText
from nb_oomhelper.source.sums import find_additions
from nb_oomhelper.source.text_edits import read_text

GRAPH, NUMBER, OTHER = Element("graph"), Element("number"), Element("other")


def text_of(source: str) -> SourceText:
    text = read_text(source)
    assert text is not None
    return text


def written(text: SourceText, edits: Sequence[Edit], kind: CureKind = "append_item") -> Cure | None:
    return write_cure(text, [(kind, edits)])


def source_of(cure: Cure | None) -> str | None:
    return None if cure is None else cure.changed.source


TRAIN = """\
losses = []
for x, y in loader:  # noqa
    loss = criterion(model(x), y)
    loss.backward()
    losses.append(loss)   # for the plot
"""


def test_only_the_appended_loss_is_changed() -> None:
    text = text_of(TRAIN)
    cure = written(text, find_appends(text, text.tree.body, "losses", NUMBER))
    assert cure is not None
    assert cure.changed.source == TRAIN.replace("losses.append(loss)", "losses.append(loss.item())")
    assert cure.changed.line == 5
    assert cure.changed.before == "losses.append(loss)   # for the plot"
    assert cure.changed.after == "losses.append(loss.item())   # for the plot"


def test_where_nobody_knows_what_is_kept_only_a_loss_counts() -> None:
    text = text_of(TRAIN)
    assert find_appends(text, text.tree.body, "losses", None)
    text = text_of("losses.append(model(x))")
    assert not find_appends(text, text.tree.body, "losses", None)


def parts(**named: Element) -> Element:
    given: dict[object, Element] = dict(named.items())
    return Element("parts", given)


RECORD = Element("parts", {0: OTHER, "step": OTHER, 1: GRAPH, "out": GRAPH}, maker="Result")
LEVELS = Element("parts", {0: GRAPH, 1: GRAPH})
PAIR = Element("parts", {0: OTHER, 1: parts(out=GRAPH, name=OTHER)})


@pytest.mark.parametrize(
    ("keeper", "element", "before", "after"),
    [
        ("losses", GRAPH, "losses.append(model(x))", "losses.append(model(x).detach())"),
        ("losses", NUMBER, "losses.append(F.mse_loss(model(x), y))", "losses.append(F.mse_loss(model(x), y).item())"),
        ("losses", GRAPH, "losses += [loss]", "losses += [loss.detach()]"),
        ("losses", GRAPH, "losses += loss, out", "losses += loss.detach(), out.detach()"),
        ("losses", GRAPH, "losses = losses + [loss]", "losses = losses + [loss.detach()]"),
        ("losses", GRAPH, "losses[step] = out", "losses[step] = out.detach()"),
        ("losses", GRAPH, "losses.insert(0, out)", "losses.insert(0, out.detach())"),
        ("losses", GRAPH, "losses.extend(net(x) for x in xs)", "losses.extend(net(x).detach() for x in xs)"),
        ("losses", GRAPH, "losses = [net(x) for x in xs]", "losses = [net(x).detach() for x in xs]"),
        (
            "losses",
            GRAPH,
            "outs, losses = [], [net(x) for x in xs]",
            "outs, losses = [], [net(x).detach() for x in xs]",
        ),
        ("losses", NUMBER, "losses.append(loss / 2)", "losses.append((loss / 2).item())"),
        ("losses", GRAPH, "losses.append(é if é else loss)", "losses.append((é if é else loss).detach())"),
        ("losses", GRAPH, "losses: list = [f(x) for x in xs]", "losses: list = [f(x).detach() for x in xs]"),
        ("losses", GRAPH, "losses.append(f'{x}')", None),
        (
            "losses",
            PAIR,
            'losses.append((step, {"out": out, "name": x}))',
            'losses.append((step, {"out": out.detach(), "name": x}))',
        ),
        ("losses", PAIR, "losses.append((x, dict(out=f(x))))", "losses.append((x, dict(out=f(x).detach())))"),
        ("losses", LEVELS, "losses.append([f(x) for x in xs])", "losses.append([f(x).detach() for x in xs])"),
        ("losses", LEVELS, "losses.append(tuple(f(x) for x in xs))", "losses.append(tuple(f(x).detach() for x in xs))"),
        ("losses", PAIR, "losses.append([f(x) for x in xs])", None),  # one of them is no tensor
        ("losses", PAIR, "losses.append(made)", None),  # a tuple has no detach()
        ("losses", PAIR, "losses.append(f(x, dict(out=y)))", None),
        ("losses", RECORD, "losses.append(Result(step, out))", "losses.append(Result(step, out.detach()))"),
        ("losses", RECORD, "losses.append(Result(step, out=f(x)))", "losses.append(Result(step, out=f(x).detach()))"),
        ("losses", RECORD, "losses.append(result_of(step, out))", None),
        ("losses", OTHER, "losses.append(net(x))", None),  # nor has a ModelOutput
        ("losses", GRAPH, "losses.append(float(loss))", None),
        ("losses", GRAPH, "losses.append(loss.detach().cpu())", None),
        ("losses", GRAPH, "other.append(loss)", None),
        ("losses", GRAPH, "x.losses.append(loss)", None),
        ("trainer.outputs", GRAPH, "self.outputs.append(out)", "self.outputs.append(out.detach())"),
        ("trainer.outputs", GRAPH, "outputs.append(out)", None),
        ("history['loss']", NUMBER, 'history["loss"].append(loss)', 'history["loss"].append(loss.item())'),
        ("history['loss']", NUMBER, "history[kind].append(loss)", "history[kind].append(loss.item())"),
        ("history['loss']", NUMBER, 'history["seen"].append(loss)', None),
        ("history", NUMBER, "history[key].append(loss)", "history[key].append(loss.item())"),
        ("history", NUMBER, "history.setdefault(k, []).append(loss)", "history.setdefault(k, []).append(loss.item())"),
    ],
)
def test_what_is_appended(keeper: str, element: Element, before: str, after: str | None) -> None:
    text = text_of(before)
    edits = find_appends(text, text.tree.body, keeper, element)
    edits = [edit for edit in edits if not before.startswith("losses.append(f'")]
    assert source_of(written(text, edits)) == after


@pytest.mark.parametrize(
    "use",
    [
        "torch.stack(losses).mean()",
        "sum(one.cpu() for one in losses)",
        "print(losses[-1].item())",
        "for one in losses:\n    print(one.detach())",
    ],
)
def test_who_reads_tensors_gets_tensors(use: str) -> None:
    text = text_of(f"losses.append(loss)\n{use}\n")
    cure = written(text, find_appends(text, text.tree.body, "losses", NUMBER))
    assert source_of(cure) == f"losses.append(loss.detach())\n{use}\n"


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("total", "total += loss", "total += loss.item()"),
        ("total", "total = total + loss", "total = total + loss.item()"),
        ("total", "total = criterion(model(x), y) + total", "total = criterion(model(x), y).item() + total"),
        ("total", "total, n = total + loss, n + 1", "total, n = total + loss.item(), n + 1"),
        ("total", "total += loss * len(x)", "total += (loss * len(x)).item()"),
        ("total", "total += loss; print(total.item())", "total += loss.detach(); print(total.item())"),
        ("fitter.total", "self.total += loss", "self.total += loss.item()"),
        ("stats['loss']", 'stats["loss"] += loss', 'stats["loss"] += loss.item()'),
        ("total", "total += loss.item()", None),
        ("total", "total += 1", None),
        ("total", "total = loss + other", None),
        ("total", "total += loss; total.backward()", None),
        ("total", "total = total + loss; (total / n).backward()", None),
        ("total", "total += loss; mean = total / n; mean.backward()", None),
        ("total", "loss.backward(); total += loss", "loss.backward(); total += loss.item()"),
        ("x", "eps = net(x, t); x = x - eps; x = x + noise()", None),  # what goes on from its own value is no sum
        (
            "total",
            "total += loss; show(total); mean = total / n",
            "total += loss.item(); show(total); mean = total / n",
        ),
    ],
)
def test_what_is_added_up(name: str, before: str, after: str | None) -> None:
    text = text_of(f"for x in xs:\n    {before}\n")
    cure = written(text, find_additions(text, text.tree.body, name))
    assert source_of(cure) == (f"for x in xs:\n    {after}\n" if after else None)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("errors.append(e)", "errors.append(e.with_traceback(None))"),
        ("errors.append((size, e))", "errors.append((size, e.with_traceback(None)))"),
        ("errors[size] = e", "errors[size] = e.with_traceback(None)"),
        ("errors.append(str(e))", None),
        ("errors.append(f'{e}')", None),
        ("errors.append(other)", None),
    ],
)
def test_errors_that_are_kept(before: str, after: str | None) -> None:
    frame = "try:\n    f()\nexcept Exception as e:\n    {}\n"
    text = text_of(frame.format(before))
    cure = written(text, find_errors(text, text.tree.body, "errors"))
    assert source_of(cure) == (frame.format(after) if after else None)


@pytest.mark.parametrize("more", ["raise", "traceback.print_exc()", "log.exception(1)", "show(e.__traceback__)"])
def test_an_error_that_is_shown_keeps_its_traceback(more: str) -> None:
    text = text_of(f"try:\n    f()\nexcept Exception as e:\n    errors.append(e)\n    {more}\n")
    assert find_errors(text, text.tree.body, "errors") == []


def test_an_error_without_its_traceback_is_the_same_error() -> None:
    text = text_of("errors = []\ntry:\n    1 / 0\nexcept ZeroDivisionError as e:\n    errors.append(e)\n")
    cure = written(text, find_errors(text, text.tree.body, "errors"))
    names: dict[str, Any] = {}
    exec(source_of(cure) or "", names)
    (error,) = names["errors"]
    assert (type(error), str(error), error.__traceback__) == (ZeroDivisionError, "division by zero", None)


def test_wide_arrays_that_are_kept() -> None:
    text = text_of("kept.append(extract(i) + 1)")
    cure = written(text, find_wide(text, text.tree.body, "kept", Element("float64")))
    assert source_of(cure) == 'kept.append((extract(i) + 1).astype("float32"))'
    assert not find_wide(text, text.tree.body, "kept", OTHER)


def test_what_elements_have_in_common() -> None:
    assert merged(PAIR, PAIR) == PAIR
    assert merged(GRAPH, NUMBER) == GRAPH
    assert merged(PAIR, GRAPH) == OTHER
    assert merged(parts(a=GRAPH), parts(a=OTHER)) == parts(a=OTHER)


@pytest.mark.parametrize(
    "source",
    [
        "for x in xs:\n    out, h = rnn(x, h)\n    loss = crit(out)\n    loss.backward(retain_graph=True)\n",
        "for i in range(3):\n    self.h = cell(x, self.h)\n    f(self.h).backward(retain_graph=True)\n",
        "for i in range(3):\n    out[i].sum().backward(retain_graph=True)\n",
    ],
)
def test_a_graph_that_steps_share_is_kept(source: str) -> None:
    text = text_of(source)
    assert cures.backward_once(text, text.tree.body, {"out"}) == []
    cut = text_of(
        "for x in xs:\n    out, h = rnn(x, h)\n    out.sum().backward(retain_graph=True)\n    h = h.detach()\n"
    )
    assert cures.backward_once(cut, cut.tree.body)


def test_whole_numbers_and_sums_are_no_float32() -> None:
    text = text_of("i = np.full(n, 3)\nk = np.full(n, -0.5)\nm = x.mean(dtype=np.float64)\n")
    (edit,) = cures.in_float32(text, text.tree.body)
    assert text.text[edit[0] - 4 : edit[0]] == "-0.5"


@pytest.mark.parametrize(
    "body",
    ["g = torch.autograd.grad(net(x).sum(), x)", "x.requires_grad_()", "x.requires_grad = True", "print(w.grad)"],
)
def test_who_takes_gradients_keeps_graphs(body: str) -> None:
    text = text_of(f"def saliency(x):\n    {body}\n")
    node = text.tree.body[0]
    assert isinstance(node, ast.FunctionDef)
    assert cures.without_grad(text, node) == []


def test_what_is_given_back_or_read_elsewhere_stays_a_tensor() -> None:
    text = text_of("def f():\n    for x in xs:\n        total += g(x)\n    mean = total / 3\n    return mean\n")
    body = text.tree.body[0].body  # type: ignore[attr-defined]
    assert {new for _, _, new in find_additions(text, body, "total")} == {".detach()"}
    text = text_of("for x in xs:\n    losses.append(g(x))\n")
    assert {new for _, _, new in find_appends(text, text.tree.body, "losses", NUMBER)} == {".item()"}
    other = ast.parse("print(torch.stack(losses))").body
    assert {new for _, _, new in find_appends(text, text.tree.body, "losses", NUMBER, [other])} == {".detach()"}


def test_what_a_function_is_given_may_be_a_number_already() -> None:
    text = text_of("class Meter:\n    def update(self, val, n=1):\n        self.sum += val * n\n")
    body = text.tree.body[0].body[0].body  # type: ignore[attr-defined]
    cure = source_of(written(text, find_additions(text, body, "meter.sum")))
    assert cure is not None
    found: dict[str, Any] = {}
    exec(cure, found)
    meter = found["Meter"]()
    torch = pytest.importorskip("torch")
    for given, expected in (
        ((torch.ones((), requires_grad=True), 2, 0.5), 7),
        ((numpy.ones(2), [0.5, 1] * numpy.ones(2)), [3, 4]),
    ):
        meter.sum = 0
        for val in given:
            meter.update(val, 2)
        assert not getattr(meter.sum, "requires_grad", False)
        assert numpy.array_equal(meter.sum, expected)  # of several numbers, too


def test_several_in_one_go() -> None:
    source = "for x in xs:\n    loss.backward(retain_graph=True)\n    step()\n    losses.append(loss)\n"
    text = text_of(source)
    body = text.tree.body
    found: list[tuple[CureKind, list[Edit]]] = [
        ("append_item", find_appends(text, body, "losses", NUMBER)),
        ("retain_graph", cures.backward_once(text, body)),
        ("float32", []),
    ]
    cure = write_cure(text, found)
    assert cure is not None
    assert cure.kinds == ("append_item", "retain_graph")
    assert cure.changed.before == "loss.backward(retain_graph=True)\nlosses.append(loss)"
    assert cure.changed.after == "loss.backward()\nlosses.append(loss.item())"


def test_edits_that_overlap_or_break_are_not_written() -> None:
    text = text_of("x = 1\n")
    assert write_cure(text, [("float32", [(0, 3, "y"), (2, 4, "z")])]) is None
    assert write_cure(text, [("float32", [(0, 1, "(")])]) is None
    assert write_cure(text, [("float32", [(0, 1, "x")])]) is None


SOURCE = "import torch\n\n    \n@cached\ndef evaluate(net, data):\n    return [net(x) for x in data]\n"


def test_a_function_that_evaluates() -> None:
    text = text_of(SOURCE)
    node = function_in(text, "evaluate")
    assert node is not None
    cure = written(text, cures.without_grad(text, node), "no_grad")
    assert cure is not None
    assert cure.changed.source == SOURCE.replace("def evaluate", "@torch.no_grad()\ndef evaluate")
    assert cure.changed.after == "@torch.no_grad()\ndef evaluate(net, data):"


@pytest.mark.parametrize(
    "source",
    [
        "def evaluate(net):\n    loss.backward()",
        "def evaluate(net):\n    with torch.no_grad(): pass",
        "def evaluate(net):\n    opt.step()",
        "async def evaluate(net):\n    pass",
        "@torch.jit.script\ndef evaluate(net):\n    pass",
        "@torch.inference_mode()\ndef evaluate(net):\n    pass",
    ],
)
def test_a_function_that_trains_or_has_it(source: str) -> None:
    text = text_of(source)
    node = function_in(text, "evaluate")
    assert node is not None
    assert not cures.without_grad(text, node)


def test_of_two_methods_the_line_tells() -> None:
    text = text_of("class A:\n    def fit(self): a\nclass B:\n    @x\n    def fit(self): b\n")
    assert [ast.unparse(found) if (found := function_in(text, "fit", line)) else None for line in (2, 4, 5)] == [
        "def fit(self):\n    a",
        "@x\ndef fit(self):\n    b",
        None,
    ]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("loss.backward(retain_graph=True)", "loss.backward()"),
        ("loss.backward(g, retain_graph=True)", "loss.backward(g, retain_graph=False)"),
        ("loss.backward(retain_graph=True); more.backward()", None),
        ("loss.backward(retain_graph=True); g = torch.autograd.grad(loss, x)", None),
        ("loss.backward()", None),
        ("loss.backward(retain_graph=keep)", None),
    ],
)
def test_a_graph_that_is_kept(before: str, after: str | None) -> None:
    text = text_of(before)
    assert source_of(written(text, cures.backward_once(text, text.tree.body))) == after


@pytest.mark.parametrize(
    ("line", "before", "after"),
    [
        (2, "x = 1\nmodel = Net()\nmodel.eval()\n", "x = 1\nmodel = None\nmodel = Net()\nmodel.eval()\n"),
        (
            1,
            "model = Net()\nopt = Adam(model)\n",
            "model = opt = None\nmodel = Net()\nopt = Adam(model)\n",
        ),
        (1, "model, opt = make()\n", "model = opt = None\nmodel, opt = make()\n"),
        (2, "model = Net()\nmodel.fit()\n", None),  # it failed when the old one was gone
        (1, "opt.zero()\nmodel = Net()\n", None),
        (1, "model = Net(model)\n", None),
        (1, "model += Net()\n", None),
        (1, "x = 1; model = Net()\n", None),
        (1, "model = train()\n", None),  # which reads it
        (2, "if True:\n    model = Net()\n", None),
    ],
)
def test_the_old_one_first(line: int, before: str, after: str | None) -> None:
    text = text_of(before)
    edits = cures.old_first(text, ["model", "opt"], line, {"train"})
    assert source_of(written(text, edits)) == after


def test_the_old_one_where_the_new_one_is_no_statement_of_its_own() -> None:
    text = text_of("for x in xs:\n    model = Net()\n")
    assert not cures.old_first(text, ["model"], 2)
    several = read_text("a = f(); b = a * 2; c = b + a\n")
    assert several is not None
    assert not cures.old_first(several, ["a"], 1)  # it may be `b` that had no room


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("x = np.zeros((4, 5))", "x = np.zeros((4, 5), dtype=np.float32)"),
        ("x = np.full((4, 5), 1.5)", "x = np.full((4, 5), 1.5, dtype=np.float32)"),
        ("x = np.zeros((4, 5), dtype=np.float64)", "x = np.zeros((4, 5), dtype=np.float32)"),
        ('x = y.astype("float64")', 'x = y.astype("float32")'),
        ("x = y.astype(np.float64)", "x = y.astype(np.float32)"),
        ("x = np.eye(9)[labels]", "x = np.eye(9, dtype=np.float32)[labels]"),
        ("x = k + 0.1 * np.eye(9)", None),
        ("x = np.zeros((4, 5), int)", None),
        ("x = np.zeros((4, 5), **more)", None),
        ("x = torch.zeros((4, 5))", None),
    ],
)
def test_half_the_bytes(before: str, after: str | None) -> None:
    text = text_of(before)
    assert source_of(written(text, cures.in_float32(text, text.tree.body))) == after


def test_text_that_is_wide() -> None:
    source = '\n名前 = "é"; losses.append(損失)  # ü\n'
    text = text_of(source)
    cure = written(text, find_appends(text, text.tree.body, "losses", GRAPH))
    assert source_of(cure) == source.replace("(損失)", "(損失.detach())")


def test_what_is_no_python() -> None:
    assert read_text("%%time\nx = (") is None


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("x = torch.tensor(data)", "x = torch.tensor(data, dtype=torch.float32)"),
        ("x = torch.from_numpy(data).cuda()", "x = torch.from_numpy(data).float().cuda()"),
        ("x = torch.ones(3, dtype=torch.double)", "x = torch.ones(3, dtype=torch.float32)"),
        ("x = torch.tensor(labels)", None),
        ("x = torch.tensor(data, dtype=torch.float16)", None),
    ],
)
def test_tensors_of_wide_arrays(before: str, after: str | None) -> None:
    text = text_of(before)
    assert source_of(written(text, narrowing.float32_tensors(text, text.tree.body, ["data"]))) == after
