"""R inside this process (rpy2), and its logs; its Gb are 1024³ bytes."""

from __future__ import annotations

from nb_oomhelper.frameworks._messages import SIZE, Messages, Rule

MESSAGES = Messages(
    name="R",
    module="rpy2",
    rules=(Rule("r.vector", "host", r"(?i:cannot allocate vector of size) ?\d[\d.]{0,12} ?[KMGTP]b"),),
    fields={"requested": rf"vector of size ?((?i:{SIZE}))"},
)
