"""PyCUDA: a MemoryError of its own, with the name of the driver's function."""

from __future__ import annotations

from nb_oomhelper.frameworks._messages import Messages, Rule

_CLASS = r"^pycuda\."
MESSAGES = Messages(
    name="pycuda",
    module="pycuda",
    rules=(
        Rule("pycuda.memory", "host", r"\bcu\w{1,40}Host\w{0,30} failed: out of memory"),
        Rule("pycuda.memory", "cuda", r"\bcu[A-Z]\w{1,60} failed: out of memory"),
        Rule("pycuda.memory", "cuda", "^", kind=r"^pycuda\..{0,40}MemoryError$", known=True),
        Rule("pycuda.memory", "cuda", "out of memory", kind=_CLASS, known=True),
    ),
)
