"""Numba: a call of the driver's, by name. That of pinned memory is about the host's."""

from __future__ import annotations

from nb_oomhelper.frameworks._messages import Messages, Rule

MESSAGES = Messages(
    name="numba",
    module="numba",
    rules=(
        Rule(
            "numba.cuapi", "host", r"Call to cu\w{1,40}Host\w{0,30} results in (?:\w{1,20}\.)?CUDA_ERROR_OUT_OF_MEMORY"
        ),
        Rule("numba.cuapi", "cuda", r"Call to cu\w{1,60} results in (?:\w{1,20}\.)?CUDA_ERROR_OUT_OF_MEMORY"),
    ),
)
