"""A changed function put where the old one is."""

from __future__ import annotations

from typing import Any

import pytest

from nb_oomhelper.remedies.definitions import Definition, put_in_place

pytestmark = pytest.mark.plain

SOURCE = "k = 2\ndef f(x, seen=[], *, k=k):\n    seen.append(x)\n    return len(seen) * k\n"


def test_a_function_keeps_the_defaults_that_it_has() -> None:
    one = Definition(name="f", owner="", file="<above>", line=2, source=SOURCE, cell=1)
    put = put_in_place(SOURCE.replace("len(seen)", "-len(seen)"), [one], {"f", "k"})
    assert put is not None
    names: dict[str, Any] = {}
    exec(SOURCE, names)
    assert names["f"](1) == 2
    names["k"] = 100
    exec(put, names)
    assert names["f"](1) == -4  # with what it has seen, and the `k` of then
    assert "old_f" not in names


def test_plain_defaults_are_written_as_they_are() -> None:
    source = "def f(x, y=1, *, z=-2):\n    return x\n"
    one = Definition(name="f", owner="", file="<above>", line=1, source=source, cell=1)
    assert put_in_place(source, [one], {"f"}) == source.rstrip("\n")
