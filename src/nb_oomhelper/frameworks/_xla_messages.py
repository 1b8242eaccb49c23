"""XLA's out-of-memory messages, which JAX, TensorFlow and torch_xla bring: on GPUs, TPUs and the host.

The error's class says who brought one. A lack of memory has the status RESOURCE_EXHAUSTED, and so has a quota:
the status alone says nothing.
"""

from __future__ import annotations

import re
from dataclasses import replace

from nb_oomhelper.frameworks._messages import SIZE, Rule, read_message
from nb_oomhelper.records.event import OomEvent

_EXHAUSTED = r"(?:RESOURCE_EXHAUSTED|Resource exhausted|ResourceExhausted): "
_JAX = r"(?:jax|jaxlib)\.|(?:Jax|Xla)RuntimeError$"
_TENSORFLOW = r"^tensorflow\.|ResourceExhaustedError$"
_OTHERS = r"^(?:RuntimeError|ValueError)$|" + _JAX + "|" + _TENSORFLOW
_REFUSED = r"Out of memory allocating \d+ bytes"
_SHORT = r"\d[\d.]{0,20} ?[KMGTPE]?(?:i?B)?\b"  # of the compiler for TPUs: "21.90G", "320.0K"

RULES = (
    # xla/pjrt/cpu: JAX on the CPU
    Rule("jax.host", "host", _EXHAUSTED, _REFUSED, kind=_OTHERS),
    # the same where one computation waits for another's result: only the text within says what happened
    Rule("jax.host", "host", r"INTERNAL: Error dispatching computation: ", _REFUSED, kind=_OTHERS),
    # bfc_allocator and the compiler's own check, which says the same of what a whole program needs
    Rule("jax.exhausted", "cuda", _EXHAUSTED, rf"[Oo]ut of memory (?:while )?trying to allocate {SIZE}", kind=_OTHERS),
    Rule("jax.failed_request", "cuda", _EXHAUSTED, rf"Failed to allocate request for {SIZE}", kind=_OTHERS),
    Rule("jax.tpu_hbm", "tpu", _EXHAUSTED, "Ran out of memory in memory space hbm", kind=_OTHERS),
    Rule("jax.tpu_hbm", "tpu", "Ran out of memory in memory space hbm", r"^[^:]{0,60} Used \d"),  # TPUEstimator's words
    Rule("jax.tpu_hbm", "tpu", "Ran out of memory in memory space hbm", probable=True),
    Rule("jax.tpu_hbm", "tpu", _EXHAUSTED, r"Hbm usage: .{1,200} exceeding available bytes", kind=_OTHERS),
    Rule("jax.tpu_reserve", "tpu", _EXHAUSTED, r"Attempting to (?:reserve|allocate) .{1,80} That was not possible"),
    Rule("jax.tpu_reserve", "tpu", r"Attempting to (?:reserve|allocate) ", "That was not possible. There are"),
    Rule(
        "jax.tpu_size",
        "tpu",
        r"Allocation \(size=\d{1,20}\) would exceed memory \(size=",
        without=r"(?:vmem|smem|sflag)",
    ),
    Rule("jax.tpu_early", "tpu", _EXHAUSTED, "unlikely to have enough memory", kind=_OTHERS),
    Rule("jax.tpu_early", "tpu", r"Aborting compilation early because it's unlikely to have enough memory"),
    # a core's scratch memory: a limit of the compiler's, which freeing nothing helps
    Rule("xla.tpu_vmem", "tpu", _EXHAUSTED, r"Ran out of memory in memory space \w+", probable=True, kind=_OTHERS),
    Rule("xla.tpu_vmem", "tpu", r"Allocation \(size=\d{1,20}\) would exceed memory \(size=", probable=True),
    # xla/service/gpu: a constant that a compiled function brings along
    Rule("jax.internal_constant", "cuda", r"Failed to allocate \d{1,20} bytes for new constant", kind=_OTHERS),
    Rule("tf.xla", "cuda", rf"Out of memory while trying to allocate {SIZE}", kind=_TENSORFLOW, known=True),
    # NCCL had no room and does not say so; another reason would be told after the sentence
    Rule(
        "jax.nccl_hidden", "cuda", r"NCCL operation \w{1,40}\(.{0,200}?\) failed: unhandled cuda error", "out of memory"
    ),
    Rule(
        "jax.nccl_hidden",
        "cuda",
        r"NCCL operation \w{1,40}\(.{0,200}?\) failed: unhandled cuda error",
        probable=True,
        without="Cuda failure|invalid|illegal|not (?:found|supported)",
    ),
)
FIELDS = {
    "requested": (
        rf"\((\d{{1,20}}B)\)|(?:allocating|allocate) ({SIZE})|Failed to allocate (\d{{1,20}}) bytes"
        rf"|Requires ({_SHORT}), has|Used ({_SHORT}) of"
        rf"|TensorCore Hbm usage: ({_SHORT})|to (?:reserve|allocate) ({_SHORT})"
        r"|Allocation \(size=(\d{1,20})"
    ),
    "device": r"on device ordinal (\d{1,4})",
    "capacity": rf"Used {_SHORT} of ({_SHORT})|exceeding available bytes: ({_SHORT})|exceed memory \(size=(\d{{1,20}})",
    "free": rf"There are ({_SHORT}) free|, has ({_SHORT}) available",
    "program": rf"total allocation: ({SIZE})",  # what the compiled function needs in all
    "arguments": rf"parameter allocation: ({SIZE})",
    "temporaries": rf"preallocated temp allocation: ({SIZE})",
}


def recognize(text: str, exception_type: str) -> OomEvent | None:
    """Read a message of XLA's; None where it is another text.

    Args:
        text: The error's own.
        exception_type: Its class, as a traceback prints it.
    """
    found = read_message(_name(exception_type), RULES, FIELDS, text, exception_type)
    if found is None:
        return None
    match, event = found
    # a core's scratch memory is not the device's
    return replace(event, capacity=None) if match.rule.format == "xla.tpu_vmem" else event


def _name(exception_type: str) -> str:
    """Who brought it; a class of Python's own tells nobody."""
    if not exception_type or re.search(_JAX, exception_type):
        return "jax"
    return "tensorflow" if re.search(_TENSORFLOW, exception_type) else "xla"
