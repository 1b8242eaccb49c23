"""pandas: its own parser of CSV. Its arrays are NumPy's."""

from __future__ import annotations

from nb_oomhelper.frameworks._messages import Messages, Rule

MESSAGES = Messages(
    name="pandas",
    module="pandas",
    rules=(Rule("pandas.parser", "host", r"C error: out of memory"),),
)
