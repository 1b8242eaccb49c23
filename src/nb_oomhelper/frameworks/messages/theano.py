"""Theano and its pygpu."""

from __future__ import annotations

from nb_oomhelper.frameworks._messages import SIZE, Messages, Rule

MESSAGES = Messages(
    name="theano",
    module="pygpu",
    rules=(
        Rule("theano.alloc", "cuda", r"Error allocating \d{1,20} bytes of device memory"),
        Rule("theano.array", "cuda", r"(?i:out of memory)", kind=r"GpuArrayException$", known=True),
        Rule("theano.array", "cuda", r"GpuArrayException: (?:b')?[Oo]ut of memory"),
    ),
    fields={"requested": rf"allocating ({SIZE})"},
)
