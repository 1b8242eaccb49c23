"""`nb_oomhelper.windows`: the same as the copy, in no memory where it can be a view; and where it is offered."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nb_oomhelper.records.event import OomEvent
from nb_oomhelper.remedies.elements import find_kept
from nb_oomhelper.remedies.joined_windows import find_windows
from nb_oomhelper.remedies.places import Mistake, find_places
from nb_oomhelper.remedies.windows import is_even, size_joined, windows
from nb_oomhelper.remedies.written import Written
from tests.makers import HOST_EVENT
from tests.remedies.notebooks import written

np = pytest.importorskip("numpy")
pytestmark = pytest.mark.plain

SHAPES = st.lists(st.integers(1, 4), max_size=2).map(tuple)


def outcome(join: Any, parts: Any, **options: Any) -> Any:
    """What is joined, or the kind of error."""
    try:
        return join(parts, **options)
    except (ValueError, RuntimeError) as error:
        return type(error)


def is_same(view: Any, copy: Any) -> bool:
    if isinstance(copy, type):
        return view is copy
    alike = (view.shape, view.dtype, type(view)) == (copy.shape, copy.dtype, type(copy))
    return alike and bool((view == copy).all())


@given(st.integers(0, 40), SHAPES, st.integers(1, 12), st.integers(1, 5), st.integers(-2, 3), st.sampled_from("fdiB?"))
def test_arrays_are_those_of_the_copy(
    n: int, rest: tuple[int, ...], width: int, step: int, more: int, dtype: str
) -> None:
    values = (np.arange(n * int(np.prod(rest, dtype=int))).reshape((n, *rest)) * 7).astype(dtype)
    parts = [values[at : at + width] for at in range(0, n - width + more, step)]
    for join in (np.array, np.stack, np.asarray):
        assert is_same(outcome(lambda one, join=join: windows(join, one), parts), outcome(join, parts))
    if more < 2 and len(parts) > 1:  # no window is shorter
        assert np.shares_memory(windows(np.array, parts), values)
        assert not windows(np.array, parts).flags.writeable


@settings(deadline=None)
@given(st.integers(0, 30), SHAPES, st.integers(1, 9), st.integers(1, 5), st.booleans())
def test_tensors_are_those_of_the_copy(n: int, rest: tuple[int, ...], width: int, step: int, turned: bool) -> None:
    torch = pytest.importorskip("torch")
    values = torch.arange(n * int(np.prod(rest, dtype=int))).reshape(n, *rest)
    values = torch.flip(values, [0]).transpose(0, -1).contiguous().transpose(0, -1) if turned else values
    parts = [values[at : at + width] for at in range(0, n - width + 1, step)]
    assert is_same(outcome(lambda one: windows(torch.stack, one), parts), outcome(torch.stack, parts))
    if len(parts) > 1:
        assert windows(torch.stack, parts).untyped_storage().data_ptr() == values.untyped_storage().data_ptr()


VALUES = np.arange(600.0).reshape(200, 3)


@pytest.mark.parametrize(
    "parts",
    [
        [VALUES[at : at + 50, 1] for at in range(100)],
        [VALUES[at : at + 50].T for at in range(100)],
        [VALUES.T[:, at : at + 50] for at in range(100)],
        [VALUES[at - 50 : at] for at in range(50, 200)],
        [VALUES[at : at + 50][::-1] for at in range(100, 0, -1)],
        [VALUES[::-1][at : at + 50, None] for at in range(100)],
        tuple(VALUES[at : at + 50] for at in range(100)),
    ],
)
def test_other_slices(parts: Any) -> None:
    view = windows(np.array, parts)
    assert is_same(view, np.array(parts))
    assert np.shares_memory(view, VALUES)


@pytest.mark.parametrize(
    "parts",
    [
        [],
        [VALUES[:50]],
        [VALUES[at : at + 50] for at in (0, 1, 3)],
        [VALUES[at : at + 50] for at in range(100)] + [VALUES.copy()[100:150]],
        [VALUES[at : at + 50].copy() for at in range(100)],
        [VALUES[at : at + 50, [0, 2]] for at in range(100)],
        [VALUES[at] for at in (0, 1)] + [[1.0, 2.0, 3.0]],
        [1.5, 2.5],
        [VALUES, VALUES],
        [VALUES.astype(">f8")[at : at + 50] for at in range(100)],
        VALUES,
    ],
)
def test_anything_else_is_joined_as_it_was(parts: Any) -> None:
    made = windows(np.array, parts)
    assert is_same(made, np.array(parts))
    assert made.flags.writeable
    assert not np.shares_memory(made, VALUES)


def test_another_dtype_is_a_copy() -> None:
    parts = [VALUES[at : at + 50] for at in range(100)]
    assert not np.shares_memory(windows(np.array, parts, dtype=np.float32), VALUES)
    assert windows(np.array, parts, dtype="float32").dtype == "float32"
    assert np.shares_memory(windows(np.array, parts, dtype=float), VALUES)


def test_tensors_with_a_graph_keep_it() -> None:
    torch = pytest.importorskip("torch")
    weight = torch.ones(20, requires_grad=True)
    made = windows(torch.stack, [weight[at : at + 5] for at in range(10)])
    made.sum().backward()
    assert weight.grad.tolist()[4:10] == [5.0] * 6


def test_what_is_known_of_windows_after_an_error() -> None:
    many = np.zeros(5000)
    assert size_joined([many[at : at + 100] for at in range(4900)]) == (4900 * 800, "float64")
    assert size_joined([many[at : at + 100] for at in range(0, 4900, 100)]) is None  # as large as they are
    assert size_joined([many[at : at + 100] for at in [*range(4899), 4900]]) is None
    assert size_joined([many[at : at + 100].copy() for at in range(4900)]) is None
    assert size_joined(["text", many]) is size_joined([many]) is size_joined([]) is None
    assert is_even(np.arange(0, 5000, 3))
    assert not is_even(np.array([0, 1, 3]))
    assert not is_even(np.arange(3.0))
    assert not is_even(range(3))


MAKE = """
def make(values, width):
    X, y = [], []
    for i in range(len(values) - width):
        X.append(values[i:i + width])
        y.append(values[i + width, 0])
    return np.array(X), np.array(y)
