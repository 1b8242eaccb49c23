"""Solvers below Python that allocate in C: Gurobi, CPLEX, CHOLMOD, UMFPACK."""

from __future__ import annotations

from nb_oomhelper.frameworks._messages import Messages, Rule

MESSAGES = Messages(
    name="solver",
    module="gurobipy",
    rules=(
        Rule("solver.gurobi", "host", "^Out of memory", kind=r"GurobiError$", known=True),
        Rule("solver.gurobi", "host", r"Solve interrupted \(error code 10001\)"),
        Rule("solver.cplex", "host", r"CPLEX Error {1,4}1001\b"),
        Rule("solver.cholmod", "host", "^", kind=r"\bCholmodOutOfMemoryError$", known=True),
        Rule("solver.umfpack", "host", "UMFPACK_ERROR_out_of_memory"),
    ),
)
