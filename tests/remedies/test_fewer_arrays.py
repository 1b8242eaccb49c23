"""Arithmetic that makes several arrays where one would do: where it is offered."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nb_oomhelper.records.remedy import Shortage
from nb_oomhelper.remedies.elements import Kept
from nb_oomhelper.remedies.fewer_arrays import find_one_array
from nb_oomhelper.remedies.places import Mistake, find_places
from tests.makers import HOST_EVENT
from tests.remedies.notebooks import written

pytestmark = pytest.mark.plain

MIB = 1 << 20
SHAPE = (400_000, 60)
KEPT = {
    "x": Kept(shape=SHAPE, dtype="float64"),
    "w": Kept(shape=SHAPE, dtype="uint8"),
    "narrow": Kept(shape=SHAPE, dtype="float32"),
    "mu": Kept(shape=(60,), dtype="float64"),
    "rows": Kept(shape=(400_000,), dtype="float64"),
}


def found(cell: str, needs: int | None = 366 * MIB, dtype: str = "float64") -> list[Mistake]:
    message = f"Unable to allocate 183. MiB for an array with shape {SHAPE} and data type {dtype}"
    event = replace(HOST_EVENT, message=message, requested=183 * MIB)
    one = replace(written(cell, 1), kept=KEPT)
    (place,) = find_places(one)
    shortage = Shortage(needs=needs, measured=True, room=200 * MIB)
    return list(find_one_array(one, event, shortage, place, place.body[:1]))


@pytest.mark.parametrize("needs", [366 * MIB, None])
def test_where_there_are_two_at_once(needs: int | None) -> None:
    (mistake,) = found("z = (x - mu) / x.std(axis=0)\nprint(z.mean())\n", needs)
    assert (mistake.subject, mistake.explains, mistake.partly) == ("z", 183 * MIB, False)


def test_what_makes_another_one_later_may_fail_there() -> None:
    (mistake,) = found("z = (x - mu) / x.std(axis=0)\ny = np.exp(z)\n")
    assert mistake.partly


def test_numbers_of_the_cell_and_whole_numbers_are_known() -> None:
    assert found("z = (w - mu) / w.std(axis=0)\n")
    assert found("z = np.exp(x * k)\nk = 0.5\n")


@pytest.mark.parametrize(
    "cell",
    [
        "z = (x - rows) / x.std(axis=0)",  # goes along another axis
        "z = (narrow - mu) / mu",
        "z = (x - unknown) / mu",
        "z = x - mu",
    ],
)
def test_what_is_left(cell: str) -> None:
    assert found(f"{cell}\n") == []


def test_nothing_where_one_array_is_too_large() -> None:
    assert found("z = (x - mu) / x.std(axis=0)\n", needs=190 * MIB) == []
    assert found("z = (narrow - mu) / narrow.std(axis=0)\n", dtype="float32") == []
