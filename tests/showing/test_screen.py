"""What is on the screen: one is live, a few can be clicked, and what ends badly spoils nothing."""

from __future__ import annotations

import threading

import pytest

from nb_oomhelper.case import Case
from nb_oomhelper.knowledge.toml_tables import Language
from nb_oomhelper.showing.screen import Screen
from tests.cases import rich_case

pytestmark = pytest.mark.plain


class Panel:
    """A panel that notes what is done to it."""

    def __init__(self, bad: str = "") -> None:
        self.live = True
        self.case = rich_case()
        self.times = 1
        self.retired = False
        self._bad = bad

    def is_of(self, case: Case, language: Language) -> bool:
        return case is self.case and language == "en"

    def show(self) -> None:
        self.times += 1

    def follow(self) -> None:
        self.live = True

    def refresh(self) -> None:
        self.times += 1

    def close(self) -> None:
        self.live = False
        if self._bad == "close":
            raise OSError("gone")

    def retire(self) -> None:
        self.retired = True
        if self._bad == "retire":
            raise OSError("gone")


@pytest.mark.parametrize("bad", ["", "close", "retire"])
def test_the_newest_is_live_and_the_last_five_stay(bad: str) -> None:
    screen = Screen()
    panels = [Panel(bad) for _ in range(8)]
    for panel in panels:
        screen.add(panel)
    assert [panel.live for panel in panels] == 7 * [False] + [True]
    assert [panel.retired for panel in panels] == 3 * [True] + 5 * [False]
    screen.close()
    assert not any(panel.live for panel in panels)


def test_a_report_without_widgets_ends_the_panel_before_it() -> None:
    screen, panel = Screen(), Panel()
    screen.add(panel)
    screen.add(None)
    assert not panel.live


def test_a_panel_is_shown_again_as_the_newest() -> None:
    screen = Screen()
    first, second = Panel(), Panel()
    screen.add(first)
    screen.add(second)
    assert not screen.show_again(first.case, "zh")
    assert not screen.show_again(rich_case(), "en")
    assert screen.show_again(first.case, "en")
    assert (first.times, first.live, second.live) == (2, True, False)
    assert screen.show_again(first.case, "en")
    assert (first.times, first.live) == (3, True)


@pytest.mark.thorough
def test_from_many_threads_one_is_live() -> None:
    screen = Screen()
    panels = [Panel() for _ in range(60)]
    threads = [threading.Thread(target=screen.add, args=[panel]) for panel in panels]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    screen.close()
    assert not any(panel.live for panel in panels)
