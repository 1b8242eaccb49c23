"""Arrow, which pandas and others keep texts and tables in."""

from __future__ import annotations

from nb_oomhelper.frameworks._messages import Messages, Rule

MESSAGES = Messages(
    name="pyarrow",
    module="pyarrow",
    rules=(
        Rule("arrow.malloc", "host", r"\b(?:m|re|c)alloc of size \d{1,20} failed"),
        Rule("arrow.malloc", "host", "^", kind=r"^pyarrow\.(?:\w{1,20}\.){0,3}ArrowMemoryError$", known=True),
    ),
    fields={"requested": r"alloc of size (\d{1,20})"},
)
