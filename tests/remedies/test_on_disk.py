"""`ListOnDisk`, `DictOnDisk`, `ArrayOnDisk`, `joined_in_place`: the same as in memory; and where they are offered."""

from __future__ import annotations

import copy
import math
import os
import pickle
import signal
import tracemalloc
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

import nb_oomhelper
from nb_oomhelper import ArrayOnDisk, DictOnDisk, ListOnDisk, joined_in_place
from nb_oomhelper.errors import RowsError, UsageError
from nb_oomhelper.records.holdings import Holding, Holdings
from nb_oomhelper.records.remedy import Shortage
from nb_oomhelper.remedies.elements import find_kept
from nb_oomhelper.remedies.joined_parts import find_moves
from nb_oomhelper.remedies.kept_on_disk import find_arrays_on_disk, find_kept_on_disk
from nb_oomhelper.remedies.on_demand import OnDemand
from nb_oomhelper.remedies.places import Mistake, find_places
from nb_oomhelper.remedies.written import Written
from tests.makers import HOST_EVENT, held
from tests.remedies.notebooks import written

np = pytest.importorskip("numpy")
pytestmark = pytest.mark.plain
MIB = 1 << 20
VALUES: list[Any] = [
    *(1, 2.5, None, "text", b"bytes", (1, "two"), ["a", ["b"]], {"a": 1, "b": [2, 3]}, {4, 5}, Counter("abca")),
    *(np.float32(3), np.arange(5), np.asfortranarray(np.ones((3, 4))), (np.zeros(2), "label"), 1 << 80),
]


def alike(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray):
        return type(other) is np.ndarray and one.dtype == other.dtype and np.array_equal(one, other)
    if isinstance(one, (list, tuple)):
        return type(one) is type(other) and len(one) == len(other) and all(map(alike, one, other))
    return type(one) is type(other) and bool(one == other)


def test_a_list_gives_what_was_put_in() -> None:
    many = [value for number in range(3000) for value in (*VALUES, number, f"text {number}", (number, "n" * 90))]
    one = ListOnDisk(many)
    assert len(one) == len(many)
    assert alike([*one], many)
    assert all(alike(one[at], many[at]) for at in (0, 17, 20_000, -1, -30_000))
    assert alike(one[5:40:3], many[5:40:3])
    with pytest.raises(IndexError):
        one[len(many)]


def test_it_gets_longer_while_it_is_read() -> None:
    states = ListOnDisk([np.zeros((100, 100))])
    for _ in range(60):
        states.append(states[-1] + 1)
    states += [states[0], states[1]]
    assert [one[0, 0] for one in states] == [*range(61), 0, 1]
    assert states[10:13][1][0, 0] == 11


def test_what_is_changed_after_it_was_put_in_is_not_seen() -> None:
    state, words = np.zeros(4), ["a"]
    one = ListOnDisk([state, words])
    state += 1
    words.append("b")
    assert one[0].sum() == 0
    assert one[1] == ["a"]
    with pytest.raises(ValueError, match="read-only"):
        one[0][0] = 1


def test_long_slices_stay_on_disk() -> None:
    one = ListOnDisk(np.full(MIB, number, "u1") for number in range(80))
    part = one[10:]
    assert isinstance(part, ListOnDisk)
    assert (len(part), part[0][0], part[-1][0], part[::-1][0][0]) == (70, 10, 79, 79)
    with pytest.raises(TypeError):
        part.append(1)
    assert type(one[::40]) is list


def test_it_takes_little_memory() -> None:
    tracemalloc.start()
    one = ListOnDisk(np.full((256, 512), float(number)) for number in range(60))
    total = sum(part.sum() for part in one)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total == sum(range(60)) * 256 * 512
    assert peak < 12 * MIB


@pytest.mark.parametrize(
    "items", [[1, 2, 3], [1, 2.5], ["a", "abc"], [(1, 2), (3, 4)], [True, False], [], [b"a", b"b"]]
)
def test_an_array_of_a_list_is_what_numpy_makes(items: list[Any]) -> None:
    assert alike(np.array(ListOnDisk(items)), np.array(items))
    parts = [np.full((3, 2), one, "f4") for one in range(9)]
    assert alike(np.array(ListOnDisk(parts)), np.array(parts))


