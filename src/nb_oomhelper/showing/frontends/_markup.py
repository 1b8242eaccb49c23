"""Texts as markup: escaped at the last step before they become it, and what hides in them written out."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable

from nb_oomhelper.untrusted import printable

_MARK = re.compile(r"`([^`]*)`|\*\*([^*]*)\*\*")


def escape(text: str) -> str:
    """Escape a text that is no sentence of ours."""
    return html.escape(printable(text))


def rich(text: str) -> str:
    """Escape a text, then turn its backticks and double stars into markup."""
    return _MARK.sub(_element, escape(text))


def _element(mark: re.Match[str]) -> str:
    """Code, whose stars stay, or bold, which may hold code."""
    return f"<code>{mark[1]}</code>" if mark[1] is not None else f"<b>{_MARK.sub(_element, mark[2])}</b>"


def lines(texts: Iterable[str]) -> str:
    """Texts, each on a line of its own."""
    return "<br>".join(rich(text) for text in texts if text)
