"""The style sheets as elements: what a report needs, which every saved notebook has, and what widgets need, too."""

from __future__ import annotations

import functools
import re
from importlib import resources

_COMMENT, _BLANKS = re.compile(r"/\*.*?\*/", re.DOTALL), re.compile(r"\s+")
_AROUND, _AFTER = re.compile(r" ?([{};,>]) ?"), re.compile(r": |;(?=})")  # before a colon a blank has a meaning


@functools.cache
def of_report() -> str:
    """That of a report without buttons."""
    return f"<style>{_sheet('report')}</style>"


@functools.cache
def of_panel() -> str:
    """That of widgets. What a report needs comes last, in whichever order panels and reports stand on a page."""
    return f"<style>{_sheet('panel')}{_sheet('report')}</style>"


def _sheet(name: str) -> str:
    """A sheet without comments and blanks: two thirds of what is written."""
    file = resources.files("nb_oomhelper.showing.frontends").joinpath(f"{name}.css")
    text = _BLANKS.sub(" ", _COMMENT.sub("", file.read_text("utf-8"))).strip()
    return _AFTER.sub(lambda found: found[0].strip(" ;"), _AROUND.sub(r"\1", text))