"""
MIB = 1 << 20
SERIES = np.zeros((20_000, 2))
LOCAL = {"values": SERIES, "X": [SERIES[at : at + 100] for at in range(19_900)], "y": list(SERIES[100:, 0])}
REFUSED = replace(HOST_EVENT, message="", requested=19_900 * 200 * 8)


def failed(cell: str, functions: str = MAKE, local: Any = LOCAL, line: int = 1) -> Written:
    """A cell that failed where its function joins the windows, or where it does so itself."""
    one = written(cell, line, functions)
    known = find_kept(local)
    if not functions:
        return replace(one, kept=known)
    made = one.definitions[-1]
    at = next(at for at, text in enumerate(made.source.splitlines(), 1) if "np." in text or "torch." in text)
    step = replace(one.steps[0], function=made.name, file=made.file, first=made.line, line=at)
    return replace(one, steps=(*one.steps, step), local={(made.file, made.line): known})


def found_in(one: Written, event: OomEvent = REFUSED) -> list[Mistake]:
    return list(find_windows(one, event, find_places(one)))


@pytest.mark.parametrize(
    ("after", "partly"),
    [
        ("print(X.shape, len(X), X[:100].mean())", False),
        ("split = int(0.8 * len(X))\na, b = X[:split], X[split:]", False),
        ("X = X.reshape(X.shape[0], X.shape[1], 2, 1)\nX = np.reshape(X, (len(X), 1, X.shape[1], 2))", True),
        ("X = X.reshape((X.shape[0], X.shape[1], X.shape[2], 1))", False),
        ("for i in range(0, len(X), 64):\n    step(X[i:i + 64].astype('float32'), X[i])", False),
        ("ds = TensorDataset(torch.from_numpy(X), torch.from_numpy(y))", False),
        ("y = y.astype('float32')", False),
        ("X = X.astype('float32')", True),
        ("X = torch.tensor(X)", True),
        ("X = X.reshape(len(X), -1)", True),
        ("X = X / X.max()", True),
        ("a, b = train_test_split(X, y)", True),
        ("picked = X[order]", True),
        ("model.fit(X, y)", True),
        ("everything = [X, y]", True),
    ],
)
def test_a_copy_that_follows_is_said(after: str, partly: bool) -> None:
    (mistake,) = found_in(failed(f"X, y = make(series, 100)\n{after}\n"))
    assert (mistake.kind, mistake.subject, mistake.partly) == ("windows", "X", partly)
    assert mistake.explains == 19_900 * 200 * 8


@pytest.mark.parametrize(
    "after",
    [
        "X[:, 0] = 0",
        "X += 1",
        "X -= X.mean()",
        "a = X[:100]\na *= 2",
        "np.random.shuffle(X)",
        "rng.shuffle(X)",
        "X.fill(0)",
        "np.clip(X, 0, 1, out=X)",
        "a = X.transpose(0, 2, 1)\na[0] = 1",
        "for i in range(9):\n    X[i] -= 1",
        "series -= series.mean()",
        "series[5] = 0",
        "for one in X:\n    one -= one.mean()",
        "for i, (one, target) in enumerate(zip(X, y)):\n    one[0] = 1",
        "flat = X.reshape(-1, 200)\nflat[0] = 1",
        "X.ravel()[0] = 1",
        "X.flat[0] = 1",
        "a, b = np.split(X, 2)\na[0] = 1",
        "t = torch.as_tensor(X)\nt.add_(1)",
        "t = torch.from_numpy(X).float()\nt[0] = 1",
        "kept = {'X': X}\nkept['X'][0] = 1",
        "kept = [X]\nkept[0][0] = 1",
        "np.nan_to_num(X, copy=False)",
        "X.shape = (len(X), 200)",
        "np.subtract(series, 1, series)",
        "flat = series.reshape(-1)\nflat[0] = 1",
    ],
)
def test_none_where_somebody_writes_into_it(after: str) -> None:
    assert found_in(failed(f"X, y = make(series, 100)\n{after}\n")) == []


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("other = values", "other[:] = 0"),
        ("other = values[:10]", "other -= 1"),
        ("flat = values.reshape(-1)", "flat[0] = 1"),
        ("", "X[0][:] = 0"),
        ("", "for one in X:\n        one -= one.mean()"),
        ("", "np.subtract(values, 1, out=values)"),
    ],
)
def test_none_where_the_array_is_written_into_by_another_name(before: str, after: str) -> None:
    make = MAKE.replace("    X, y =", f"    {before}\n    X, y =")
    made = make.replace("    return np.array(X), np.array(y)", "    joined = np.array(X)\n    {}\n    return joined, y")
    assert found_in(failed("X, y = make(series, 100)\n", made.format("print(joined.shape)")))
    assert found_in(failed("X, y = make(series, 100)\n", made.format(after))) == []
    assert found_in(failed("data = series\nX, y = make(data, 100)\nseries[:] = 0\n")) == []
    assert found_in(failed("data = series * 2\nX, y = make(data, 100)\nseries[:] = 0\n"))


def test_none_where_one_buffer_is_filled_again_and_again() -> None:
    loop = "for one in many:\n    {}\n    X, y = make(buffer, 100)\n    out.append(X)\n"
    for fills in ("load(one, buffer)", "buffer[:] = one", "one.readinto(buffer)"):
        assert found_in(failed(loop.format(fills), line=3)) == []
    for fills in ("buffer = load(one)", "buffer = load(one)\n    show(buffer)"):
        assert found_in(failed(loop.format(fills), line=fills.count("\n") + 3))


def test_none_where_a_function_of_the_notebook_writes_into_it() -> None:
    scale = "def scale(windows):\n    windows /= 2\n    return windows\n"
    assert found_in(failed("X, y = make(series, 100)\nX = scale(X)\n", scale + MAKE)) == []
    assert found_in(failed("X, y = make(series, 100)\nX = scale(X)\n", scale.replace("/= 2", ".sum()") + MAKE))


def test_what_is_written() -> None:
    (mistake,) = found_in(failed("X, y = make(series, 100)\n"))
    assert mistake.place.text.edited(mistake.edits) == MAKE.replace("np.array(X)", "nb_oomhelper.windows(np.array, X)")


@pytest.mark.parametrize("dtype", ["dtype=np.float64", "dtype='float64'", "dtype=float"])
def test_the_dtype_that_they_have(dtype: str) -> None:
    make = MAKE.replace("np.array(X)", f"np.array(X, {dtype})")
    (mistake,) = found_in(failed("X, y = make(series, 100)\n", make))
    assert f"nb_oomhelper.windows(np.array, X, {dtype})" in mistake.place.text.edited(mistake.edits)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("np.array(X)", "np.array(X, dtype=np.float32)"),
        ("np.array(X)", "np.stack(X, axis=1)"),
        ("np.array(X)", "np.concatenate(X)"),
        ("np.array(X)", "np.array(X + X)"),
    ],
)
def test_what_is_joined_otherwise_stays(old: str, new: str) -> None:
    assert found_in(failed("X, y = make(series, 100)\n", MAKE.replace(old, new))) == []


def test_none_of_copies() -> None:
    copies = {"X": [SERIES[at : at + 100].copy() for at in range(0, 19_900, 100)], "values": SERIES}
    assert found_in(failed("X, y = make(series, 100)\n", local=copies)) == []


COMPREHENSION = "def make(values, width):\n    return np.stack([{} for i in range(0, len(values) - width)])\n"


@pytest.mark.parametrize(
    ("item", "found"),
    [
        ("values[i:i + width]", True),
        ("values[i:width + i, :]", True),
        ("values[i * 2:i * 2 + width, 0]", True),
        ("values[i + 1 - width:i + 1]", True),
        ("values[i:i + width, columns]", False),
        ("values[i:]", False),
        ("values[:i + 1]", False),
        ("values[width - i:width]", False),
        ("values[i ** 2:i ** 2 + width]", False),
        ("values[i:i + width:2]", False),
        ("values[i:i + width].copy()", False),
        ("other[i:i + width]", False),
    ],
)
def test_what_a_comprehension_takes(item: str, found: bool) -> None:
    one = failed("X = make(series, 100)\n", COMPREHENSION.format(item), {"values": SERIES})
    assert [mistake.subject for mistake in found_in(one)] == ["values"] * found


@pytest.mark.parametrize(
    ("starts", "found"), [(np.arange(0, 900, 3), True), (np.array([1, 5, 6]), False), ([1, 2, 3], False)]
)
def test_what_a_comprehension_goes_through(starts: Any, found: bool) -> None:
    cell = "X = np.stack([series[s:s + 100] for s in starts])\n"
    assert bool(found_in(failed(cell, "", {"series": SERIES, "starts": starts}))) is found


def test_none_where_the_copy_is_not_much_larger() -> None:
    one = failed("X = make(series, 100)\n", COMPREHENSION.format("values[i:i + width]"), {"values": SERIES})
    assert found_in(one, replace(REFUSED, requested=SERIES.nbytes)) == []
    assert found_in(one, replace(REFUSED, requested=None)) == []


INIT = """
class Data:
    def __init__(self, series, width):
        inputs = []
        for i in range(len(series) - width):
            inputs.append(series[i:i + width])
        self.inputs = np.stack(inputs)
    def scale(self):
        return self.inputs{}
"""


@pytest.mark.parametrize(
    ("method", "after", "found", "partly"),
    [
        ("[0]", "len(data.inputs)", True, False),
        ("[0]", "data.inputs.copy()", True, True),
        ("[0]", "data.inputs[0] = 1", False, False),
        (".fill(0)", "", False, False),
    ],
)
def test_what_an_object_keeps(method: str, after: str, found: bool, partly: bool) -> None:
    local = {"inputs": LOCAL["X"], "series": SERIES}
    one = failed(f"data = Data(series, 100)\n{after}\n", INIT.format(method), local)
    made = next(made for made in one.definitions if made.name == "__init__")
    step = replace(one.steps[1], function="__init__", file=made.file, first=made.line, line=7)
    known = {(made.file, made.line): find_kept(local)}
    mistakes = found_in(replace(one, steps=(one.steps[0], step), local=known))
    assert [mistake.partly for mistake in mistakes] == [partly] * found
