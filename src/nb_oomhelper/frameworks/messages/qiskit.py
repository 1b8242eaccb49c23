"""Qiskit's simulators, which refuse a circuit that needs more than there is."""

from __future__ import annotations

from nb_oomhelper.frameworks._messages import Messages, Rule

MESSAGES = Messages(
    name="qiskit",
    module="qiskit",
    rules=(Rule("qiskit.memory", "host", r"Insufficient memory (?:to run circuit|for \d{1,4}.qubit)"),),
    fields={
        "requested": r"Required memory: (\d{1,20}M)\b",
        "limit": r"max memory: (\d{1,20}M)\b",
    },
)
