"""ONNX Runtime: its arena, which says the same of a GPU's memory and of the host's, and calls of CUDA's and HIP's."""

from __future__ import annotations

from nb_oomhelper.frameworks._messages import Messages, Rule

_PINNED = r"cuda(?:Host|MallocHost)|CUDA_PINNED|CudaPinned"
_ON_HOST = r"for Cpu\b|BFCArena for Cpu|CPUExecutionProvider|CPUAllocator"
_ARENA = r"Failed to allocate memory for requested buffer of size"
_CUT = r"onnxruntime::BFCArena::AllocateRawInternal(?:\([^()]{0,200}\))? Failed to alloc(?!ate memory for requested)"
_FULL = r"Available memory of \d+ is smaller than requested bytes of"
_CLASS = r"^onnxruntime\."
MESSAGES = Messages(
    name="onnxruntime",
    module="onnxruntime",
    rules=(
        Rule("ort.bfc", "host", rf"_nchwc['\"]? Status Message: .{{0,200}}?{_ARENA}"),  # a layout that only the CPU has
        Rule("ort.bfc", "host", _ARENA, _ON_HOST),
        Rule("ort.bfc", "cuda", _ARENA),
        Rule("ort.bfc", "cuda", _CUT),
        Rule("ort.bfc_limit", "host", _FULL, _ON_HOST),
        Rule("ort.bfc_limit", "cuda", _FULL),  # gpu_mem_limit
        Rule("ort.cuda", "host", r"CUDA failure 2: out of memory", _PINNED),
        Rule("ort.cuda", "cuda", r"CUDA failure 2: out of memory"),
        Rule("ort.hip", "hip", r"HIP failure 2: out of memory"),
        Rule("ort.library", "cuda", r"CU(?:DNN|BLAS) failure \d+: CU(?:DNN|BLAS)_STATUS_ALLOC_FAILED", probable=True),
        Rule("ort.directml", "directml", r"\b8007000E\b"),  # E_OUTOFMEMORY
        Rule("ort.host", "host", r"std::bad_alloc|bad allocation", kind=_CLASS, known=True),
    ),
    fields={
        "requested": r"requested buffer of size (\d{1,20})|requested bytes of (\d{1,20})",
        "free": r"Available memory of (\d{1,20})",
        "device": r"GPU=(\d{1,4})",
    },
)