def test_an_array_of_a_list_is_read_row_by_row() -> None:
    parts = [np.full((500, 20), number, "f4") for number in range(1000)]
    made = ListOnDisk(iter(parts)).array(np.array)
    assert isinstance(made, OnDemand)
    assert made.shape == (1000, 500, 20)
    assert made.dtype == "f4"
    assert np.array_equal(made.mean(axis=(1, 2)), np.arange(1000))
    assert np.array_equal(made[-1], parts[-1])
    assert np.array_equal(np.asarray(made), np.array(parts))


def test_large_arrays_are_read_where_they_stay() -> None:
    parts = [np.full(1 << 18, float(number)) for number in range(8)]
    items = ListOnDisk(iter(parts))
    tracemalloc.start()
    for one, part in zip(items, parts, strict=True):
        assert np.array_equal(one, part)
        assert not one.flags.writeable
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2.6 * parts[0].nbytes  # this one, and the one before


def test_objects_stay_in_memory_with_a_warning() -> None:
    thing = object()
    with pytest.warns(UserWarning, match="kept in memory"):
        one = ListOnDisk([1, thing, lambda: None, 4])
    assert one[1] is thing
    assert (one[0], [*one][3], len(one)) == (1, 4, 4)


def test_a_dict_keeps_its_order_and_its_newest_values() -> None:
    one = DictOnDisk((number, [number] * 20) for number in range(30_000))
    one[7] = "seven"
    del one[8]
    assert (len(one), one[7], one[29_999], 8 in one, next(iter(one))) == (29_999, "seven", [29_999] * 20, False, 0)
    assert {key: len(value) for key, value in one.items()}[9] == 20
    assert one.get(8) is None


def test_copies_and_pickles_are_lists_and_dicts() -> None:
    assert pickle.loads(pickle.dumps(ListOnDisk("abc"))) == ["a", "b", "c"]
    assert copy.deepcopy(DictOnDisk([("a", 1)])) == {"a": 1}
    assert {"ArrayOnDisk", "DictOnDisk", "ListOnDisk", "joined_in_place"} <= {*nb_oomhelper.__all__}


def test_tables_are_those_that_pandas_makes() -> None:
    pd = pytest.importorskip("pandas")
    rows: list[Any] = [{"a": at, "b": at / 3, "c": f"t{at % 5}", "d": at % 2 == 0} for at in range(40_000)]
    pd.testing.assert_frame_equal(ListOnDisk(rows).frame(), pd.DataFrame(rows))
    rows[-1] = {"a": None, "z": 1}  # which makes other columns of the parts before
    pd.testing.assert_frame_equal(ListOnDisk(rows).frame(), pd.DataFrame(rows))
    pairs = [(at, str(at)) for at in range(30_000)]
    pd.testing.assert_frame_equal(ListOnDisk(pairs).frame(columns=["p", "q"]), pd.DataFrame(pairs, columns=["p", "q"]))


def test_tables_of_what_has_names_of_its_own() -> None:
    pd = pytest.importorskip("pandas")
    source = pd.DataFrame({"a": [1, 2], "b": [3, 4]}, index=["x", "z"])
    picked = [source.loc["z"], source.loc["x"]]
    pd.testing.assert_frame_equal(ListOnDisk(picked).frame(), pd.DataFrame(picked))


def test_columns_of_objects_and_tables_that_are_none() -> None:
    pd = pytest.importorskip("pandas")
    tables: list[Any] = [pd.DataFrame({"a": ["x", None]}, dtype=object), None]
    tables.append(pd.DataFrame({"a": [datetime(2024, 1, 1), None]}, dtype=object))
    pd.testing.assert_frame_equal(ListOnDisk(tables).concat(), pd.concat(tables))


@pytest.mark.parametrize("options", [{}, {"ignore_index": True}])
def test_tables_are_joined_as_pandas_joins_them(options: dict[str, Any]) -> None:
    pd = pytest.importorskip("pandas")

    def table(number: int) -> Any:
        rng = np.random.default_rng(number)
        size = number % 7 + 1
        made = {"a": rng.integers(0, 9, size), "b": rng.random(size), "c": rng.choice([*"xyz"], size)}
        made |= {"d": pd.date_range("2024-01-01", periods=size), "k": pd.Categorical(["u"] * size, ["u", "v"])}
        return pd.DataFrame(made)

    tables = [table(number) for number in range(40)]
    pd.testing.assert_frame_equal(ListOnDisk(tables).concat(**options), pd.concat(tables, **options))
    tables[3]["more"] = 1.5
    pd.testing.assert_frame_equal(ListOnDisk(tables).concat(**options), pd.concat(tables, **options))


