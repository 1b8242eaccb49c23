"""What is made of all rows, or of all columns, of a DataFrame at once: what parts of it save."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nb_oomhelper.records.event import OomEvent
from nb_oomhelper.records.remedy import Shortage
from nb_oomhelper.remedies.places import Mistake, find_places
from nb_oomhelper.remedies.tables_at_once import find_tables_in_parts
from nb_oomhelper.remedies.written import Table
from tests.makers import EVENT
from tests.remedies.notebooks import written

pytestmark = pytest.mark.plain

MIB = 1 << 20
SHORT = Shortage(needs=400 * MIB, measured=True, room=300 * MIB)


def _refused(*shape: int) -> OomEvent:
    return replace(
        EVENT,
        framework="numpy",
        backend="host",
        phase="unknown",
        requested=100 * MIB,
        message=f"Unable to allocate 100. MiB for an array with shape {shape} and data type float64",
    )


def _found(cell: str, table: Table, event: OomEvent) -> list[Mistake]:
    one = replace(written(cell, 1), frames={"df": table}, names=frozenset({"df", "shops"}))
    return list(find_tables_in_parts(one, event, SHORT, find_places(one)))


@pytest.mark.parametrize(
    ("shape", "saved"), [((600, 400_000), 200 * MIB), ((600, 40_000), None), ((40_000,), 200 * MIB)]
)
def test_groups_that_had_no_room_are_as_many_in_parts(shape: tuple[int, ...], saved: int | None) -> None:
    cell = 'top = df.groupby("order").max()\nprint(top)\n'
    (one,) = _found(cell, Table(rows=400_000, columns=frozenset({"order"}), width=600), _refused(*shape))
    assert (one.kind, one.explains) == ("rows_apart", saved)


def test_spans_of_time_are_made_of_some_columns() -> None:
    cell = 'hours = df.resample("1s").last().ffill().resample("1h").mean()\nprint(hours)\n'
    table = Table(rows=60_000, columns=frozenset(), width=150)
    assert [one.kind for one in _found(cell, table, _refused(150, 260_000))] == ["columns_apart"]
    assert _found(cell, table, _refused(90, 260_000)) == []
