"""Data that is computed in host memory and moved then: of which no more is promised than has been seen."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nb_oomhelper.records.remedy import Shortage
from nb_oomhelper.remedies.moved_data import find_moved_data
from nb_oomhelper.remedies.places import find_places
from nb_oomhelper.source.text_edits import write_edits
from tests.makers import EVENT
from tests.remedies.notebooks import written

pytestmark = pytest.mark.plain

MIB = 1 << 20
FULL = replace(EVENT, framework="pytorch", backend="cuda", phase="unknown", requested=100 * MIB)
SHORT = Shortage(needs=500 * MIB, measured=True, room=400 * MIB)


@pytest.mark.parametrize("more", ["", "y = torch.from_numpy(b).cuda().float() / 255\n"])
def test_what_is_moved_later_is_moved_so_as_well(more: str) -> None:
    one = written(f"x = torch.from_numpy(a).cuda().float() / 255\n{more}z = net(x)\n", 1)
    (found,) = find_moved_data(one, FULL, SHORT, find_places(one))
    changed = write_edits(found.place.text, found.edits)
    assert changed is not None
    assert changed.source.count("(torch.from_numpy(") == 1 + bool(more)
    assert changed.source.count(".float() / 255).cuda()") == 1 + bool(more)
    assert (found.explains is None) == bool(more)