def walked(paths: Any) -> Any:
    rng = np.random.default_rng(1)
    paths[0] = 100
    for t in range(1, len(paths)):
        paths[t] = paths[t - 1] * np.exp(0.01 * rng.standard_normal(paths.shape[1]))
    return paths


def walked_across(paths: Any) -> Any:
    rng = np.random.default_rng(1)
    paths[:, 0] = 100
    for t in range(1, paths.shape[1]):
        paths[:, t] = paths[:, t - 1] * np.exp(0.01 * rng.standard_normal(len(paths)))
    return paths


READS = [
    *("x[-1]", "x[:, -1]", "x[3, 4]", "x[:5]", "x[:, 1:].mean(axis=1)", "x.mean(axis=0)", "x.max(axis=1)", "x.std()"),
    *("np.percentile(x, [5, 95], axis=1)", "np.quantile(x / 7, [0.05, 0.5], axis=1)", "np.median(x, axis=0)"),
    *("(x > 100).mean()", "np.maximum(x[-1] - 100, 0).mean()", "x[::7].sum(axis=0)", "x[[3, 1, 4]]", "x[:, [0, 5]]"),
]


@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize(("fill", "shape", "axis"), [(walked, (40, 3000), 0), (walked_across, (3000, 40), 1)])
def test_an_array_on_disk_reads_as_one_in_memory(
    read: str, fill: Callable[[Any], Any], shape: tuple[int, int], axis: int
) -> None:
    x, y = fill(np.zeros(shape)), fill(ArrayOnDisk(np.zeros, shape, axis=axis))
    told = np.asarray(eval(read, {"np": np, "x": y}))
    assert np.allclose(told, np.asarray(eval(read, {"np": np, "x": x})), rtol=1e-12)


@pytest.mark.parametrize(("shape", "axis"), [((5, 3, 2), 0), ((6, 5), 1), ((6, 5), 0)])
def test_it_is_written_to_as_one_in_memory(shape: tuple[int, ...], axis: int) -> None:
    one, other = ArrayOnDisk(np.full, shape, 7, dtype=np.int16, axis=axis), np.full(shape, 7, dtype=np.int16)
    for into in (one, other):
        into[1] = 1
        into[2, :] = 5
        into[3:5] = np.arange(math.prod(shape[1:])).reshape(shape[1:])
        into[:, 1:3] = 9
        into[-1, 0] = 4
    assert alike(np.array(one), other)


def test_what_was_made_of_it_is_not_read_after_it_has_changed() -> None:
    one = walked(ArrayOnDisk(np.zeros, (40, 30_000)))
    twice = one * 2
    kept = one[4]
    with pytest.raises(TypeError, match="still in use"):
        one[4] = 0
    one[5] = 0
    with pytest.raises(RowsError):
        twice[0]
    with pytest.raises(ValueError, match="read-only"):
        kept[0] = 1
    with pytest.raises(UsageError):
        ArrayOnDisk(np.zeros, (3, 4, 5), axis=1)


def rows(*shape: int) -> list[Any]:
    return [np.random.default_rng(seed).random(shape) for seed in range(9)]


@pytest.mark.parametrize(
    ("join", "make", "options"),
    [
        (np.array, lambda: rows(4, 5), {}),
        (np.stack, lambda: rows(4, 5), {"axis": -1}),
        (np.concatenate, lambda: rows(4, 5), {"axis": 1}),
        (np.vstack, lambda: [one[: at + 1] for at, one in enumerate(rows(9, 3))], {}),
        (np.hstack, lambda: rows(5), {}),
        (np.array, lambda: [np.asfortranarray(one) for one in rows(4, 5)], {}),
    ],
)
def test_a_list_becomes_views_of_the_array(
    join: Callable[..., Any], make: Callable[[], list[Any]], options: dict[str, Any]
) -> None:
    parts = make()
    found = joined_in_place(join, parts, **options)
    assert alike(found, join(make(), **options))
    assert alike([*map(np.array, parts)], [*map(np.array, make())])
    assert all(np.shares_memory(one, found) for one in parts)
    assert joined_in_place(join, parts, **options) is found


@pytest.mark.parametrize("parts", [[1.0, 2.0], [np.ones(2), np.ones(2, "f4")], [np.ones(2)] * 3, [[1], [2]]])
def test_anything_else_is_joined_as_before(parts: list[Any]) -> None:
    before = [*parts]
    assert alike(joined_in_place(np.array, parts), np.array(before))
    assert all(one is other for one, other in zip(parts, before, strict=True))


