"""CatBoost on a GPU, and on the host."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from nb_oomhelper.frameworks._messages import Messages, Rule
from nb_oomhelper.records.event import OomEvent
from nb_oomhelper.units import parse_bytes

_CLASS = r"^(?:_?catboost)\.|CatBoostError$"
_FIGURES = {
    "requested": re.compile(r"(?i:requested|need at least) (\d[\d.]{0,20})"),
    "free": re.compile(r"(?i:free) (\d[\d.]{0,20})|tree-ctrs: (\d[\d.]{0,20}) available"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Messages(Messages):
    """Its figures are in MB, which older versions do not write."""

    def complete(self, event: OomEvent, window: str) -> OomEvent:
        """Read them.

        Args:
            event: As the patterns have read it.
            window: The message, on one line.
        """
        if event.backend == "host":
            return event
        found = {name: pattern.search(window) for name, pattern in _FIGURES.items()}
        sizes = {
            name: parse_bytes(f"{next(filter(None, one.groups()))} MB") if one else None for name, one in found.items()
        }
        return replace(event, requested=sizes["requested"], free=sizes["free"])


MESSAGES = _Messages(
    name="catboost",
    module="_catboost",
    rules=(
        Rule("catboost.cuda", "cuda", r"stack_like_memory_pool\.h|TOutOfMemoryError", r"Out of memory\. Requested"),
        Rule("catboost.cuda", "cuda", r"(?i:out of memory\. requested) \d[\d.]{0,20} ?(?:MB)?; (?i:free) \d"),
        Rule("catboost.cuda", "cuda", r"(?i:out of memory)", kind=_CLASS, known=True),
        Rule("catboost.ctrs", "cuda", r"not enough memory for tree-ctrs: \d"),
        Rule("catboost.ctrs", "cuda", r"not enough memory for tree-ctrs", kind=_CLASS, known=True),
        Rule("catboost.host", "host", r"std::bad_alloc|bad allocation", kind=_CLASS, known=True),
    ),
)
