"""The parts of a panel that are widgets of their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from nb_oomhelper.knowledge.toml_tables import Language
from nb_oomhelper.showing.fix_text import FixRow
from nb_oomhelper.showing.frontends import _html
from nb_oomhelper.showing.wording import say


def family(roots: Sequence[Any]) -> list[Any]:
    """Find widgets with all that they are made of: children, layouts, styles."""
    import ipywidgets as widgets

    found: dict[int, Any] = {}
    todo = list(roots)
    while todo:
        one = todo.pop()
        if id(one) not in found:
            found[id(one)] = one
            for value in one.trait_values().values():
                parts = value if isinstance(value, list | tuple) else [value]
                todo.extend(part for part in parts if isinstance(part, widgets.Widget))
    return list(found.values())


def put(widget: Any, value: str) -> None:
    """Show a text in a widget, which takes no room where there is none.

    Args:
        widget: An HTML widget.
        value: Markup.
    """
    widget.value = value
    widget.layout.display = "" if value else "none"


def live_region() -> Any:
    """Make a line that screen readers are told of."""
    import ipywidgets as widgets

    line = widgets.HTML()
    line.add_class("oomh-status")
    return line


class Buttons:
    """Makes buttons that look alike."""

    def __init__(self, guard: Callable[[Callable[[], None]], None]) -> None:
        """Keep what all of them do.

        Args:
            guard: Does what a click does, and sees to its errors.
        """
        self._guard = guard

    def make(self, click: Callable[[], None]) -> Any:
        """Make a button without words."""
        import ipywidgets as widgets

        button = widgets.Button()
        button.add_class("oomh-small")
        button.on_click(lambda _: self._guard(click))
        return button


class FixWidget:
    """One fix in the panel: its row, its code, and the question before something is lost."""

    def __init__(self, row: FixRow, buttons: Buttons, start: Callable[[FixWidget], None]) -> None:
        import ipywidgets as widgets

        self.plan = row.plan
        self.done = False
        self._start = start
        self._text = widgets.HTML(layout=widgets.Layout(flex="1 1 480px"))
        self._code = widgets.HTML()
        self._question = widgets.HTML(layout=widgets.Layout(flex="1 1 300px"))
        self.run = buttons.make(self._ask)
        self._show = buttons.make(self._toggle)
        self._sure = buttons.make(lambda: self._answer(True))
        self._cancel = buttons.make(lambda: self._answer(False))
        self._confirm = widgets.HBox([self._question, self._sure, self._cancel])
        self._confirm.add_class("oomh-confirm")
        self._sure.button_style = "warning"
        runs = row.plan.applicability != "display_only"
        pair = widgets.HBox([self.run, self._show] if runs else [self._show])
        pair.add_class("oomh-buttons")
        line = widgets.HBox([self._text, pair])
        line.add_class("oomh-row")
        self.root = widgets.VBox([line, self._code, self._confirm])
        self.run.button_style = "primary" if row.plan.number == 1 else ""
        self._hide(self._confirm, True)
        self._hide(self._code, row.plan.number != 1)

    def write(self, row: FixRow, language: Language) -> None:
        """Put the row's words into its widgets.

        Args:
            row: The fix in words.
            language: "en" or "zh".
        """
        self.plan = row.plan  # after a load, others lose what was loaded, and say so
        self._text.value = _html.fix(row)
        self._code.value = _html.change(row, language) + _html.code(row.plan.code)
        self._question.value = _html.rich(say("fix.loses", language, loses=row.loses))
        for button, key in ((self.run, "run"), (self._show, "code"), (self._sure, "sure"), (self._cancel, "cancel")):
            button.description = say(f"button.{key}", language)
        self.run.tooltip = say("button.run_help", language)
        self._show.tooltip = say("button.code_help", language)
        self.settle()

    def settle(self) -> None:
        """A fix that did its work cannot be run twice by a second click."""
        if self.done:
            self.run.disabled = True
            self.run.description = f"✓ {self.run.description.removeprefix('✓ ')}"

    def _ask(self) -> None:
        if self.plan.applicability == "unsafe":
            self._hide(self._confirm, False)
            self._hide(self._code, False)  # what is asked for is what is shown
        else:
            self._start(self)

    def _answer(self, sure: bool) -> None:
        self._hide(self._confirm, True)
        if sure:
            self._start(self)

    def _toggle(self) -> None:
        self._hide(self._code, self._code.layout.display != "none")

    def _hide(self, widget: Any, hidden: bool) -> None:
        widget.layout.display = "none" if hidden else ""
