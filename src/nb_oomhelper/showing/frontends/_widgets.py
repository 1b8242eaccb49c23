"""The parts of a panel that are widgets of their own.

A widget, a layout and a style are a message each, on the way to a browser that may be far away: so the widgets of a
panel share their layouts and styles, have their words from the start, and come only when they are seen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

_VIEW = "application/vnd.jupyter.widget-view+json"


def view_of(widget: Any) -> dict[str, Any]:
    """The part of a display bundle by which a front end finds a widget."""
    return {_VIEW: {"version_major": 2, "version_minor": 0, "model_id": widget.model_id}}


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


class Parts:
    """Makes the widgets of one panel.

    Attributes:
        shared: The layouts and styles that all of them have.
    """

    def __init__(self) -> None:
        import ipywidgets as widgets

        self._widgets = widgets
        self._plain, self._hidden = widgets.Layout(), widgets.Layout(display="none")
        self._styles: dict[str, Any] = {}

    @property
    def shared(self) -> list[Any]:
        """What may be closed only with the last of the widgets."""
        return [self._plain, self._hidden, *self._styles.values()]

    def html(self, value: str, *classes: str, hidden: bool = False) -> Any:
        """Make a widget of markup."""
        return self._styled("HTML", classes, hidden, value=value)

    def button(self, *classes: str, hidden: bool = False, **words: Any) -> Any:
        """Make a button; `words` are its traits."""
        return self._styled("Button", classes, hidden, **words)

    def box(self, children: Sequence[Any], *classes: str, column: bool = False, hidden: bool = False) -> Any:
        """Make a row of widgets, or a column."""
        kind = self._widgets.VBox if column else self._widgets.HBox
        return kind(list(children), layout=self._layout(hidden), _dom_classes=classes)

    def output(self, *classes: str) -> Any:
        """Make a place for what is printed."""
        return self._widgets.Output(layout=self._plain, _dom_classes=classes)

    def hide(self, widget: Any, hidden: bool) -> None:
        """Let a widget take no room, or show it again."""
        widget.layout = self._layout(hidden)

    def is_hidden(self, widget: Any) -> bool:
        """Whether a widget takes no room."""
        return widget.layout is self._hidden

    def focus(self, widget: Any) -> None:
        """Put the keyboard's focus on a widget; ipywidgets 7 cannot."""
        if hasattr(widget, "focus"):
            widget.focus()

    def put(self, widget: Any, value: str) -> None:
        """Show markup in a widget, which takes no room where there is none."""
        widget.value = value
        self.hide(widget, not value)

    def _layout(self, hidden: bool) -> Any:
        return self._hidden if hidden else self._plain

    def _styled(self, name: str, classes: Sequence[str], hidden: bool, **traits: Any) -> Any:
        if name in self._styles:
            traits["style"] = self._styles[name]
        made = getattr(self._widgets, name)(layout=self._layout(hidden), _dom_classes=classes, **traits)
        self._styles[name] = made.style
        return made


class Said:
    """What a panel says of clicks: what runs just now, and below it what came of the last one.

    Attributes:
        widget: Where it stands.
    """

    def __init__(self, parts: Parts, told: str) -> None:
        """Make the widget.

        Args:
            parts: Makes widgets.
            told: What came of an earlier click, as markup.
        """
        self._parts, self._status, self._told = parts, "", told
        self.widget = parts.html(told, "oomh-top", "oomh-status", hidden=not told)

    def say(self, status: str) -> None:
        """Say what runs; "" for nothing."""
        self._status = status
        self._parts.put(self.widget, self._status + self._told)

    def tell(self, told: str) -> None:
        """Say what came of a click."""
        self._told = told
        self._parts.put(self.widget, self._status + self._told)


class Buttons:
    """Makes buttons that look alike.

    Attributes:
        home: One that is always there: the keyboard's focus goes to it when the button that has it may go.
    """

    home: Any = None

    def __init__(self, parts: Parts, guard: Callable[[Callable[[], None]], None]) -> None:
        """Keep what all of them do.

        Args:
            parts: Makes widgets.
            guard: Does what a click does, and sees to its errors.
        """
        self.parts = parts
        self._guard = guard

    def make(self, click: Callable[[], None], *classes: str, **words: Any) -> Any:
        """Make a button.

        Args:
            click: What it does.
            classes: Of its element, beside the common one.
            words: Its traits.
        """
        button = self.parts.button("oomh-small", *classes, **words)
        button.on_click(lambda _: self._guard(click))
        return button
