"""Names that nothing reads any more are let go of only where that can help."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nb_oomhelper.records.holdings import Holding, Holdings
from nb_oomhelper.records.remedy import Shortage
from nb_oomhelper.remedies.elements import Kept, Step
from nb_oomhelper.remedies.let_go import find_let_go
from nb_oomhelper.remedies.places import find_places
from tests.remedies.notebooks import written

pytestmark = pytest.mark.plain

MIB = 1 << 20
LOAD = "def load(path):\n    table = read(path)\n    small = table.head()\n    return huge(small)\n"
SHORT = Shortage(needs=400 * MIB, measured=True, room=300 * MIB)


@pytest.mark.parametrize(
    ("kept", "shortage", "offered"),
    [
        (200 * MIB, SHORT, [("table", None)]),  # a table, whose size nobody knows
        (1 * MIB, SHORT, []),  # less than a fourth of what is missing, with all that the function has
        (200 * MIB, replace(SHORT, impossible=True), []),
        (200 * MIB, replace(SHORT, needs=None), []),
    ],
)
def test_a_table_that_is_no_longer_needed(kept: int, shortage: Shortage, offered: list[tuple[str, None]]) -> None:
    one = written("load('a')", 1, LOAD)
    one = replace(
        one,
        steps=(*one.steps, Step(function="load", file="<above>", first=1, line=4)),
        local={("<above>", 1): {"table": Kept()}},
    )
    held = Holdings(rows=(Holding(name="table", kind="failed_cell", backend="host", own=kept),), shares=(((0,), kept),))
    found = find_let_go(one, held, shortage, find_places(one))
    assert [(each.subject, each.explains) for each in found] == offered
