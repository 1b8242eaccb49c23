"""The style sheets as elements: what a report uses, which every saved notebook has, and what widgets need, too."""

from __future__ import annotations

import functools
import re
from importlib import resources

_CLASSES, _OURS = re.compile(r'class="([^"]*)"'), re.compile(r"oomh[\w-]*")
_RULE, _VARIABLE = re.compile(r"([^{}]+)\{([^{}]*)\}"), re.compile(r"(--o-\w+):[^;}]*;?")
_COMMENT, _BLANKS = re.compile(r"/\*.*?\*/", re.DOTALL), re.compile(r"\s+")
_AROUND, _AFTER = re.compile(r" ?([{};,>]) ?"), re.compile(r": |;(?=})")  # before a colon a blank has a meaning


def of_report(report: str) -> str:
    """That of a report without buttons: the rules that it uses, for they are saved with each.

    Args:
        report: Its HTML.
    """
    has = set(_OURS.findall(" ".join(_CLASSES.findall(report))))
    rules = _RULE.sub(lambda rule: _used(rule, has), _sheet("report"))
    return f"<style>{_VARIABLE.sub(lambda one: one[0] if f'var({one[1]})' in rules else '', rules)}</style>"


def _used(rule: re.Match[str], has: set[str]) -> str:
    """A rule for those of its elements that there are."""
    selectors = [one for one in rule[1].split(",") if has.issuperset(_OURS.findall(one))]
    return f"{','.join(selectors)}{{{rule[2]}}}" if selectors else ""


@functools.cache
def of_panel() -> str:
    """That of widgets. What a report needs comes last, in whichever order panels and reports stand on a page."""
    return f"<style>{_sheet('panel')}{_sheet('report')}</style>"


@functools.cache
def _sheet(name: str) -> str:
    """A sheet without comments and blanks: two thirds of what is written."""
    file = resources.files("nb_oomhelper.showing.frontends").joinpath(f"{name}.css")
    text = _BLANKS.sub(" ", _COMMENT.sub("", file.read_text("utf-8"))).strip()
    return _AFTER.sub(lambda found: found[0].strip(" ;"), _AROUND.sub(r"\1", text))
