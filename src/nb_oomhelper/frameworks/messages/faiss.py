"""Faiss on a GPU; what it allocates on the host, it asks C++ for."""

from __future__ import annotations

from nb_oomhelper.frameworks._messages import SIZE, Messages, Rule

MESSAGES = Messages(
    name="faiss",
    module="faiss",
    rules=(
        Rule("faiss.alloc", "cuda", r"StandardGpuResources: alloc fail", ""),
        Rule("faiss.malloc", "host", r"[Ff]ailed to cuda(?:HostAlloc|MallocHost) \d{1,20} bytes"),
        Rule("faiss.malloc", "cuda", r"[Ff]ailed to cuda\w{1,30} \d{1,20} bytes"),
        Rule("faiss.assert", "cuda", r"Faiss assertion", r"CUDA error 2 out of memory"),
        Rule("faiss.assert", "cuda", r"faiss::gpu::", r"CUDA error 2 out of memory"),
    ),
    fields={
        "requested": rf" size ({SIZE})|ailed to cuda\w{{1,30}} ({SIZE})",
        "device": r" dev (\d{1,4}) |bytes on device (\d{1,4})",
    },
)
