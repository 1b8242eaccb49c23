"""`nb_oomhelper.joined`, `Joining`: what a function gives for a list, without the list; and where it is offered."""

from __future__ import annotations

import tracemalloc
import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nb_oomhelper
from nb_oomhelper import Joining, joined
from nb_oomhelper.errors import UsageError
from nb_oomhelper.records.event import OomEvent
from nb_oomhelper.records.remedy import Shortage
from nb_oomhelper.remedies.cell_tables import find_rows
from nb_oomhelper.remedies.elements import find_kept
from nb_oomhelper.remedies.joined_parts import find_joins
from nb_oomhelper.remedies.places import Mistake, find_places
from nb_oomhelper.remedies.written import Written
from tests.makers import HOST_EVENT
from tests.remedies.notebooks import written

np = pytest.importorskip("numpy")
pytestmark = pytest.mark.plain

SHAPES = st.lists(st.integers(1, 4), min_size=1, max_size=3).map(tuple)
MADE = {
    "rows": lambda a: a,
    "columns": lambda a: np.asfortranarray(a),
    "turned": lambda a: np.swapaxes(a, 0, -1).copy().swapaxes(0, -1),
    "every other": lambda a: np.repeat(a, 2, 0)[::2],
}
JOINS = ("array", "asarray", "stack", "concatenate", "vstack", "hstack", "dstack", "column_stack")


