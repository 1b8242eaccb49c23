"""CUDA itself, whoever called it: the driver's and the runtime's own words, and those of CUDA's libraries.

Programs without rules of their own quote them, each with a frame of words of its own.
"""

from __future__ import annotations

from nb_oomhelper.frameworks._messages import SIZE, Messages, Rule

# After the word error: "(2): out of memory", "in f(x): out of memory", "at file:1: out of memory"
_REFUSED = r"^[^:]{0,30}[ :=(\d'\"-]{1,8}[Oo]ut of memory|^.{0,200}?[:(-] ?['\"]?[Oo]ut of memory"
_ARGUMENTS = r"(?:\((?:[^()]|\(\)){0,200}\))?"  # of a call, which may have calls without any among them

MESSAGES = Messages(
    name="cuda",
    module="cuda",
    rules=(
        # the stream executor of TensorFlow and XLA, in its log
        Rule("cuda.pinned_log", "host", r"failed to alloc(?:ate)? \d{1,20} bytes on host", probable=True),
        Rule("cuda.pinned_log", "host", r"could not allocate pinned host memory", probable=True),
        Rule("cuda.pinned", "host", r"\bcu\w{2,40}Host\w{0,20}\b", "(?i:out.?of.?memory|MemoryAllocation)"),
        # The stream executor of TensorFlow and XLA logs "from device: …", and tries with less.
        Rule(
            "cuda.driver",
            "cuda",
            r"(?<!from device: )(?<!on host: )CUDA_ERROR_OUT_OF_MEMORY",
        ),
        Rule("cuda.driver", "cuda", "CUDA_ERROR_OUT_OF_MEMORY", kind=".", known=True),
        Rule("cuda.error", "cuda", r"(?i:\bcuda(?: (?:runtime|driver|api)){0,2}(?: error\b| failure|:))", _REFUSED),
        Rule("cuda.call", "cuda", rf"\bcu\w{{3,60}}{_ARGUMENTS} (?:retry )?(?:failed|error)", r"out of memory"),
        Rule("cuda.call", "cuda", r"CUDA call \(", r"^.{0,400}?failed with error: ?['\"]?out of memory"),  # OptiX's
        Rule("cuda.success", "cuda", r"== ?cudaSuccess\b", r"^.{0,200}?\bout of memory"),
        Rule("cuda.runtime", "cuda", "cudaErrorMemoryAllocation", probable=True),
        # NNabla, with the functions that it has run
        Rule("cuda.word", "cuda", r"Failed to allocate again\.", r"^.{0,400}Cuda\b", probable=True),
        Rule(
            "cuda.word",
            "cuda",
            r"GPU out of memory|on device was unsuccessful, probably due to a lack of memory"
            r"|GPU memory is overflow|GPUassert: out of memory|System is out of GPU (?:and shared host )?memory"
            r"|ran out of (?:GPU|CUDA|device) memory|CUDA ran out of memory"
            r"|(?<!s with )(?:[Nn]ot? enough|[Ii]nsufficient)"  # a GPU with too little is an advice
            r" (?:VRAM|(?:GPU|gpu|CUDA|video) (?:memory|RAM))\b",
            probable=True,
        ),
        Rule("hip.runtime", "hip", r"hipError(?:OutOfMemory|MemoryAllocation)"),
        Rule(
            "cuda.library",
            "cuda",
            r"CU(?:BLAS|DNN|SPARSE|SOLVER|RAND)_STATUS_ALLOC(?:ATION)?_FAILED|CUFFT_ALLOC_FAILED"
            r"|CUSPARSE_STATUS_INSUFFICIENT_RESOURCES|create cu\w{3,12} handle: the resource allocation failed",
            probable=True,
            without="device-side assert",
        ),
    ),
    fields={"requested": rf"memory \(({SIZE})\)|alloc(?:ate|ating)? ({SIZE})|host memory of size: (\d{{1,20}})"},
)
