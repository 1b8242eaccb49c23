"""Parts: many small ones, or fewer that the C library keeps apart from other things."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nb_oomhelper.records.remedy import Shortage
from nb_oomhelper.remedies.part_sizes import count_parts
from tests.makers import EVENT, GIB, HOST_EVENT, MIB


@pytest.mark.parametrize(
    ("requested", "room", "parts"),
    [
        (858 * MIB, 608 * MIB, 16),  # 50 MiB each
        (858 * MIB, 400 * MIB, 25),  # 33 MiB
        (858 * MIB, 300 * MIB, 32),  # there is no room for as large ones
        (50 * MIB, 600 * MIB, 2),
        (500 * MIB, 8 * GIB, 3),
        (64 * GIB, 2 * GIB, 32),
        (None, 2 * GIB, 32),
        (858 * MIB, None, 32),
    ],
)
def test_parts_are_large_where_there_is_room(requested: int | None, room: int | None, parts: int) -> None:
    event = replace(HOST_EVENT, requested=requested)
    assert count_parts(event, Shortage(needs=None, measured=False, room=room)) == parts


def test_they_are_as_small_as_the_largest_array_asks_for() -> None:
    event = replace(HOST_EVENT, requested=16 * MIB)  # of a flag for each of 400 MiB of numbers
    assert count_parts(event, Shortage(needs=None, measured=False, room=600 * MIB), 400 * MIB) == 8


def test_a_device_has_no_such_holes() -> None:
    event = replace(EVENT, requested=858 * MIB)
    assert count_parts(event, Shortage(needs=None, measured=False, room=608 * MIB)) == 32
