"""git, as a command of a cell: a large repository or file."""

from __future__ import annotations

from nb_oomhelper.frameworks._messages import SIZE, Messages, Rule

MESSAGES = Messages(
    name="git",
    module="",
    rules=(Rule("git.malloc", "host", r"fatal: Out of memory, \w{1,20} failed", remote="command"),),
    fields={"requested": rf"tried to allocate ({SIZE})"},
)
