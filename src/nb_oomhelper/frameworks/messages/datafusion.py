"""DataFusion, which LanceDB and delta-rs run on: a pool with a limit of its own on the host's memory."""

from __future__ import annotations

from nb_oomhelper.frameworks._messages import SIZE, Messages, Rule

MESSAGES = Messages(
    name="datafusion",
    module="datafusion",
    rules=(
        Rule("datafusion.pool", "host", rf"Failed to allocate additional {SIZE} for", "remain available for the total"),
    ),
    fields={
        "requested": rf"allocate additional ({SIZE})",
        "free": rf"- ({SIZE}) remain available",
    },
)
