"""Mistakes that a cell's code shows before it is run, a line each: `%%gpumem`."""

from __future__ import annotations

from collections.abc import Sequence

from nb_oomhelper.knowledge.toml_tables import Language
from nb_oomhelper.records.foreseen import Foreseen
from nb_oomhelper.showing.wording import say

_MOST = 5  # lines
_LONGEST = 80  # characters of code


def tell(found: Sequence[Foreseen], language: Language) -> list[str]:
    """Say which mistakes there are, and what to write.

    Args:
        found: The mistakes.
        language: "en" or "zh".
    """
    lines = [_line(one, language) for one in found[:_MOST]]
    return [*lines, say("foreseen.more", language, count=len(found) - _MOST)] if len(found) > _MOST else lines


def _line(one: Foreseen, language: Language) -> str:
    key = "foreseen.line" if one.cell is None else "foreseen.line_of"
    place = say(key, language, line=one.line, cell=one.cell)
    code = {name: _short(getattr(one, name)) for name in ("before", "after", "name")}
    return say(f"foreseen.{one.kind}", language, place=place, **code)


def _short(code: str) -> str:
    line = code.split("\n")[0].strip()
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}…"
