"""CatBoost on a GPU, and on the host."""

from __future__ import annotations

from nb_oomhelper.frameworks._messages import Messages, Rule

_CLASS = r"^(?:_?catboost)\.|CatBoostError$"
MESSAGES = Messages(
    name="catboost",
    module="_catboost",
    rules=(
        Rule("catboost.cuda", "cuda", r"(?i:out of memory)", kind=_CLASS, known=True),
        Rule("catboost.host", "host", r"std::bad_alloc|bad allocation", kind=_CLASS, known=True),
    ),
)
