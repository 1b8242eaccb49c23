"""RAPIDS: RMM, which cuDF, cuML and others allocate with. It raises Python's own MemoryError."""

from __future__ import annotations

from nb_oomhelper.frameworks._messages import SIZE, Messages, Rule

MESSAGES = Messages(
    name="rmm",
    module="rmm",
    rules=(
        Rule("rmm.pinned", "host", r"std::bad_alloc: ", r"pinned\w{0,60}\.hpp.{0,20}: ?cudaErrorMemoryAllocation"),
        Rule("rmm.oom", "cuda", r"std::bad_alloc: (?:out_of_memory: )?CUDA error", "cudaErrorMemoryAllocation"),
        Rule(
            "rmm.pool_max", "cuda", "RMM failure at", r"Maximum pool size exceeded|Exceeded memory limit|out_of_memory"
        ),
        Rule("rmm.pool_max", "cuda", r"out_of_memory: RMM failure"),
        Rule("rmm.pool_max", "cuda", r"(?:Maximum pool size exceeded|Exceeded memory limit) \(failed to allocate"),
        Rule("rmm.oom", "cuda", r"out_of_memory: CUDA error|bad_alloc: out_of_memory"),
        Rule("rmm.cut", "cuda", r"std::bad_alloc: CUDA error at: ?\S{1,300}$", probable=True),
        Rule("rmm.oom", "cuda", r"\bRMM_ERROR_OUT_OF_MEMORY\b"),  # before 0.12
        Rule("rapids.error", "cuda", r"CUDA error encountered at", "cudaErrorMemoryAllocation"),  # cuDF, RAFT, cuML
        # Thrust's own words: an extension that was built for another GPU brings them as well
        Rule("thrust.bad_alloc", "cuda", r"(?:std::)?bad_alloc: cudaErrorMemoryAllocation", probable=True),
        Rule("thrust.bad_alloc", "cuda", r"failed(?: to \w{1,20})?: cudaErrorMemoryAllocation", probable=True),
        Rule("thrust.bad_alloc", "cuda", r"'thrust::system::detail::bad_alloc'", probable=True),
        Rule("thrust.failed", "cuda", r"'thrust::system::system_error'", r"^.{0,300}?\bout of memory"),
        Rule("thrust.bad_alloc", "cuda", "get_temporary_buffer failed"),
        Rule(
            "thrust.failed",
            "cuda",
            r"\b(?:parallel_for|(?:trivial|uninitialized|device)_\w{3,30}|\w{3,20}_(?:by_key|sort|scan|if)"
            r"|for_each|reduce|transform|unique|copy)(?: \w->\w)?:? failed: out of memory",
        ),
    ),
    fields={"requested": rf"failed to allocate ({SIZE})|Attempted to allocate: ({SIZE})"},
)
