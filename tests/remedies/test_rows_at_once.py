"""What is computed of all rows at once: what parts of them save, where it stands there what comes out."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nb_oomhelper.records.remedy import Shortage
from nb_oomhelper.remedies.elements import Kept
from nb_oomhelper.remedies.places import find_places
from nb_oomhelper.remedies.rows_at_once import find_rows_at_once
from tests.makers import HOST_EVENT
from tests.remedies.notebooks import written

pytestmark = pytest.mark.plain

MIB = 1 << 20
ROWS = 100 * MIB // 8
SHORT = Shortage(needs=200 * MIB, measured=True, room=150 * MIB)


def _saved(cell: str, needs: int = 200) -> list[int | None]:
    one = replace(written(cell, 2), kept={"a": Kept(shape=(ROWS,), dtype="float64")}, names=frozenset({"a"}))
    event = replace(HOST_EVENT, requested=100 * MIB, phase="unknown")
    return [
        found.explains for found in find_rows_at_once(one, event, replace(SHORT, needs=needs * MIB), find_places(one))
    ]


@pytest.mark.parametrize(
    ("rest", "saved"),
    [
        ("c = b + a\nprint(c)", []),  # as large as `b`, which had no room
        ("c = np.sqrt(b)\nprint(c, a)", []),
        ("c = b > 3\nprint(c)", [100 * MIB]),  # flags take less
    ],
)
def test_what_is_made_again_of_the_same_size_saves_nothing(rest: str, saved: list[int]) -> None:
    assert _saved(f"a = np.ones(n)\nb = a * 2\n{rest}\n") == saved


def test_what_was_there_beside_it_is_saved() -> None:
    assert _saved("a = np.ones(n)\nb = np.sin(a * 2) + a * 3\nc = b + a\nprint(c)\n", needs=450) == [225 * MIB]
    assert _saved("a = np.ones(n)\nb = np.sin(a * 2) + a * 3\nc = b + a\nprint(c)\n", needs=300) == [100 * MIB]
