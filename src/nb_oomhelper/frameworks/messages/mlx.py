"""MLX: Apple's GPUs, which share the machine's memory, and its back end for CUDA."""

from __future__ import annotations

from nb_oomhelper.frameworks._messages import SIZE, Messages, Rule

MESSAGES = Messages(
    name="mlx",
    module="mlx",
    rules=(
        Rule("mlx.buffer", "metal", r"Attempting to allocate \d{1,20} bytes which is greater than"),
        Rule("mlx.malloc", "metal", r"\[(?:metal::malloc|malloc_or_wait|malloc)\] Unable to allocate"),
        Rule("mlx.command", "metal", r"\[METAL\] Command buffer execution failed: Insufficient Memory"),
        Rule("mlx.command", "metal", r"Insufficient Memory \(IOAF code 8\)"),  # older
        Rule("mlx.resources", "metal", r"\[metal::malloc\] Resource limit", probable=True),  # of buffers, not of bytes
    ),
    fields={
        "requested": rf"to allocate ({SIZE})",
        "limit": rf"maximum allowed buffer size of ({SIZE})",
    },
)
