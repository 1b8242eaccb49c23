"""CUDA.jl inside this process (juliacall), and its logs."""

from __future__ import annotations

from nb_oomhelper.frameworks._messages import SIZE, Messages, Rule

MESSAGES = Messages(
    name="CUDA.jl",
    module="juliacall",
    rules=(
        Rule("julia.gpu", "cuda", r"Out of GPU memory(?: trying to allocate \d| Effective GPU memory usage)"),
        Rule("julia.gpu", "cuda", r"ERROR: (?:\w{1,20}: )?Out of GPU memory\b"),
    ),
    fields={
        "requested": rf"trying to allocate ({SIZE})",
        "capacity": rf"Effective GPU memory usage: [\d.]{{1,8}}% \({SIZE}/({SIZE})\)",
        "allocated": rf"Memory pool usage: ({SIZE})",
        "reserved": rf"Memory pool usage: {SIZE} \(({SIZE}) reserved\)",
    },
)
