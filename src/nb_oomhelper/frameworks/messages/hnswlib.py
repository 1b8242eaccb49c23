"""hnswlib, and what is built on it: Chroma and other stores of vectors."""

from __future__ import annotations

from nb_oomhelper.frameworks._messages import Messages, Rule

MESSAGES = Messages(
    name="hnswlib",
    module="hnswlib",
    rules=(Rule("hnswlib.memory", "host", r"Not enough memory: \w{1,40} failed to allocate"),),
)
