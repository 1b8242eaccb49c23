"""CTranslate2, which faster-whisper runs on."""

from __future__ import annotations

from nb_oomhelper.frameworks._messages import Messages, Rule

MESSAGES = Messages(
    name="ctranslate2",
    module="ctranslate2",
    rules=(
        Rule("ct2.cuda_failed", "cuda", r"CUDA failed with error (?:out of memory|cudaErrorMemoryAllocation)"),
        Rule("ct2.library", "cuda", r"cu(?:BLAS|DNN) failed with status CU\w{1,8}_STATUS_ALLOC_FAILED", probable=True),
    ),
)
