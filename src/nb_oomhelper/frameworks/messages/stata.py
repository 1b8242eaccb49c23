"""Stata, and Mata inside it: a command or an engine of its own."""

from __future__ import annotations

from nb_oomhelper.frameworks._messages import Messages, Rule

MESSAGES = Messages(
    name="stata",
    module="pystata",
    rules=(
        Rule("stata.mata", "host", r"3900 +unable to allocate\b", remote="other"),
        Rule("stata.memory", "host", r"op\. sys\. refuses to provide memory\b", remote="other"),
    ),
)
