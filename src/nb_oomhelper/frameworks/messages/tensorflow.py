"""TensorFlow and Keras: on a GPU, and on the host (device:CPU)."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from math import prod

from nb_oomhelper.frameworks._messages import SIZE, Messages, Rule
from nb_oomhelper.records.event import OomEvent

_OOM = "(?:OOM|oom) when allocating tensor"
# The first place of these: nodes are printed after it, some of them on the other device.
_ON_HOST = r"^(?:(?!device:).){0,800}device:CPU:|^(?:(?!allocator ).){0,800}allocator (?:mkl)?cpu\b"
# shape[2,3] and type float; "of shape [2,3]"; the oldest "shapedim { size: 2 } dim { size: 3 }"
_SHAPE = re.compile(r"(?:with|of) shape ?(\[[\d, ]{0,300}\]|(?:dim \{ size: \d{1,15} \} ?){1,16})")
_DTYPE = re.compile(r"and type (\w{1,20})")
_ITEM = {"half": 2, "float": 4, "double": 8, "bool": 1, "qint8": 1, "quint8": 1, "qint32": 4}
_BITS = re.compile(r"(?:u?int|b?float|complex)(\d{1,3})")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Messages(Messages):
    """Shape and type are printed, and not the bytes that they come to."""

    def complete(self, event: OomEvent, window: str) -> OomEvent:
        """Multiply the shape by the size of the type.

        Args:
            event: As the patterns have read it.
            window: The message, on one line.
        """
        return event if event.requested is not None else replace(event, requested=_bytes(window))


def _bytes(text: str) -> int | None:
    """Length of the shape times the type's size; None where either is not printed, or cannot be."""
    shape, dtype = _SHAPE.search(text), _DTYPE.search(text)
    if shape is None or dtype is None:
        return None
    bits = _BITS.fullmatch(dtype[1])
    item = int(bits[1]) // 8 if bits else _ITEM.get(dtype[1])
    size = prod(int(length) for length in re.findall(r"\d{1,18}", shape[1])) * (item or 0)
    return size if 0 < size < 1 << 60 else None


MESSAGES = _Messages(
    name="tensorflow",
    module="tensorflow",
    rules=(
        Rule("tf.oom_tensor", "host", _OOM, _ON_HOST),
        Rule("tf.oom_tensor", "cuda", _OOM),
        Rule("tf.oom_op", "cuda", r"(?i:failed to allocate memory) \[Op:"),  # 2.5 on: an operation's result
        Rule("tf.oom_op", "cuda", r"(?i:failed to allocate memory)", kind=r"ResourceExhaustedError$", known=True),
        Rule("tf.recv", "cuda", "RecvDone unable to allocate output tensor"),
        Rule(
            "tf.implicit_init",
            "cuda",
            r"CUDA runtime implicit initialization on GPU:\d+ failed\. Status: out of memory",
        ),
        # what the allocator logs before the error, unless it says that nothing has failed
        Rule(
            "tf.bfc_log",
            "cuda",
            r"Allocator \(\w{1,60}\) ran out of memory trying to allocate",
            r"requested by op|Current allocation summary follows|\(rounded to \d",
            probable=True,
            without="not a failure",
        ),
        Rule(
            "tf.bfc_log", "cuda", r"bfc_allocator\.cc:\d{1,5}\] Ran out of memory trying to allocate", probable=True
        ),  # to 0.8
        # what is on the device, as RunOptions(report_tensor_allocations_upon_oom=True) prints it
        Rule("tf.report", "host", r"Current usage from device: \S{1,80} allocator: (?:mkl)?cpu\b"),
        Rule("tf.report", "cuda", r"Current usage from device: \S{1,80} allocator: \w{1,20}_bfc\b"),
        # The stream executor tries with less each time; what is as large as the one before was no such try.
        Rule(
            "tf.same_again",
            "cuda",
            r"failed to allocate \S{1,12} \((\d{1,20}) bytes\) from device: CUDA_ERROR_OUT_OF_MEMORY"
            r"(?=.{1,200}?failed to allocate \S{1,12} \(\1 bytes\) from device: CUDA_ERROR)",
            probable=True,
        ),
        # the CPU's memory was copied to a GPU that had no room for it; there is no word for memory
        # of a traceback that was cut before its message
        Rule("tf.class", "cuda", "^$", kind=r"\bResourceExhaustedError$", known=True, probable=True),
        Rule("tf.dst_not_initialized", "cuda", "(?:Dst|dst) tensor is not initialized", probable=True),
        Rule("tf.convolution", "cuda", "Failed to get convolution algorithm", probable=True),  # cuDNN found no room
    ),
    fields={
        "requested": rf"trying to allocate ({SIZE})|failed to allocate \S{{1,12}} \((\d{{1,20}} bytes)\) from device",
        "device": r"device:GPU:(\d{1,4})|on GPU:(\d{1,4})|Allocator \(GPU_(\d{1,4})",
    },
)
