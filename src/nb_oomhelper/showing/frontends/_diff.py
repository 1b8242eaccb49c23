"""The code of a fix, and what it changes in the user's own, as HTML."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence

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
    """The lines that are changed, before and after, and those that are added, where all are few and short; else ""."""
    old, new = (text.strip("\n").split("\n") for text in (row.plan.before, row.plan.after))
    found = difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
    edits = [(old[a:b], new[c:d]) for kind, a, b, c, d in found if kind != "equal"]
    if not all(map(_is_short, edits)) or sum(len(come) for _, come in edits) > _FEW:
        return ""
    shown = (_changed_lines(gone, come) if gone else map(_added, come) for gone, come in edits)
    return "".join(f'<br><span class="oomh-diff-line">{line}</span>' for edit in shown for line in edit)


def _is_short(edit: tuple[Sequence[str], Sequence[str]]) -> bool:
    """Whether an edit can be shown in a line for each of its lines: none goes without one in its place."""
    gone, come = edit
    return len(gone) in (0, len(come)) and len("".join((*gone, *come))) <= _SHORT * len(come) and all((*gone, *come))


def _changed_lines(gone: Sequence[str], come: Sequence[str]) -> Iterator[str]:
    for old, new in zip(gone, come, strict=True):
        before, after = _compared(old.strip(), new.strip())
        yield f"<code>{before}</code> → <code>{after}</code>"


def _added(line: str) -> str:
    return f"<code>+ <ins>{escape(line.strip())}</ins></code>"


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
