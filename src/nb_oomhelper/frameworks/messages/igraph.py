"""igraph."""

from __future__ import annotations

from nb_oomhelper.frameworks._messages import Messages, Rule

MESSAGES = Messages(
    name="igraph",
    module="igraph",
    rules=(
        Rule("igraph.memory", "host", r"Error at \S{1,200}: .{0,200}?-- Out of memory"),
        Rule("igraph.memory", "host", r"igraph\b.{0,200}?[:,] Out of memory\b"),
    ),
)
