"""A worker with no room left even to import what releases."""

from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from nb_oomhelper import there

pytestmark = pytest.mark.plain


class Kept:
    """What a failed task has made."""


def failed() -> tuple[weakref.ref[Kept], Iterator[Kept]]:
    """Fail twice, one error behind the other, each with an object of its frame, and with a generator that waits."""

    def waits() -> Iterator[Kept]:
        kept = Kept()
        yield kept
        yield kept

    def inner(going: Iterator[Kept]) -> weakref.ref[Kept]:
        kept = Kept()
        try:
            raise MemoryError
        except MemoryError:
            outer(kept)
        return weakref.ref(kept)

    def outer(kept: Kept) -> None:
        raise MemoryError

    going = waits()
    next(going)
    try:
        inner(going)
    except MemoryError as error:
        sys.last_value = error
        frame = error.__traceback__.tb_next.tb_frame  # type: ignore[union-attr]
        kept = weakref.ref(frame.f_locals["kept"])
    return kept, going


@pytest.fixture
def last_error() -> Iterator[None]:
    yield
    sys.__dict__.pop("last_value", None)


@pytest.mark.usefixtures("last_error")
@pytest.mark.parametrize("collects", [True, False])
def test_it_first_drops_what_the_last_error_keeps(monkeypatch: pytest.MonkeyPatch, collects: bool) -> None:
    kept, going = failed()
    give_back, calls = there._give_back, []

    def once() -> dict[str, Any]:
        calls.append(kept() is None)
        if len(calls) == 1:
            raise MemoryError
        return give_back()

    monkeypatch.setattr(there, "_give_back", once)
    if not collects:
        gc.disable()
    try:
        told = there.release()
        assert gc.isenabled() is collects
    finally:
        gc.enable()
    assert calls == [False, True]
    assert told["before"]["resident"] > 0
    assert next(going) is not None  # it goes on


def test_without_an_error_there_is_nothing_to_drop() -> None:
    there._clear_last()
    assert there._resident()
