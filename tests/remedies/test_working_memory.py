"""Chunks of scikit-learn's that had no room."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nb_oomhelper.records.remedy import Shortage
from nb_oomhelper.remedies.places import find_places
from nb_oomhelper.remedies.working_memory import find_large_chunks
from tests.makers import EVENT
from tests.remedies.notebooks import written

pytestmark = pytest.mark.plain

MIB = 1 << 20
CHUNK = replace(EVENT, framework="numpy", backend="host", stage="chunk", requested=1024 * MIB)
SHORT = Shortage(needs=1100 * MIB, measured=True, room=300 * MIB)
CELL = "for k in range(2, 9):\n    score = silhouette_score(X, labels[k])\n"


def test_as_large_as_there_is_room_for_several() -> None:
    one = written(CELL, 2)
    (found,) = find_large_chunks(CHUNK, SHORT, find_places(one))
    assert (found.subject, found.explains) == ("32 MiB", (1024 - 4 * 32) * MIB)
    assert [edit[2] for edit in found.edits] == [
        "with sklearn.config_context(working_memory=32):\n"
        "    for k in range(2, 9):\n        score = silhouette_score(X, labels[k])"
    ]


@pytest.mark.parametrize(
    ("event", "shortage"),
    [
        (replace(CHUNK, stage=""), SHORT),
        (replace(CHUNK, requested=None), SHORT),
        (replace(CHUNK, requested=100 * MIB), SHORT),  # they are small already
        (CHUNK, replace(SHORT, room=None)),
    ],
)
def test_where_it_is_not_offered(event: object, shortage: Shortage) -> None:
    assert list(find_large_chunks(event, shortage, find_places(written(CELL, 2)))) == []  # type: ignore[arg-type]
