"""bitsandbytes: one sentence for every error of CUDA's, which mostly ends the process."""

from __future__ import annotations

from nb_oomhelper.frameworks._messages import Messages, Rule

MESSAGES = Messages(
    name="pytorch",  # whose memory it is about
    module="bitsandbytes",
    rules=(Rule("bnb.error_line", "cuda", r"Error out of memory at line \d+ in file"),),
)
