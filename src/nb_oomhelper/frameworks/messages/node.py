"""Node.js, which builds JupyterLab and its extensions: its heap has a limit of its own."""

from __future__ import annotations

from nb_oomhelper.frameworks._messages import Messages, Rule

MESSAGES = Messages(
    name="node",
    module="",
    rules=(
        Rule("node.heap", "host", "JavaScript heap out of memory", remote="command"),
        # V8's own, in a browser without a window, too
        Rule("node.v8", "host", r"Fatal ?[Pp]rocess ?(?:OOM\b|out of memory|OutOfMemory)", remote="command"),
    ),
)
