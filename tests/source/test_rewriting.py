"""Loops, attempts and expressions, written so that they need less: the text, and that it gives the same."""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from nb_oomhelper.source import loaded, narrowing, rewriting
from nb_oomhelper.source.backward_each import backward_each
from nb_oomhelper.source.cures import write_cure
from nb_oomhelper.source.source_text import Edit, SourceText
from nb_oomhelper.source.text_edits import read_text


def change(source: str, find: Callable[[SourceText], Sequence[Edit]]) -> str | None:
    text = read_text(source)
    assert text is not None
    cure = write_cure(text, [("retry", find(text))])
    return None if cure is None else cure.changed.source


def ran(source: str | None, **names: Any) -> dict[str, Any]:
    assert source is not None
    exec(source, names)
    return names


RETRY = """
def step(size):
    if size > 4:
        raise RuntimeError("out of memory")
    import sys
    return size, sys.exc_info()[1]

for size in (8, 2):
    try:
        loss = step(size)
    except RuntimeError as err:
        print(err)
        # half of it
        size = size // 2
        loss = step(size)
    else_ = 1
"""


class TestRetry:
    def retried(self, source: str, line: int) -> str | None:
        return change(source, lambda text: rewriting.retry_after(text, text.tree.body, line))

    def test_it_runs_when_the_error_has_gone(self) -> None:
        changed = self.retried(RETRY, 15)
        assert changed is not None
        assert "            out_of_memory = True" not in changed
        assert changed.splitlines()[8:18] == [
            "    out_of_memory = False",
            "    try:",
            "        loss = step(size)",
            "    except RuntimeError as err:",
            "        print(err)",
            "        # half of it",
            "        out_of_memory = True",
            "    if out_of_memory:",
            "        size = size // 2",
            "        loss = step(size)",
        ]
        names = ran(changed)
        assert (names["loss"], names["else_"]) == ((2, None), 1)

    def test_it_did_not_before(self) -> None:
        assert ran(RETRY.replace("(8, 2)", "(8,)"))["loss"][1] is not None
        assert ran(self.retried(RETRY.replace("(8, 2)", "(8,)"), 15))["loss"] == (4, None)

    def test_where_it_would_not_be_the_same(self) -> None:
        assert self.retried(RETRY, 10) is None  # the first attempt failed
        assert self.retried(RETRY.replace("loss = step(size)\n    else_", "loss = step(err)\n    else_"), 15) is None
        assert self.retried(RETRY.replace("    else_ = 1", "    finally:\n        pass"), 15) is None
        assert (
            self.retried(RETRY.replace("loss = step(size)\n    else_", "traceback.print_exc()\n    else_"), 15) is None
        )
        assert self.retried(RETRY.replace("size = size // 2", 'size = """\n    """'), 16) is None

    def test_of_two_handlers_the_other_one_stays(self) -> None:
        source = "try:\n    f()\nexcept ValueError:\n    g()\nexcept KeyError:\n    h()\n"
        assert self.retried(source, 4) == (
            "out_of_memory = False\ntry:\n    f()\nexcept ValueError:\n    out_of_memory = True\nexcept KeyError:\n"
            "    h()\nif out_of_memory:\n    g()\n"
        )


MICRO = """
opt.zero_grad()
loss = 0
for mb in parts:
    loss = loss + net(mb).pow(2).mean() / len(parts)
loss.backward()
opt.step()
"""

TURNS = """
seen = []
opt.zero_grad()
loss = 0
for i, mb in enumerate(parts):
    loss = loss + net(mb).pow(2).mean() / 4
    if i % 4 == 3:
        loss.backward()
        seen.append(loss.item())
        opt.step()
        opt.zero_grad()
        loss = 0
"""