def outcome(make: Any, *given: Any, **options: Any) -> Any:
    """What is made, or the kind of error."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of complex numbers that become real ones, and that a list is kept
        try:
            return make(*given, **options)
        except (ValueError, TypeError, IndexError, RuntimeError) as error:
            return type(error)


def is_same(one: Any, other: Any) -> bool:
    if isinstance(other, type):
        return one is other
    if (type(one), one.dtype, one.shape) != (type(other), other.dtype, other.shape):
        return False
    lies = [[step for step, size in zip(a.strides, a.shape, strict=True) if size > 1] for a in (one, other)]
    return str(one.flags) == str(other.flags) and lies[0] == lies[1] and bool((one == other).all())


@given(
    st.sampled_from(JOINS),
    st.integers(0, 5),
    SHAPES,
    st.sampled_from(sorted(MADE)),
    st.sampled_from(["f8", "f4", "u1", "?", "c16", "M8[s]", ">f8", "U3"]),
    st.sampled_from([None, "f4", "f8", "i2"]),
    st.integers(-4, 3),
    st.integers(-1, 1),
)
def test_arrays_are_those_of_the_function(
    join: str, n: int, shape: tuple[int, ...], made: str, dtype: str, asked: str | None, axis: int, wrong: int
) -> None:
    numbers = np.arange(n * int(np.prod(shape))).reshape(n, *shape) * 7 % 11
    parts = [MADE[made](one.astype(dtype)) for one in numbers]
    options: dict[str, Any] = {"axis": axis} if join in ("stack", "concatenate") else {}
    options |= {} if asked is None or join in ("dstack", "column_stack") else {"dtype": asked}
    whole = getattr(np, join)
    assert is_same(outcome(joined, whole, iter(parts), n + wrong, **options), outcome(whole, parts, **options))


@settings(deadline=None)
@given(
    st.sampled_from(["stack", "cat", "concat", "vstack", "hstack", "dstack"]),
    st.integers(0, 5),
    SHAPES,
    st.sampled_from(["float32", "int64", "bool", "complex64"]),
    st.integers(-4, 3),
    st.booleans(),
    st.integers(-1, 1),
)
def test_tensors_are_those_of_the_function(
    join: str, n: int, shape: tuple[int, ...], dtype: str, dim: int, turned: bool, wrong: int
) -> None:
    torch = pytest.importorskip("torch")
    numbers = (torch.arange(n * int(np.prod(shape))).reshape(n, *shape) * 7 % 11).to(getattr(torch, dtype))
    parts = [one.transpose(0, -1).contiguous().transpose(0, -1) if turned else one.clone() for one in numbers]
    options = {"dim": dim} if join in ("stack", "cat", "concat") else {}
    one, other = (
        outcome(make, *given, **options)
        for make, given in ((joined, (getattr(torch, join), iter(parts), n + wrong)), (getattr(torch, join), (parts,)))
    )
    if isinstance(other, type):
        assert one is other
    else:
        assert (one.shape, one.dtype, one.stride()) == (other.shape, other.dtype, other.stride())
        assert torch.equal(one, other)


@pytest.mark.parametrize("sizes", [(4, 4, 2), (1, 4, 9), (4, 4, 4, 4, 4)])
def test_parts_of_other_lengths(sizes: tuple[int, ...]) -> None:
    parts = [np.full((size, 3), size) for size in sizes]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # no list is kept, also where there are more than said
        assert is_same(joined(np.concatenate, iter(parts), 3), np.concatenate(parts))
    assert is_same(outcome(joined, np.hstack, (one.T for one in parts), 3), np.hstack([one.T for one in parts]))


@pytest.mark.parametrize(
    "parts",
    [
        [np.ones((2, 3)), np.ones((2, 3), np.float32), np.ones((2, 3), int)],
        [np.ones((2, 3), int), np.ones((2, 3))],
        [np.ones((2, 3)), np.ones((2, 4))],
        [np.ones((2, 3)), np.ones(3)],
        [np.ones(3), [1, 2, 3]],
        [np.ones(3), np.ma.masked_array([1.0, 2, 3], [0, 1, 0])],
        [[1, 2], [3, 4]],
        [1.5, 2.5],
        [np.float32(1), np.float32(2)],
        ["a", "bcd"],
        [np.zeros((0, 3)), np.zeros((0, 3))],
        [np.array(1), np.array(2)],
        [np.array([{}, None]), np.array([1, 2])],
        [np.ones((2, 3)), None],
        [],
    ],
)
@pytest.mark.parametrize("join", ["array", "stack", "concatenate", "vstack"])
def test_other_parts_are_joined_by_the_function(join: str, parts: list[Any]) -> None:
    whole = getattr(np, join)
    made = outcome(joined, whole, iter(parts), len(parts))
    assert is_same(made, outcome(whole, parts))


def test_where_a_list_is_kept_it_is_said() -> None:
    with pytest.warns(UserWarning, match="from part 2 on the parts are kept"):
        joined(np.array, iter([np.ones(3), np.ones(3, int)]), 2)


def test_another_function_gets_the_list() -> None:
    assert outcome(joined, len, iter([np.ones(3), np.ones(3)]), 2) == 2
    assert outcome(joined, np.array, iter([np.ones(3)]), 1, ndmin=3).shape == (1, 1, 3)


def test_it_takes_the_result_and_one_part() -> None:
    size, n = 1 << 17, 16

    def peak(make: Any) -> int:
        tracemalloc.start()
        made = make()
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert made[-1, -1] == n - 1
        return most

    def filled(value: int) -> Any:
        image = np.full(size, value, np.uint8)
        return image[:]  # a view of what nobody else knows

    def frames() -> Iterator[Any]:
        for i in range(n):
            frame = filled(i)
            yield frame

    def in_loop() -> Any:
        kept = Joining(np.array, n)
        for i in range(n):
            frame = filled(i)
            kept.append(frame)
        return kept.joined()

    whole = (n + 2.5) * size
    assert peak(lambda: np.array([filled(i) for i in range(n)])) > 2 * n * size
    assert peak(lambda: joined(np.array, (filled(i) for i in range(n)), n)) < whole - size
    assert peak(lambda: joined(np.array, frames(), n)) < whole + size
    assert peak(in_loop) < whole + size


def test_parts_that_are_changed_later_are_as_they_are_at_the_end() -> None:
    buffer, base, kept = np.zeros(3), np.zeros((4, 3)), list[Any]()

    def step(i: int) -> Any:
        buffer[:] = i
        return buffer

    def row(i: int) -> Any:
        base[:] = i
        return base[i]

    def keep(i: int) -> Any:
        kept.append(np.full(3, i))
        kept[0][0] = 7 * i
        return kept[-1]

    for make in (step, row, keep):
        kept.clear()
        want = np.array([make(i) for i in range(4)])
        kept.clear()
        assert is_same(joined(np.array, (make(i) for i in range(4)), 4), want)


def test_a_part_that_is_changed_before_the_next_one_comes() -> None:
    joining, want = Joining(np.array, 4), []
    for i in range(4):
        part = np.full(3, i)
        joining.append(part)
        want.append(part)
        part += 10
    assert is_same(joining.joined(), np.array(want))


def test_tensors_that_are_changed_later() -> None:
    torch = pytest.importorskip("torch")
    state = torch.zeros(3)

    def step(i: int) -> Any:
        return state.add_(i)

    def array(i: int) -> Any:
        return state.add_(i).numpy()

    def part(i: int) -> Any:
        return state.add_(i)[1:]

    for make, join in ((step, torch.stack), (part, torch.stack), (array, np.stack)):
        state.zero_()
        want = join([make(i) for i in range(4)])
        state.zero_()
        assert (joined(join, (make(i) for i in range(4)), 4) == want).all()


def test_tensors_are_not_kept() -> None:
    torch = pytest.importorskip("torch")
    weight = torch.ones(4, 4)
    with torch.no_grad():
        for make in (
            lambda: weight @ weight,
            lambda: (weight @ weight)[:, 0],
            lambda: (weight @ weight).T.contiguous(),
        ):
            joining = Joining(torch.stack, 3)
            for _ in range(3):
                joining.append(make())
            joining._settle()
            assert not joining._shared
            assert joining._listed is None
        arrays = Joining(np.stack, 3)
        for _ in range(3):
            arrays.append((weight @ weight).numpy())
        arrays._settle()
        assert not arrays._shared


def test_a_graph_is_kept() -> None:
    torch = pytest.importorskip("torch")
    weight = torch.ones(3, requires_grad=True)
    with pytest.warns(UserWarning, match="from part 1 on"):
        joined(torch.stack, (weight * i for i in range(3)), 3).sum().backward()
    assert weight.grad.tolist() == [3.0] * 3


def test_inference_mode_is_that_of_the_join() -> None:
    torch = pytest.importorskip("torch")
    joining = Joining(torch.cat, 2)
    with torch.inference_mode():
        joining.append(torch.ones(2))
        joining.append(torch.ones(2))
    assert not joining.joined().is_inference()


def test_it_is_joined_once() -> None:
    joining = Joining(np.array, 2)
    joining.append(np.ones(3))
    assert len(joining) == 1
    assert joining.joined().tolist() == [[1.0] * 3]
    assert len(joining) == 1
    with pytest.raises(UsageError):
        joining.joined()
    with pytest.raises(UsageError):
        joining.append(np.ones(3))
    assert {"joined", "Joining"} <= {*nb_oomhelper.__all__}


def test_no_room_is_said_at_the_first_part() -> None:
    with pytest.raises(MemoryError):
        joined(np.array, (np.ones(1 << 20) for _ in range(1 << 30)), 1 << 30)


MIB = 1 << 20
ROOM = Shortage(needs=200 * MIB, measured=True, room=150 * MIB)
LOOP = """
def load(n):
    frames, labels = [], []
    for i in range(n):
        frames.append(read(i))
        labels.append(i)
    return np.array(frames), np.array(labels)