def test_without_room_the_list_is_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    from nb_oomhelper.remedies import joined_in_place as module

    empty, parts = module._empty, rows(4, 5)

    def full(shape: tuple[int, ...], *form: Any) -> Any:
        if len(shape) == 3:
            raise MemoryError
        return empty(shape, *form)

    monkeypatch.setattr(module, "_empty", full)
    with pytest.raises(MemoryError):
        joined_in_place(np.array, parts)
    assert alike(parts, rows(4, 5))


def test_a_list_that_somebody_stops_is_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    from nb_oomhelper.remedies import joined_in_place as module

    read, parts, stops = module._read, rows(4, 5), [KeyboardInterrupt]

    def stopped(file: Any, place: int, form: Any, into: Any) -> Any:
        if into is not None and place > 400 and stops:
            raise stops.pop()
        return read(file, place, form, into)

    monkeypatch.setattr(module, "_read", stopped)
    with pytest.raises(KeyboardInterrupt):
        joined_in_place(np.array, parts)
    assert alike([*map(np.array, parts)], rows(4, 5))


def test_without_room_on_disk_it_is_joined_as_before() -> None:
    resource = pytest.importorskip("resource")
    parts, before = rows(400, 50), resource.getrlimit(resource.RLIMIT_FSIZE)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, before[1]))
    try:
        made = joined_in_place(np.array, parts)
        items = ListOnDisk()
        with pytest.warns(UserWarning, match="kept in memory"):
            items.extend([np.zeros(1 << 18)] * 3)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert alike(made, np.array(rows(400, 50)))
    assert alike(parts, rows(400, 50))
    assert alike(list(items), [np.zeros(1 << 18)] * 3)


def test_another_array_than_ours_is_copied() -> None:
    whole = np.zeros((5, 4))
    assert joined_in_place(np.array, list(whole)) is not whole


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no processes are forked off here")
def test_a_process_that_was_forked_off_writes_into_a_file_of_its_own() -> None:
    items = ListOnDisk(np.full(1 << 17, float(at)) for at in range(5))
    child = os.fork()
    if not child:
        items.extend(np.full(1 << 17, -1.0) for _ in range(5))
        os._exit(int([one[0] for one in items] != [0, 1, 2, 3, 4, *[-1] * 5]))
    assert os.waitpid(child, 0)[1] == 0
    items.extend(np.full(1 << 17, float(at)) for at in range(5, 9))
    assert [one[0] for one in items] == [*range(9)]


def test_what_no_file_takes_stays_in_memory() -> None:
    pd = pytest.importorskip("pandas")
    table = pd.DataFrame({"a": [lambda: 1] * 70_000})
    with pytest.warns(UserWarning, match="kept in memory"):
        items = ListOnDisk([table, table])
    assert [len(one) for one in items] == [70_000, 70_000]


def test_arrays_of_lists_of_several_lengths() -> None:
    items: list[Any] = [list(range(at, at + 60_000 + at)) for at in range(7)]
    assert alike(np.array(ListOnDisk(items), dtype=object), np.array(items, dtype=object))


def test_tensors_are_moved_too() -> None:
    torch = pytest.importorskip("torch")
    parts = [torch.full((3, 4), float(number)) for number in range(5)]
    found = joined_in_place(torch.stack, parts, dim=1)
    assert found.equal(torch.stack([torch.full((3, 4), float(number)) for number in range(5)], dim=1))
    assert parts[2].equal(torch.full((3, 4), 2.0))


ROOM = Shortage(needs=200 * MIB, measured=True, room=150 * MIB)
REFUSED = replace(HOST_EVENT, message="", requested=MIB)
FILM = """film = []
for t in range(300):
    u = step(u)
    film.append(u.copy())
shots = film[::60]
"""


def failed(cell: str, line: int, kept: dict[str, Any], functions: str = "") -> Written:
    return replace(written(cell, line, functions), kept=find_kept(kept), names=frozenset(kept))


def keeping(name: str, size: int) -> Holdings:
    return held(Holding(kind="variable", name=name, backend="host", own=size), shares={(0,): size})


def on_disk(one: Written, holdings: Holdings) -> list[Mistake]:
    return list(find_kept_on_disk(one, REFUSED, holdings, ROOM, find_places(one)))


