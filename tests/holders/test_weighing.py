"""Bytes of what is no tensor: texts, bytes, containers of small objects; whose they are, and about how many."""

from __future__ import annotations

import array
import io
import mmap
import tracemalloc
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from nb_oomhelper.frameworks import FRAMEWORKS
from nb_oomhelper.holders.scope import Scope
from nb_oomhelper.holders.search import find_holdings
from nb_oomhelper.records.holdings import Holding, Holdings

np = pytest.importorskip("numpy")

pytestmark = pytest.mark.plain

MIB = 1 << 20


def find(variables: Mapping[str, object], seconds: float = 60.0, backend: str = "host") -> Holdings:
    loaded: Any = [one for one in FRAMEWORKS if one.loaded()]
    return find_holdings(Scope(variables=variables), loaded, backend=backend, device=None, seconds=seconds)


def only(thing: object) -> Holding:
    (row,) = find({"x": thing}).rows
    return row


def mapped() -> object:
    return mmap.mmap(-1, 4 * MIB)


def written() -> io.BytesIO:
    file = io.BytesIO()
    file.write(bytes(4 * MIB))
    return file


FOUR_MIB: dict[str, Any] = {
    "bytes": lambda: bytes(4 * MIB),
    "bytearray": lambda: bytearray(4 * MIB),
    "text": lambda: "x" * (4 * MIB),
    "array.array": lambda: array.array("b", [0]) * (4 * MIB),
    "file in memory": written,
    "mapping": mapped,
    "memoryview of a slice": lambda: memoryview(bytes(4 * MIB))[5:7],
    "dict": lambda: {number: bytearray(MIB) for number in range(4)},
    "attribute": lambda: type("Plain", (), {"__init__": lambda self: setattr(self, "kept", bytes(4 * MIB))})(),
    "set of texts": lambda: {str(number) * MIB for number in range(4)},
    "deque of lists": lambda: deque([[bytes(2 * MIB)], [bytes(2 * MIB)]]),
    "array of objects": lambda: np.array([b"a" * MIB, b"b" * MIB, b"c" * MIB, b"d" * MIB, None], dtype=object),
}


@pytest.mark.parametrize("kind", FOUR_MIB)
def test_bytes_of_objects_are_counted(kind: str) -> None:
    row = only(FOUR_MIB[kind]())
    assert 4 * MIB <= row.own < 4 * MIB + 8192
    assert not row.estimated


def test_they_are_the_hosts_alone() -> None:
    assert find({"x": bytes(4 * MIB)}, backend="cuda").rows == ()


@pytest.mark.parametrize("make", [bytes, bytearray, lambda size: array.array("b", [0]) * size])
def test_an_array_over_bytes_is_the_same_memory(make: Any) -> None:
    owner = make(4 * MIB)
    view = np.frombuffer(owner, dtype=np.uint8)
    found = find({"owner": owner, "view": view})
    assert [row.own for row in found.rows] == [0, 0]
    assert 4 * MIB <= found.freed_by(frozenset({0, 1})) < 4 * MIB + 8192


def test_mapped_files_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(4 * MIB))
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapping:
        assert find({"x": mapping}).rows == ()


def test_few_bytes_make_no_row() -> None:
    assert find({"x": ["text"] * 100, "y": {"a": 1}}).rows == ()


