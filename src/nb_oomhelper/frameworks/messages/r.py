"""R inside this process (rpy2), and its logs; its Gb are 1024³ bytes."""

from __future__ import annotations

from nb_oomhelper.frameworks._messages import SIZE, Messages, Rule

MESSAGES = Messages(
    name="R",
    module="rpy2",
    rules=(
        Rule("r.vector", "host", r"(?i:cannot allocate vector of size) ?\d[\d.]{0,12} ?[KMGTP]b"),
        Rule("r.block", "host", r"cannot allocate memory block of size \d[\d.]{0,20} ?[KMGTP]b"),
        # its own limit: on macOS the size of the machine's memory, where nothing else is set
        Rule("r.limit", "host", r"\b(?:vector )?memory exhausted \(limit reached\?\)"),
        Rule("r.limit", "host", r"vector memory limit of \d[\d.]{0,12} ?[KMGTP]b reached"),
    ),
    fields={
        "requested": rf"(?:vector|memory block) of size ?((?i:{SIZE}))",
        "limit": rf"memory limit of ((?i:{SIZE})) reached",
    },
)
