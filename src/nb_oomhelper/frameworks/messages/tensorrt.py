"""TensorRT, and Torch-TensorRT: what its allocator says."""

from __future__ import annotations

from nb_oomhelper.frameworks._messages import SIZE, Messages, Rule

MESSAGES = Messages(
    name="tensorrt",
    module="tensorrt",
    rules=(
        Rule("trt.requested", "cuda", r"Requested amount of GPU memory \("),
        Rule("trt.runtime", "cuda", r"Cuda Runtime \(out of memory\)"),
        Rule("trt.device", "cuda", r"OutOfMemory \((?:no further information|Requested)"),
        Rule("trt.build", "cuda", r"Error Code 2: OutOfMemory"),
        Rule("trt.allocator", "cuda", r"allocator error allocating \d{1,20}-byte"),
    ),
    fields={"requested": rf"allocating (\d{{1,20}})-byte|GPU memory \(({SIZE})\)|Requested size was ({SIZE})"},
)
