"""llama.cpp, and what is built on it: llama-cpp-python, Ollama. Most of it is printed, and Python sees a ValueError."""

from __future__ import annotations

from nb_oomhelper.frameworks._messages import SIZE, Messages, Rule

MESSAGES = Messages(
    name="llama.cpp",
    module="llama_cpp",
    rules=(
        Rule("ollama.memory", "host", r"model requires more system memory", remote="server"),
        Rule(
            "ollama.word",
            "host",
            r"you may not have enough (?:available )?memory to run",
            probable=True,
            remote="server",
        ),
        Rule(
            "ollama.runner",
            "cuda",
            r"llama runner process has terminated: .{0,60}unable to allocate backend buffer",
            probable=True,
            remote="server",
        ),
        Rule(
            "ollama.runner",
            "cuda",
            r"llama runner process has terminated: (?=.{0,80}(?:cudaMalloc failed|out of memory|failed to allocate))",
            remote="server",
        ),
        Rule("ggml.aligned", "host", r"insufficient memory \(attempted to allocate"),
        Rule("ggml.host", "host", r"(?:failed|unable) to allocate \w{0,20}(?:CPU|Host)\w{0,12} buffer"),
        Rule("ggml.host", "host", r"ggml_backend_cpu_buffer_type_alloc_buffer: failed to allocate buffer"),
        Rule("ggml.pool", "host", r"not enough space in the (?:context|scratch)'?s? memory", probable=True),
        Rule("ggml.pinned", "host", r"failed to allocate [\d.]{1,12} MiB of pinned memory", "out of memory"),
        Rule("ggml.cudamalloc", "cuda", r"alloc_buffer: allocating [\d.]{1,12} MiB on device"),
        Rule("ggml.cuda", "cuda", r"ggml_cuda\w{0,40}: out of memory"),
        Rule("ggml.cudamalloc", "cuda", r"cudaMalloc failed: out of memory"),
        Rule("ggml.cuda", "cuda", r"CUDA error \d{1,4} at \S{0,200}ggml-cuda\S{0,40}: out of memory"),  # to 2023
        Rule("ggml.cuda", "cuda", r"CUDA error: out of memory", r"ggml|current device: \d"),
        Rule("ggml.buffer", "cuda", r"(?:failed|unable) to allocate CUDA\d{0,3}\w{0,12} buffer"),
        Rule("ggml.buffer", "hip", r"(?:failed|unable) to allocate ROCm\d{0,3}\w{0,12} buffer"),
        Rule(
            "ggml.vulkan", "vulkan", r"ggml_vulkan: (?:Device|Failed)", "(?i:memory allocation|out.?of.?device.?memory)"
        ),
        Rule("ggml.vulkan", "vulkan", r"ErrorOutOfDeviceMemory|VK_ERROR_OUT_OF_DEVICE_MEMORY"),
        Rule("ggml.buffer", "vulkan", r"(?:failed|unable) to allocate Vulkan\d{0,3}\w{0,12} buffer"),
        Rule("ggml.metal", "metal", r"ggml_\w{0,60}metal\w{0,60}: (?:error: )?failed to allocate"),
        Rule("ggml.buffer", "metal", r"(?:failed|unable) to allocate (?:Metal|MTL)\w{0,12} buffer"),
        # of whichever memory
        Rule("ggml.backend", "cuda", r"unable to allocate backend buffer", probable=True),
        Rule("ggml.assert", "host", r"GGML_ASSERT\b", r"^.{0,200}failed to allocate", probable=True),
        Rule("llamacpp.kv", "cuda", r"failed to allocate buffer for kv cache", probable=True),
        Rule("llamacpp.compute", "cuda", r"failed to allocate compute (?:\w{2} )?buffers", probable=True),
        # the cause has been printed, and is not in the error: a lack of memory is the most common one
        Rule("llamacpp.context", "cuda", r"Failed to create llama_context", probable=True),
    ),
    fields={
        "requested": (
            rf"(?:allocating|allocate|more system memory \() ?({SIZE})|buffer of size (\d{{1,20}})|size = +({SIZE})"
            r"|Device memory allocation of size (\d{1,20})|\(needed (\d{1,20}), available"
        ),
        "device": r"on device (\d{1,4})|(?:CUDA|ROCm|Vulkan)(\d{1,4})|current device: (\d{1,4})",
        "free": rf"than is available \(({SIZE})\)|\(needed \d{{1,20}}, available (\d{{1,20}})\)",
    },
)
