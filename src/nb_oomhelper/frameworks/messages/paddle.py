"""PaddlePaddle: a RuntimeError or MemoryError whose text tells device, request and what is free."""

from __future__ import annotations

from nb_oomhelper.frameworks._messages import Messages, Rule

_SIZE = r"\d[\d.]{0,30} ?[KMGT]?i?B"
MESSAGES = Messages(
    name="paddle",
    module="paddle",
    rules=(
        Rule("paddle.gpu", "cuda", r"Out of memory error on GPU"),
        Rule("paddle.host", "host", r"Fail to alloc memory of \d{1,20} size"),
        Rule("paddle.enforce", "cuda", r"enforce allocating <= available failed"),  # to 1.3
    ),
    fields={
        "requested": rf"[Cc]annot allocate ({_SIZE})|alloc memory of (\d{{1,20}})|available failed, (\d{{1,20}})",
        "device": r"error on GPU (\d{1,4})",
        "free": rf"available memory is only ({_SIZE})|available failed, \d{{1,20}} > (\d{{1,20}})",
        "allocated": rf"({_SIZE}) memory has been allocated",
    },
)