class TestBackwardEach:
    def each(self, source: str) -> str | None:
        return change(source, lambda text: backward_each(text, text.tree.body, "loss"))

    @pytest.mark.parametrize("sent", ["loss.backward()", "(loss / 4).backward()", "(loss * 0.25).backward()"])
    def test_the_gradients_are_the_same(self, sent: str) -> None:
        torch = pytest.importorskip("torch")
        whole = MICRO.replace("loss.backward()", sent)
        changed = self.each(whole)
        grads = []
        for source in (whole, changed):
            torch.manual_seed(0)
            net = torch.nn.Linear(3, 1)
            given = {
                "net": net,
                "opt": torch.optim.SGD(net.parameters(), lr=0.1),
                "parts": torch.ones(4, 2, 3).unbind(0),
            }
            names = ran(source, **given)
            grads.append((net.weight.grad, net.weight.detach(), names["loss"].detach()))
        assert all(torch.allclose(one, other) for one, other in zip(*grads, strict=True))

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ("loss.backward()", "loss = loss / 2\nloss.backward()"),
            ("loss.backward()", "loss.backward(retain_graph=True)"),
            ("loss.backward()", "(loss / loss.detach()).backward()"),
            ("loss.backward()", "(loss / mb.sum()).backward()"),  # of the last part alone
            ("loss.backward()", "n = 8\n(loss / n).backward()"),
            ("loss.backward()", "(loss * torch.rand(())).backward()"),
            (" / len(parts)\nloss.backward()", "\n    done.append(mb)\n(loss / len(done)).backward()"),
            ("loss = 0\nfor", "loss = net.weight.pow(2).sum()\nfor"),
            ("loss.backward()", "opt.step()\nloss.backward()"),
            ("loss.backward()", "net.weight.grad = None\nloss.backward()"),
            ("loss = loss + net(mb)", "h = cell(mb, h)\n    loss = loss + net(h)"),  # the steps share its graph
            ("    loss = loss", "    opt.step()\n    loss = loss"),
            ("    loss = loss", "    print(loss)\n    loss = loss"),
        ],
    )
    def test_where_it_would_not_be_the_same(self, old: str, new: str) -> None:
        assert self.each(MICRO.replace(old, new)) is None

    def test_every_so_many_steps_the_gradients_are_the_same(self) -> None:
        torch = pytest.importorskip("torch")
        ends = []
        for source in (TURNS, self.each(TURNS)):
            torch.manual_seed(0)
            net = torch.nn.Linear(3, 1)
            given = {"net": net, "opt": torch.optim.Adam(net.parameters()), "parts": torch.rand(9, 2, 3).unbind(0)}
            names = ran(source, **given)
            ends.append((net.weight.detach(), names["loss"].detach(), torch.tensor(names["seen"])))
        assert all(torch.allclose(one, other) for one, other in zip(*ends, strict=True))

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ("        loss.backward()", "        opt.zero_grad()\n        loss.backward()"),
            ("        loss = 0\n", ""),
            ("opt.zero_grad()\nloss", "loss"),
            ("        opt.step()", "        loss.backward()"),
            ("    if i", "    opt.zero_grad()\n    if i"),
            ("    if i", "    print(loss)\n    if i"),
            ("        loss = 0\n", "        loss = 0\nif i % 4 != 3:\n    loss.backward()\n"),
        ],
    )
    def test_every_so_many_steps_where_it_would_not_be_the_same(self, old: str, new: str) -> None:
        assert old in TURNS
        assert self.each(TURNS.replace(old, new, 1)) is None

    def test_gradients_are_set_to_zero_before_the_first_part(self) -> None:
        source = MICRO.replace("opt.zero_grad()\n", "").replace("loss.backward()", "opt.zero_grad()\nloss.backward()")
        assert self.each(source) == self.each(MICRO.replace("opt.zero_grad()\nloss = 0", "loss = 0\nopt.zero_grad()"))

    def test_what_a_step_moves_is_its_own(self) -> None:
        assert self.each(MICRO.replace("    loss = loss", "    mb = mb.to(device)\n    loss = loss"))

    def test_parts_that_share_a_graph_stay(self) -> None:
        text = read_text("z = enc(x)\nloss = 0\nfor head in heads:\n    loss += head(z)\nloss.backward()\n")
        assert text is not None
        assert backward_each(text, text.tree.body, "loss", {"loss"})
        assert backward_each(text, text.tree.body, "loss", {"loss", "z"}) == []

    def test_other_spellings(self) -> None:
        changed = self.each("for x in xs:\n    loss += f(x)\nloss.backward()")
        assert changed == (
            "for x in xs:\n    loss_part = f(x)\n    loss_part.backward()\n    loss = loss + loss_part.detach()\n"
        )


