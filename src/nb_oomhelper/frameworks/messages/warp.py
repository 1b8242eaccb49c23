"""NVIDIA Warp: CUDA's words in its log, and then an error with the bytes."""

from __future__ import annotations

from nb_oomhelper.frameworks._messages import SIZE, Messages, Rule

MESSAGES = Messages(
    name="warp",
    module="warp",
    rules=(
        Rule("warp.cuda_error", "cuda", r"Warp CUDA error 2: out of memory"),
        Rule("warp.failed", "host", rf"Failed to allocate {SIZE} on device 'cpu'"),
        Rule("warp.failed", "cuda", rf"Failed to allocate {SIZE} on device '"),
    ),
    fields={"requested": rf"Failed to allocate ({SIZE})", "device": r"device 'cuda:(\d{1,4})'"},
)
