"""The code of a fix, and what it changes in the user's own, as HTML."""

from __future__ import annotations

import difflib
import re

from nb_oomhelper.knowledge.toml_tables import Language
from nb_oomhelper.showing.fix_text import FixRow
from nb_oomhelper.showing.frontends._markup import escape, lines, rich
from nb_oomhelper.showing.wording import say

_FEW, _SHORT = 2, 160  # lines, and characters of one, before and after together, that are shown in a line each
_WORD = re.compile(r"\w+|\s+|\(\)|[^\w\s]")


def whole_code(row: FixRow, language: Language, noted: bool = False) -> str:
    """What is changed, and the code that runs.

    Args:
        row: A fix.
        language: "en" or "zh".
        noted: With the note, which stands nowhere else.
    """
    note = f'<div class="oomh-mute oomh-whole">{lines([row.rates, row.note])}</div>' if noted else ""
    return note + change(row, language) + code(row.plan.code)


def short_change(row: FixRow) -> str:
    """The line that is changed, before and after, where they are few in one place and short; else ""."""
    old, new = (text.strip("\n").split("\n") for text in (row.plan.before, row.plan.after))
    found = difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
    edits = [edit[1:] for edit in found if edit[0] != "equal"]
    if len(edits) != 1:
        return ""
    gone, come = old[slice(*edits[0][:2])], new[slice(*edits[0][2:])]
    if len(gone) != len(come) or len(gone) > _FEW or len("".join(gone + come)) > _SHORT * len(gone) or not all(gone):
        return ""
    both = (_compared(before.strip(), after.strip()) for before, after in zip(gone, come, strict=True))
    arrows = (f"<code>{before}</code> → <code>{after}</code>" for before, after in both)
    return "".join(f'<br><span class="oomh-diff-line">{arrow}</span>' for arrow in arrows)


def code(text: str) -> str:
    """A block of code that can be selected."""
    return f'<pre class="oomh-code" tabindex="0">{escape(text.strip())}</pre>'


def change(row: FixRow, language: Language) -> str:
    """Draw the user's statement and what runs in its place, side by side.

    Args:
        row: A fix.
        language: "en" or "zh".

    Returns:
        "" where nothing is changed.
    """
    before, after = row.plan.before, row.plan.after
    if not before or before == after:
        return ""
    old, new = _compared(before, after)
    titles = _where(row, language), say("diff.after", language)
    columns = "".join(
        f'<div><div class="oomh-mute">{rich(title)}</div><pre class="oomh-code" tabindex="0">{text}</pre></div>'
        for title, text in zip(titles, (old, new), strict=True)
    )
    whole = f'<div class="oomh-mute oomh-whole">{rich(say("diff.whole", language))}</div>'
    return f'<div class="oomh-diff">{columns}</div>{whole}'


def _where(row: FixRow, language: Language) -> str:
    """Where the lines are that are changed."""
    cell, line = row.plan.changed_cell, row.plan.changed_line
    key = "before" if line is None else "before_line" if cell is None else "before_cell"
    return say(f"diff.{key}", language, cell=cell, line=line)


def _compared(before: str, after: str) -> tuple[str, str]:
    """Both texts, with what is only in one of them marked; not by color alone."""
    words = [_WORD.findall(text) for text in (before, after)]
    old, new = [], []
    for kind, first, last, begin, end in difflib.SequenceMatcher(
        None, words[0], words[1], autojunk=False
    ).get_opcodes():
        gone, come = (escape("".join(part)) for part in (words[0][first:last], words[1][begin:end]))
        old.append(gone if kind == "equal" or not gone else f"<del>{gone}</del>")
        new.append(come if kind == "equal" or not come else f"<ins>{come}</ins>")
    return "".join(old), "".join(new)
