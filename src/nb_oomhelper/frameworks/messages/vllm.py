"""vLLM, SGLang, LMDeploy and text-generation-inference: an engine that asks for a share of the GPU when it starts.

Two of vLLM's errors are opposite: "no cache blocks" and "KV cache is needed" mean that its share is too small, "free
memory on startup" that it asks for a larger one than is free.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from nb_oomhelper.frameworks._messages import SIZE, Messages, Rule
from nb_oomhelper.records.event import OomEvent
from nb_oomhelper.units import parse_bytes

_FREE = re.compile(r"Free memory on device (?:\S{1,40} )?\(([\d.]{1,12})/[\d.]{1,12} ([KMGT]i?B)\)")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Messages(Messages):
    """What is free is printed before the unit, which stands after the capacity."""

    def complete(self, event: OomEvent, window: str) -> OomEvent:
        """Read what was free.

        Args:
            event: As the patterns have read it.
            window: The message, on one line.
        """
        free = _FREE.search(window)
        return event if free is None else replace(event, free=parse_bytes(f"{free[1]} {free[2]}"))


MESSAGES = _Messages(
    name="vllm",
    module="vllm",
    rules=(
        Rule("vllm.free_at_startup", "cuda", "Free memory on device", "less than desired GPU memory utilization"),
        Rule("vllm.kv_needed", "cuda", r"max seq len \(\d+\)", "is needed, which is larger than the available KV cach"),
        Rule("vllm.kv_needed", "cuda", r"\b[\d.]{1,12} GiB KV cache is needed", "which is larger than"),
        Rule("vllm.kv_tokens", "cuda", r"max seq len \(\d+\)", "tokens that can be stored in (?:the )?KV cache"),
        Rule("vllm.no_cache_blocks", "cuda", "No available memory for the cache blocks"),
        Rule("vllm.warm_up", "cuda", "CUDA out of memory occurred when warming up"),
        Rule("sglang.static", "cuda", r"Not enough memory\. Please try (?:to )?increas(?:e|ing) --mem-fraction-static"),
        Rule("tgi.warm_up", "cuda", r"Not enough memory to handle \d{1,12} (?:total|prefill) tokens"),
        # the engine's own process has failed: its error stands above in the output, if anywhere
        Rule(
            "vllm.engine_core",
            "cuda",
            r"Engine core initialization failed|Engine process failed to start",
            probable=True,
            remote="other",
        ),
    ),
    fields={
        "requested": rf"\(?({SIZE}) (?:GiB )?KV cach ?e is needed|utilization \([\d.]{{1,8}}, ({SIZE})\)",
        "capacity": rf"Free memory on device (?:\S{{1,40}} )?\([\d.]{{1,12}}/({SIZE})\)",
        "free": rf"available KV cache memory \(({SIZE})\)",
        "device": r"device cuda:(\d{1,4})",
    },
)