"""
REFUSED = replace(HOST_EVENT, message="", requested=100 * MIB)


def refused(*shape: int) -> OomEvent:
    told = f"Unable to allocate 100. MiB for an array with shape {shape} and data type float64"
    return replace(REFUSED, message=told)


def failed(cell: str, kept: dict[str, Any], functions: str = "", local: dict[str, Any] | None = None) -> Written:
    """A cell that failed in its last line, or in that of its function."""
    one = written(cell, len(cell.splitlines()), functions)
    numbers = {name: value for name, value in kept.items() if type(value) is int}
    one = replace(one, kept=find_kept(kept), rows=find_rows(kept), numbers=numbers)
    if local is None:
        return one
    made = one.definitions[0]
    step = replace(one.steps[0], function=made.name, file=made.file, first=made.line, line=7)
    return replace(one, steps=(*one.steps, step), local={(made.file, made.line): find_kept(local)})


def found_in(one: Written, event: OomEvent = REFUSED, shortage: Shortage = ROOM) -> list[Mistake]:
    return list(find_joins(one, event, shortage, find_places(one)))


CUBE = "cube = np.stack([f(s) for s in sigmas], axis=-1)"
SIGMAS = {"sigmas": np.zeros(20)}


def test_a_comprehension_is_told_by_the_shape_that_was_refused() -> None:
    (mistake,) = found_in(failed(CUBE, SIGMAS), refused(1000, 655, 20))
    assert (mistake.kind, mistake.explains, mistake.partly, mistake.in_cell) == ("joined", 90 * MIB, False, True)
    made = mistake.place.text.edited(mistake.edits)
    assert made.strip() == "cube = nb_oomhelper.joined(np.stack, (f(s) for s in sigmas), len(sigmas), axis=-1)"


def test_where_only_the_shape_tells_how_many_there_are_it_is_not_sure() -> None:
    (mistake,) = found_in(failed(CUBE.replace("sigmas", "range(n)"), {}), refused(1000, 655, 20))
    assert mistake.partly


@pytest.mark.parametrize(
    ("event", "shortage"),
    [
        (refused(1000, 655, 21), ROOM),  # the function's own array
        (refused(13107200), ROOM),
        (refused(1000, 655, 20), replace(ROOM, needs=120 * MIB)),  # its parts are views
        (refused(1000, 655, 20), replace(ROOM, room=100 * MIB)),  # too little for the result
        (refused(1000, 655, 20), replace(ROOM, room=None)),
        (replace(refused(1000, 655, 20), requested=None), ROOM),
    ],
)
def test_no_comprehension_where_the_bytes_tell_otherwise(event: OomEvent, shortage: Shortage) -> None:
    assert found_in(failed(CUBE, SIGMAS), event, shortage) == []


def test_parts_that_may_be_lists_are_not_sure() -> None:
    (mistake,) = found_in(failed(CUBE, SIGMAS), refused(1000, 655, 20), replace(ROOM, needs=400 * MIB, room=390 * MIB))
    assert mistake.partly


FRAMES = [np.zeros((64, 2048)) for _ in range(100)]


def test_a_list_is_told_by_what_is_in_it() -> None:
    (mistake,) = found_in(failed("load(100)", {}, LOOP, {"frames": FRAMES, "labels": [*range(100)]}))
    assert (mistake.subject, mistake.explains, mistake.partly) == ("frames", 98 * MIB, True)
    made = LOOP.replace("[],", "nb_oomhelper.Joining(np.array, n),").replace("np.array(frames)", "frames.joined()")
    assert mistake.place.text.edited(mistake.edits) == made


def test_what_large_parts_took_is_surely_given_back() -> None:
    frames = [np.zeros((256, 2048)) for _ in range(25)]
    (mistake,) = found_in(failed("load(25)", {}, LOOP, {"frames": frames, "labels": [*range(25)]}))
    assert (mistake.explains, mistake.partly) == (92 * MIB, False)


def test_lists_that_are_joined_together_are_mended_together() -> None:
    functions = LOOP.replace("append(i)", "append(mask(i))")
    local = {"frames": FRAMES, "labels": [one[:32].copy() for one in FRAMES]}
    (mistake,) = found_in(failed("load(100)", {}, functions, local))
    assert mistake.explains == 98 * MIB
    assert mistake.place.text.edited(mistake.edits).count(".joined()") == 2


@pytest.mark.parametrize(
    "frames",
    [
        [[1.5, 2.5] for _ in range(100)],
        [FRAMES[0]] * 100,
        FRAMES[:50],
        [{"a": one} for one in FRAMES],
        [],
    ],
)
def test_no_list_of_anything_else(frames: list[Any]) -> None:
    assert found_in(failed("load(100)", {}, LOOP, {"frames": frames, "labels": []})) == []


def test_not_where_a_function_failed_that_makes_a_part() -> None:
    one = failed("X = load(100)", {}, LOOP + "def read(i):\n    return np.zeros(1 << 30)\n", {"frames": FRAMES})
    assert found_in(one)
    read = one.definitions[1]
    step = replace(one.steps[0], function="read", file=read.file, first=read.line, line=read.line + 1)
    assert found_in(replace(one, steps=(*one.steps, step))) == []


def test_not_where_a_function_reads_the_list() -> None:
    cell = "frames = []\nfor i in range(100):\n    frames.append(read(i))\nX = np.array(frames)"
    assert found_in(failed(cell, {"frames": FRAMES}))
    show = "def show(i):\n    return frames[i]\n"
    assert found_in(failed(cell, {"frames": FRAMES}, show)) == []
    again = cell.replace("X =", "frames =")  # it stands for the array then, as before
    assert found_in(failed(again, {"frames": FRAMES}, show))