class TestInPlace:
    @pytest.mark.parametrize(
        "expression",
        [
            "(x - x.mean(axis=0)) / x.std(axis=0)",
            "(x - x.min()) / (x.max() - x.min())",
            "x / 255.0",
            "(x - x.mean(0)) / (x.std(0) + 1e-8) * 2",
            "(x - np.mean(x, axis=0)) / np.std(x, axis=0)",
        ],
    )
    def test_the_numbers_are_the_same(self, expression: str) -> None:
        numpy = pytest.importorskip("numpy")
        source = f"x = {expression}\ny = 1\n"
        changed = change(source, lambda text: narrowing.in_place(text, text.tree.body, "x"))
        before, after = numpy.arange(12.0).reshape(4, 3), numpy.arange(12.0).reshape(4, 3)
        expected = ran(source, x=before, np=numpy)["x"]
        names = ran(changed, x=after, np=numpy)
        assert names["x"] is after
        assert numpy.allclose(after, expected)

    @pytest.mark.parametrize(
        "source",
        [
            "x = y - x.mean()",
            "x = x @ x.T",
            "x = x - other",
            "x = f(x)",
            "x = y = x - 1",
            "x = x - x.sum(where=m)",
            "x = x - x.mean(dtype=np.float64)",
            "x = x - other.mean()",
            "x = (x - x.min()) / (x.max() - x.min()) + x_1",
            "x = x",
        ],
    )
    def test_what_stays(self, source: str) -> None:
        assert change(source, lambda text: narrowing.in_place(text, text.tree.body, "x")) is None


CONCAT = """
df = pd.DataFrame()
versions = []
for month in range(3):
    df = pd.concat([df, load(month)], ignore_index=True)
    versions.append(df)
print(len(df))
"""


class TestConcat:
    def once(self, source: str) -> str | None:
        return change(source, lambda text: rewriting.concat_once(text, text.tree.body))

    def test_the_frame_is_the_same(self) -> None:
        pandas = pytest.importorskip("pandas")
        changed = self.once(CONCAT)
        assert changed is not None
        assert "versions.append" not in changed
        frames = [
            ran(one, pd=pandas, load=lambda month: pandas.DataFrame({"m": [month]}))["df"] for one in (CONCAT, changed)
        ]
        assert frames[0].equals(frames[1])

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ("    versions", "    print(len(df))\n    versions"),
            ("df = pd.DataFrame()", "df = load(0)"),
            ("[df, load(month)]", "[df, load(month), df]"),
            ("ignore_index=True", "keys=['a', 'b']"),
        ],
    )
    def test_what_stays(self, old: str, new: str) -> None:
        assert self.once(CONCAT.replace(old, new)) is None


