"""Rows and columns as text."""

from __future__ import annotations

import pytest
from wcwidth import wcswidth

from nb_oomhelper.showing.grid import to_text

pytestmark = pytest.mark.plain


@pytest.mark.parametrize(
    "rows",
    [
        [["加载方式", "显存"], ["使用 16 位加载", "4.00 GiB"], ["plain", "512 bytes"]],
        [["é", "x"], ["e\u0301e\u0301", "x"], ["👩\u200d🔬", "x"], ["ｆｕｌｌ", "x"]],
        [["a", "b"], ["a longer one", "c"]],
    ],
)
def test_columns_end_at_the_same_place_on_the_screen(rows: list[list[str]]) -> None:
    lines = to_text(("设备", "空闲的显存"), rows).splitlines()
    assert len({wcswidth(line) for line in lines}) == 1
    assert lines[0].split() == ["设备", "空闲的显存"]


def test_what_has_no_width_is_shown_all_the_same() -> None:
    assert to_text(("a", "b"), [["x\x1by", "1"]]).splitlines() == ["a    b", "x\x1by  1"]
