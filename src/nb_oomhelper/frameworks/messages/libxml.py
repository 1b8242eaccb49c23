"""libxml2, below lxml."""

from __future__ import annotations

from nb_oomhelper.frameworks._messages import Messages, Rule

MESSAGES = Messages(
    name="libxml",
    module="lxml",
    rules=(
        Rule("libxml.memory", "host", r"Memory allocation failed ?: "),
        Rule(
            "libxml.memory",
            "host",
            r"\bxml\w{2,40}: out of memory|\bout of memory error\b",
            kind=r"^lxml\.",
            known=True,
        ),
    ),
)
