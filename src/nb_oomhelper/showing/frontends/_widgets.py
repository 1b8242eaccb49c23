"""The parts of a panel that are widgets of their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any


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


def hide(widget: Any, hidden: bool) -> None:
    """Let a widget take no room, or show it again."""
    widget.layout.display = "none" if hidden else ""


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
