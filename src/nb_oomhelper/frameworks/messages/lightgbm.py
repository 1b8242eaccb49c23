"""LightGBM: its trees on CUDA, on OpenCL, and on the host."""

from __future__ import annotations

from nb_oomhelper.frameworks._messages import Messages, Rule

_CLASS = r"^lightgbm\.|LightGBMError$"
MESSAGES = Messages(
    name="lightgbm",
    module="lightgbm",
    rules=(
        Rule("lightgbm.cuda", "cuda", r"\[CUDA\] (?:out of memory|memory allocation)"),
        # names of OpenCL's status codes, as Boost.Compute writes them
        Rule("lightgbm.host", "host", "Out of Host Memory"),
        Rule("lightgbm.opencl", "opencl", "Memory Object Allocation Failure"),
        Rule("lightgbm.resources", "opencl", "^Out of Resources", kind=_CLASS, known=True, probable=True),
        Rule("lightgbm.bad_alloc", "host", r"std::bad_alloc|bad allocation", kind=_CLASS, known=True),
    ),
)
