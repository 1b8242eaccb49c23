"""The entry below a panel: as a page, as JSON, as Markdown, or closed."""

from __future__ import annotations

from functools import partial
from typing import Any

from nb_oomhelper.knowledge.entry import Entry
from nb_oomhelper.knowledge.toml_tables import Language
from nb_oomhelper.showing.entry_page import entry_page, to_json
from nb_oomhelper.showing.frontends._widgets import Buttons
from nb_oomhelper.showing.wording import say

_FORMS = ("Entry", "JSON", "Markdown")


class EntryForms:
    """Buttons that open an entry in a form, and close it again.

    Attributes:
        buttons: One a form; none where there is no entry.
    """

    def __init__(self, entry: Entry | None, buttons: Buttons, page: Any, language: Language) -> None:
        """Make the buttons.

        Args:
            entry: The entry, or None.
            buttons: What makes them.
            page: The Output widget that shows it.
            language: "en" or "zh".
        """
        self.buttons = [] if entry is None else [buttons.make(partial(self._click, form)) for form in _FORMS]
        self._entry = entry
        self._page = page
        self._language = language
        self._shown = ""  # which form is open

    def write(self, language: Language) -> None:
        """Put the words into the buttons, and what is open into this language."""
        for form, button in zip(_FORMS, self.buttons, strict=False):
            button.description = say("button.entry", language) if form == "Entry" else form
        if language != self._language:
            self._language = language
            self._draw()

    def _click(self, form: str) -> None:
        self._shown = "" if self._shown == form else form
        self._draw()

    def _draw(self) -> None:
        if self._entry is None or not self._shown:
            self._page.outputs = ()
            return
        text = to_json(self._entry) if self._shown == "JSON" else entry_page(self._entry, self._language)
        data = {"text/plain": text}
        if self._shown == "Entry":
            data["text/markdown"] = text
        self._page.outputs = ({"output_type": "display_data", "data": data, "metadata": {}},)
