"""Fewer rows, or only the newest results: where it is plain that they fill memory, and how few there must be."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nb_oomhelper.records.event import OomEvent
from nb_oomhelper.records.holdings import Holding, Holdings
from nb_oomhelper.records.remedy import Shortage
from nb_oomhelper.remedies.cell_tables import find_rows
from nb_oomhelper.remedies.elements import Kept
from nb_oomhelper.remedies.only_a_part import find_fewer_results, find_less_data
from nb_oomhelper.remedies.places import Mistake, find_places
from nb_oomhelper.remedies.written import Written
from tests.makers import HOST_EVENT
from tests.remedies.notebooks import written

pytestmark = pytest.mark.plain

MIB = 1 << 20
SHORT = Shortage(needs=3000 * MIB, measured=True, room=1000 * MIB)
PAIRS = "Unable to allocate 2.15 GiB for an array with shape (287988000,) and data type float64"
REFUSED = replace(HOST_EVENT, message=PAIRS, requested=2200 * MIB)


def less(one: Written, refused: OomEvent = REFUSED, shortage: Shortage = SHORT) -> list[Mistake]:
    return list(find_less_data(one, refused, shortage, find_places(one)))


class TestLessData:
    CELL = "tree = linkage(X)\nprint(tree)\n"

    def one(self, cell: str = CELL, **rows: tuple[int, bool]) -> Written:
        return replace(written(cell, 1), rows=rows or {"X": (24_000, False)})

    def test_of_pairs_of_rows(self) -> None:
        (found,) = less(self.one())
        assert (found.kind, found.subject) == ("less_data", "X")
        assert [edit[2] for edit in found.edits] == ["[::8]"]  # twice as much as 3000 of 1000 MiB may come
        assert found.explains == 2200 * MIB - 2200 * MIB // 8

    @pytest.mark.parametrize(
        ("shape", "offered"), [("(24000, 512)", 1), ("(3, 48000)", 1), ("(16000, 16000)", 0), ("(7,)", 0)]
    )
    def test_what_was_refused_has_its_rows(self, shape: str, offered: int) -> None:
        message = f"Unable to allocate 2.15 GiB for an array with shape {shape} and data type float64"
        assert len(less(self.one(), replace(REFUSED, message=message))) == offered

    @pytest.mark.parametrize(
        ("cell", "rows"),
        [
            ("X = 3\n", {"X": (24_000, False)}),
            ("tree = linkage(X)\n", {"X": (60, False)}),  # too few
            ("tree = linkage(X)\n", {"Y": (24_000, False)}),
            ("tree = linkage(X)\nX = None\n", {"X": (24_000, False)}),
        ],
    )
    def test_none_of_what_is_not_read_or_is_changed(self, cell: str, rows: dict[str, tuple[int, bool]]) -> None:
        assert less(self.one(cell, **rows)) == []

    def test_of_what_the_cell_has_made_of_its_rows_before(self) -> None:
        (found,) = less(replace(written("Y = lags(X)\ntree = linkage(Y)\n", 2), rows={"X": (24_000, False)}))
        assert found.subject == "X"

    def test_the_first_rows_where_rows_look_back(self) -> None:
        (found,) = less(self.one("tree = linkage(X.rolling(7).mean())\n"))
        assert [edit[2] for edit in found.edits] == ["[:3000]"]

    def test_none_of_what_has_a_column_for_each_row(self) -> None:
        one = replace(self.one(), kept={"X": Kept(shape=(24_000, 24_000))})
        assert less(one) == []
        other = replace(self.one("y = head(feats)\ntree = linkage(X)\n"), kept={"feats": Kept(shape=(16, 24_000, 32))})
        assert less(other) == []

    def test_none_where_the_cell_trains(self) -> None:
        assert less(self.one("loss(X).backward()\n")) == []
        assert (
            len(less(self.one("with torch.no_grad(): out = f(X)\n"), replace(REFUSED, message="", framework=""))) == 1
        )

    def test_none_where_functions_would_go_on_reading_all(self) -> None:
        one = replace(self.one("f(X, y)\n", X=(500, False), y=(500, False)), needed=frozenset({"X", "y", "f"}))
        assert [edit[2] for found in less(one, replace(REFUSED, message="")) for edit in found.edits] == []
        refused = replace(REFUSED, framework="", message="")
        assert len(less(one, refused)) == 1
        cell = "f(X)\n"
        hidden = replace(written(cell, 1), rows={"X": (500, False), "y": (500, False)}, needed=frozenset({"X", "y"}))
        assert [found.subject for found in less(hidden, refused)] == ["X"]

    def test_where_nobody_knows_how_much_is_needed(self) -> None:
        (found,) = less(self.one(), replace(REFUSED, requested=None), replace(SHORT, needs=None, room=None))
        assert ([edit[2] for edit in found.edits], found.explains) == (["[::8]"], None)


class TestRows:
    def test_of_what_can_be_cut(self) -> None:
        numpy = pytest.importorskip("numpy")
        names = {"a": numpy.zeros((5, 2)), "b": [1, 2], "c": "abc", "d": {1: 2}, "e": 7, "f": numpy.float64(3)}
        assert find_rows(names) == {"a": (5, False), "b": (2, False), "c": (3, True)}


class TestFewerResults:
    LOOP = "for t in range(400):\n    film.append(f(t))\n"
    HELD = Holdings(
        rows=(Holding(name="film", kind="variable", backend="host", own=700 * MIB),), shares=(((0,), 700 * MIB),)
    )

    def found(self, cell: str, items: int | None = 150) -> list[Mistake]:
        one = replace(written(cell, 2), kept={"film": Kept(call="clear", size={"host": 700 * MIB}, items=items)})
        return list(find_fewer_results(one, REFUSED, self.HELD, find_places(one)))

    def test_a_third_of_what_there_was_room_for(self) -> None:
        (found,) = self.found(self.LOOP)
        assert (found.subject, found.clear) == ("film", "del film[:-50]")
        assert found.edits[0][2] == "\n    del film[:-50]"
        assert found.explains == 700 * MIB - 700 * MIB // 3

    def test_of_a_list_that_the_cell_makes_nothing_is_left(self) -> None:
        (found,) = self.found("film = []\n" + self.LOOP)
        assert found.clear == ""

    @pytest.mark.parametrize("cell", [LOOP + "video = np.stack(film)\n", "print(film)\nx = 1\n"])
    def test_none_where_all_are_wanted_or_none_is_put_in(self, cell: str) -> None:
        assert self.found(cell) == []

    @pytest.mark.parametrize("items", [None, 2])
    def test_none_of_what_is_no_list_or_has_few(self, items: int | None) -> None:
        assert self.found(self.LOOP, items) == []