@pytest.mark.parametrize(
    ("find", "before", "after"),
    [
        (narrowing.sparse_dummies, 'pd.get_dummies(a, columns=["b"])', 'pd.get_dummies(a, columns=["b"], sparse=True)'),
        (narrowing.sparse_dummies, "pd.get_dummies(a, sparse=False)", None),
        (narrowing.sparse_dummies, 'df["a"].str.get_dummies(sep=";")', None),
        (narrowing.small_dummies, 'df["a"].str.get_dummies(";")', 'df["a"].str.get_dummies(";", dtype="uint8")'),
        (narrowing.small_dummies, "t.str.get_dummies()", 't.str.get_dummies(dtype="uint8")'),
        (narrowing.small_dummies, "t.str.get_dummies(dtype=bool)", None),
        (narrowing.small_dummies, "d = t.str.get_dummies(';')\nboth = d.T @ d", None),
        (narrowing.small_dummies, "d = t.str.get_dummies(';')\ne = df.join(d)\ngap = e.a - e.b", None),
        (narrowing.small_dummies, "w = t.str.get_dummies(';').mul(x, axis=0)", None),
        (narrowing.small_dummies, 'pd.get_dummies(a, columns=["b"])', None),
        (loaded.on_host, 'c = torch.load("c.pt")', 'c = torch.load("c.pt", map_location="cpu")'),
        (loaded.on_host, 'c = torch.load("c.pt", map_location=d)', None),
        (loaded.on_host, "c = torch.load(f, pickle)", None),
        (
            narrowing.less_state,
            "o = torch.optim.Adam(m.parameters(), lr=1e-4, betas=(0.9, 0.99), weight_decay=w)",
            "o = torch.optim.Adafactor(m.parameters(), lr=1e-4, weight_decay=w)",
        ),
        (narrowing.less_state, "o = torch.optim.AdamW(p, 1e-4)", "o = torch.optim.Adafactor(p, lr=1e-4)"),
        (narrowing.less_state, "o = torch.optim.Adam(p, **more)", None),
        (narrowing.less_state, "o = optim.Adam(p)", "o = optim.Adafactor(p)"),
        (narrowing.less_state, "o = Adam(p)", None),
        (narrowing.still_sparse, "s = counts.toarray() @ w", "s = counts @ w"),
        (narrowing.still_sparse, "s = w @ f(x).todense(), f(x).todense().dot(w)", None),  # of matrices it is one
        (narrowing.still_sparse, "s = counts.toarray().dot(w), a.toarray().max()", "s = counts.dot(w), a.max()"),
        (narrowing.still_sparse, "s = a.toarray() @ b.toarray()", None),
        (narrowing.still_sparse, "s = a.toarray(order) @ b, a.toarray().sum(axis=1), a.toarray() * 2", None),
    ],
)
def test_calls(find: Callable[[SourceText, Any], list[Edit]], before: str, after: str | None) -> None:
    assert change(textwrap.dedent(before), lambda text: find(text, text.tree.body)) == after


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("x = np.array(parts), np.array(y)", "x = np.array(parts, dtype=np.float32), np.array(y)"),
        ("x = numpy.vstack([parts, y])", "x = numpy.vstack([parts, y], dtype=numpy.float32)"),
        ("x = np.stack([p[:9] for p in parts])", "x = np.stack([p[:9] for p in parts], dtype=np.float32)"),
        ("x = np.array([len(parts), 3]), np.array([p.shape[0] for p in parts])", None),  # these are whole
        ("x = np.stack(parts, dtype=t), np.array(*more), stack(parts), torch.stack(parts)", None),
    ],
)
def test_lists_of_arrays_are_put_together_as_float32(before: str, after: str | None) -> None:
    find = narrowing.collected_as_float32
    assert change(before, lambda text: find(text, text.tree.body, {"parts"})) == after


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("x = np.stack(images) / 255.0", "x = np.stack(images, dtype=np.float32) / 255.0"),
        ("x = (pixels - 3) / 255.0", 'x = (pixels.astype("float32") - 3) / 255.0'),
        ("x = np.array(images, dtype=t) / 255.0, np.stack(images), other / 2, pixels @ w", None),
    ],
)
def test_whole_numbers_are_scaled_as_float32(before: str, after: str | None) -> None:
    find = narrowing.scaled_as_float32
    assert change(before, lambda text: find(text, text.tree.body, {"pixels"})) == after


@pytest.mark.parametrize(
    ("small", "after"), [({"mean", "std"}, "x -= mean\nx /= std"), ({"mean"}, None), (set[str](), None)]
)
def test_small_arrays_are_taken_off_in_place(small: set[str], after: str | None) -> None:
    source = "x = (x - mean) / std"
    assert change(source, lambda text: narrowing.in_place(text, text.tree.body, "x", small)) == after


def test_names_of_what_a_reduction_gives() -> None:
    assert narrowing.reduced_names(ast.parse("m = x.mean(axis=0)\ns = np.std(x)\ny = x - m").body) == {"m", "s"}


def test_what_may_stay_whole_stays() -> None:
    source = "i = pixels + 1\ny = w[pixels + 1] * s\nj = base + np.array([0, 1])\n"
    text = read_text(source)
    assert text is not None
    (edit,) = narrowing.scaled_as_float32(text, text.tree.body, {"pixels"})
    assert edit[0] < source.index("\n")


def test_sparse_stays_only_beside_what_is_surely_dense() -> None:
    text = read_text("s = counts.toarray() @ w\n")
    assert text is not None
    assert narrowing.still_sparse(text, text.tree.body, {"w"})
    assert narrowing.still_sparse(text, text.tree.body, {"v"}) == []