def test_a_shared_object_comes_back_with_all_its_holders() -> None:
    text = "x" * (4 * MIB)
    found = find({"a": [text, "y" * (2 * MIB)], "b": {"text": text}})
    place = {row.name: index for index, row in enumerate(found.rows)}
    freed = [found.freed_by(frozenset(place[name] for name in names)) // MIB for names in ("a", "b", "ab")]
    assert freed == [2, 0, 6]


def test_one_object_many_times_is_counted_once() -> None:
    assert only(["x" * (4 * MIB)] * 1000).own < 4 * MIB + 16_384


def test_of_one_object_millions_of_times_no_list_as_long_is_made() -> None:
    texts = [f"text {number}" for number in range(100_000)]
    things = [next(text for text in texts if not id(text) % 61)] * 5_000_000  # the few are chosen by such addresses
    tracemalloc.start()
    try:
        find({"x": things}, seconds=1.0)  # too short for the search for tensors, which needs such a list
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * MIB


MANY = 200_000
CROWDS: dict[str, tuple[Any, int]] = {  # with the bytes of one: those of the allocator's blocks
    "dicts": (lambda: [{"t": "x" * 200 + str(i)} for i in range(MANY)], 8 + 192 + 256),
    "tuples": (lambda: [(str(i), i * 0.5) for i in range(1000, MANY + 1000)], 8 + 64 + 64 + 32),
    "a set of texts": (lambda: {"key" * 20 + str(i) for i in range(MANY)}, 42 + 112),
    "floats": (lambda: [i * 0.5 for i in range(MANY)], 8 + 32),
    "an array of texts": (lambda: np.array(["x" * 200 + str(i) for i in range(MANY)], dtype=object), 8 + 256),
}


@pytest.mark.parametrize("kind", CROWDS)
def test_of_many_objects_the_bytes_are_estimated(kind: str) -> None:
    make, each = CROWDS[kind]
    row = only(make())
    assert row.estimated
    assert abs(row.own - each * MANY) < 0.12 * each * MANY


def test_many_objects_are_looked_at_roughly_when_time_is_up() -> None:
    """Whoever comes last would else have no row, however much it keeps."""
    first, last = ([{"t": f"{name} {i}" * 20} for i in range(MANY)] for name in ("a", "b"))
    found = find({"first": first, "last": last}, seconds=0.0)
    assert {row.name for row in found.rows if row.own > 20 * MIB} == {"first", "last"}


def test_lists_of_the_same_objects_share_them() -> None:
    rows = [{"number": i, "text": f"text {i}"} for i in range(MANY)]
    half = rows[: MANY // 2]
    found = find({"rows": rows, "half": half})
    everything = found.freed_by(frozenset({0, 1}))
    (row,) = [one for one in found.rows if one.name == "rows"]
    assert 0.4 * everything < row.own < 0.6 * everything


def test_an_array_among_many_objects_is_found() -> None:
    things: list[object] = [[number] for number in range(MANY)]
    things[MANY // 2] = [np.zeros(8 * MIB, np.uint8)]
    assert "uint8 (8388608,)" in only(things).shapes


def test_nothing_of_the_users_runs() -> None:
    class ToldError(Exception): ...

    class Text(str):
        __slots__ = ()

        def __sizeof__(self) -> int:
            raise ToldError

        def __len__(self) -> int:
            raise ToldError

    class Own(list[object]):
        def __sizeof__(self) -> int:
            raise ToldError

        def __iter__(self) -> Any:
            raise ToldError

        def __len__(self) -> int:
            raise ToldError

    row = only([Text("x"), Own([bytes(4 * MIB)])])
    assert 4 * MIB <= row.own < 4 * MIB + 8192


def test_tables_frames_and_images() -> None:
    arrow = pytest.importorskip("pyarrow")
    numbers = np.arange(MIB)
    assert only(arrow.table({"numbers": numbers, "again": numbers})).own == 8 * MIB


def test_frames_of_polars() -> None:
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame({"numbers": np.arange(MIB), "texts": ["a text that is rather long"] * MIB})
    more = frame.with_columns(twice=polars.col("numbers") * 2)
    found = find({"frame": frame, "more": more})
    assert {row.name: (row.own > 0, row.shared > 8 * MIB) for row in found.rows} == {
        "frame": (False, True),
        "more": (True, True),
    }


def test_images_of_pillow() -> None:
    image = pytest.importorskip("PIL.Image").new("RGB", (1024, 1024))
    row = only([image])
    assert (row.own, row.shapes) == (4 * MIB, ("RGB (1024, 1024)",))


def test_columns_of_pandas() -> None:
    pandas = pytest.importorskip("pandas")
    texts = pandas.Series([f"{number} " * 20 for number in range(MANY)], dtype=object)
    row = only(pandas.DataFrame({"texts": texts}))
    expected = sum((len(text) + 49 + 15) // 16 * 16 + 8 for text in texts)
    assert abs(row.own - expected) < 0.12 * expected


def test_a_sparse_matrix() -> None:
    sparse = pytest.importorskip("scipy.sparse")
    matrix = sparse.eye(MIB, format="csr")
    assert only(matrix).own == sum(part.nbytes for part in (matrix.data, matrix.indices, matrix.indptr))