def test_a_film_is_kept_on_disk() -> None:
    (mistake,) = on_disk(failed(FILM, 3, {"film": [np.ones(9)] * 300}), keeping("film", 160 * MIB))
    assert (mistake.kind, mistake.subject, mistake.explains, mistake.partly) == ("on_disk", "film", 150 * MIB, False)
    assert mistake.place.text.edited(mistake.edits) == FILM.replace("[]", "nb_oomhelper.ListOnDisk()")


@pytest.mark.parametrize(
    ("cell", "line", "size", "functions"),
    [
        (FILM, 3, 8 * MIB, ""),  # something else takes the room
        ("x = 1\n" * 3 + FILM, 3, 160 * MIB, ""),  # it is not filled yet
        (FILM, 3, 160 * MIB, "def show(t):\n    return film[t]\n"),
        (FILM + "film[0] = 1\n", 3, 160 * MIB, ""),
        (FILM + "clean(film[0])\n", 3, 160 * MIB, "def clean(u):\n    u[0] = 1\n"),
    ],
)
def test_a_film_that_stays_in_memory(cell: str, line: int, size: int, functions: str) -> None:
    assert on_disk(failed(cell, line, {"film": [np.ones(9)] * 300}, functions), keeping("film", size)) == []


def test_items_that_no_copy_is_as_good_as() -> None:
    kept = {"film": [object()] * 300}
    assert on_disk(failed(FILM, 3, kept), keeping("film", 160 * MIB)) == []


def test_more_than_any_disk_has_room_for() -> None:
    for rounds in ("10**9", "10**13", "1000 * 1000 * 1000"):
        endless = FILM.replace("range(300)", f"range({rounds})")
        assert on_disk(failed(endless, 3, {"film": [np.ones(9)] * 300}), keeping("film", 160 * MIB)) == []


def test_a_few_large_items_leave_little_room() -> None:
    (mistake,) = on_disk(failed(FILM, 3, {"film": [np.ones(9)] * 5}), keeping("film", 160 * MIB))
    assert mistake.explains == 64 * MIB


def test_a_list_that_a_function_fills_and_gives_back() -> None:
    function = "def run(n):\n    " + FILM.replace("\n", "\n    ").rstrip() + "\n    return film\n"
    for cell, count in (("film = run(9)\nprint(len(film))", 1), ("film = run(9)\nfilm.sort()", 0), ("f(run(9))", 0)):
        one = failed(cell, 1, {}, function)
        made = one.definitions[0]
        step = replace(one.steps[0], function=made.name, file=made.file, first=made.line, line=4)
        local = {(made.file, made.line): find_kept({"film": [np.ones(1 << 22) for _ in range(5)]})}
        assert len(on_disk(replace(one, steps=(*one.steps, step), local=local), held())) == count, cell


PATHS = """paths = np.zeros((n_steps, n_paths))
for t in range(1, n_steps):
    paths[t] = paths[t - 1] * grow(t)
final = paths[-1].mean()
"""


def test_paths_lie_on_disk() -> None:
    one, event = failed(PATHS, 1, {}), replace(REFUSED, requested=190 * MIB)
    (mistake,) = find_arrays_on_disk(one, event, ROOM, find_places(one))
    assert (mistake.subject, mistake.partly) == ("paths", False)
    made = PATHS.replace("np.zeros(", "nb_oomhelper.ArrayOnDisk(np.zeros, ")
    assert mistake.place.text.edited(mistake.edits) == made
    one = failed(PATHS + "model.fit(paths)\n", 1, {})
    (mistake,) = find_arrays_on_disk(one, event, ROOM, find_places(one))
    assert mistake.partly


def test_what_is_in_a_list_is_moved_where_the_list_gives_enough_back() -> None:
    images = [np.zeros((1 << 17, 8)) for _ in range(20)]  # 8 MiB each: mapped
    event, cell = replace(REFUSED, requested=160 * MIB), "X = np.array(images)\nprint(X.shape)"
    one = failed(cell, 1, {"images": images})

    def moves(one: Written, size: int) -> list[Mistake]:
        return list(find_moves(one, event, keeping("images", size), ROOM, find_places(one)))

    (mistake,) = moves(one, 160 * MIB)
    assert (mistake.kind, mistake.subject, mistake.explains) == ("moved", "images", 160 * MIB)
    code = mistake.place.text.edited(mistake.edits)
    assert code == "X = nb_oomhelper.joined_in_place(np.array, images)\nprint(X.shape)"
    assert moves(one, 20 * MIB) == []  # somebody else keeps them
    assert moves(failed(f"{cell}\nX /= 255", 1, {"images": images}), 160 * MIB) == []  # the list would change
