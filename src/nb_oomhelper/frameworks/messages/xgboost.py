"""XGBoost on a GPU, and on the host."""

from __future__ import annotations

from nb_oomhelper.frameworks._messages import SIZE, Messages, Rule

_NUMBER = rf"({SIZE}|\d{{1,20}})"
MESSAGES = Messages(
    name="xgboost",
    module="xgboost",
    rules=(
        Rule("xgb.mem_alloc", "cuda", r"Memory allocation error on worker \d+"),
        Rule("xgb.cuda", "cuda", r"cudaErrorMemoryAllocation|out of memory", kind=r"^xgboost\.", known=True),
        Rule(
            "xgb.host",
            "host",
            r"std::bad_alloc|bad allocation|bad_malloc|Unable to allocate",
            kind=r"^xgboost\.",
            known=True,
        ),
    ),
    fields={
        "free": rf"Free memory: {_NUMBER}",
        "requested": rf"Requested memory: {_NUMBER}|bad_malloc: Failed to allocate {_NUMBER}",
    },
)
