"""The entry below a panel: as a page, as JSON, as Markdown, or closed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from nb_oomhelper.knowledge.entry import Entry
from nb_oomhelper.knowledge.toml_tables import Language
from nb_oomhelper.showing.entry_page import entry_page, to_json
from nb_oomhelper.showing.frontends._widgets import Buttons
from nb_oomhelper.showing.wording import say

_FORMS = ("JSON", "Markdown")


class EntryForms:
    """The button that opens an entry and closes it again; with it come those for its other forms.

    Attributes:
        fold: That button; None where there is no entry.
        page: What it opens; None until it is asked for.
    """

    def __init__(self, entry: Entry | None, buttons: Buttons, language: Language, changed: Callable[[], None]) -> None:
        """Make the button.

        Args:
            entry: The entry, or None.
            buttons: What makes them.
            language: "en" or "zh".
            changed: Called when `page` has come.
        """
        self.page: Any = None
        self._entry, self._buttons, self._changed = entry, buttons, changed
        self._language = language
        self._shown = ""  # which form is open
        self._output: Any = None
        words = {"description": self._title(), "tooltip": say("button.entry_help", language)}
        self.fold = None if entry is None else buttons.make(partial(self._click, "Entry"), "oomh-fold", **words)

    def write(self, language: Language) -> None:
        """Put the words into the button, and what is open into this language."""
        if self.fold is not None and language != self._language:
            self._language = language
            self.fold.tooltip = say("button.entry_help", language)
            self._draw()

    def close(self) -> None:
        """Fold the entry away."""
        self._shown = ""
        self._draw()

    def _title(self) -> str:
        return f"{'▾' if self._shown else '▸'} {say('button.entry', self._language)}"

    def _click(self, form: str) -> None:
        if self.page is None:
            self._output = self._buttons.parts.output("oomh-page")
            forms = [self._buttons.make(partial(self._click, one), description=one) for one in _FORMS]
            row = self._buttons.parts.box(forms)
            self.page = self._buttons.parts.box([row, self._output], column=True)
            self._changed()
        if form == "Entry":
            self._shown = "" if self._shown else form
        else:
            self._shown = "Entry" if self._shown == form else form
        self._draw()

    def _draw(self) -> None:
        if self._entry is None or self.fold is None:
            return
        self.fold.description = self._title()
        if self.page is not None:
            self._buttons.parts.hide(self.page, not self._shown)
            self._output.outputs = self._outputs(self._entry) if self._shown else ()

    def _outputs(self, entry: Entry) -> tuple[dict[str, Any], ...]:
        text = to_json(entry) if self._shown == "JSON" else entry_page(entry, self._language)
        data = {"text/plain": text}
        if self._shown == "Entry":
            data["text/markdown"] = text
        return ({"output_type": "display_data", "data": data, "metadata": {}},)
