"""Ways to run out of memory, and machines to do it on; sizes are shares of the room that there is.

A situation's cells have `take(share)` for a tensor, `work(*shares, ask=…)` for a function that keeps tensors and then
asks for too much, and `ask(share)`, which notes the bytes of the request that is to fail.
"""

from __future__ import annotations

from dataclasses import dataclass, field

UUIDS = ("GPU-11111111-2222-3333-4444-555555555555", "GPU-66666666-2222-3333-4444-555555555555")

PREPARE = """
%load_ext nb_oomhelper
import gc, torch
import nb_oomhelper
from nb_oomhelper.memory.coming_back import coming_back
MIB = 1 << 20
def free():
    got = torch.cuda.mem_get_info()[0]
    part = torch.cuda.get_per_process_memory_fraction()
    most = int(part * torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory)
    return min(got, most - torch.cuda.memory_reserved()) if part < 1 else got
def size_of(share):
    return int(share * ROOM) // (2 * MIB) * 2 * MIB
def to_driver(snapshot, plan):
    if not plan.releases:
        return 0  # PyTorch keeps it, and gives it back when a request finds no room
    released = plan.released_holders
    return coming_back(snapshot, frozenset(), released, plan.predicted or 0, emptied=plan.releases).least
def take(share):
    return torch.empty(size_of(share), dtype=torch.uint8, device="cuda")
def small(mib):
    return torch.empty(mib * MIB, dtype=torch.uint8, device="cuda")
def ask(share=0.0, extra=0):
    global ASKED
    ASKED = size_of(share) + extra
    return torch.empty(ASKED, dtype=torch.uint8, device="cuda")
def work(*shares, share=0.0, extra=0):
    kept = [take(one) for one in shares]
    return ask(share, extra)
torch.empty(1, device="cuda")
torch.cuda.empty_cache(); gc.collect(); torch.cuda.empty_cache()
ROOM = free()
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A played machine.

    Attributes:
        scenario: Its lines, as `tests.nvml_stub` reads them.
        options: PyTorch's allocator settings.
        before: What is run before anything else.
        only: The situations that are tried on it; empty is all.
    """

    scenario: str
    options: str = ""
    before: str = ""
    only: frozenset[str] = field(default=frozenset())


def _gpu(capacity: str, *lines: str, uuid: str = UUIDS[0]) -> str:
    return "\n".join([f"gpu {uuid} {capacity} Played GPU", "context 300MiB", *lines, ""])


_SOME = frozenset({"frame", "exactly enough", "one page too much", "shared segments"})
_ROUNDED = frozenset({"frame", "two variables", "shared segments"})  # rounded up, the others are too large
_MORE = _SOME | {"too little", "odd sizes", "every other piece", "graph pool", "came free on the way"}

MACHINES: dict[str, Machine] = {
    "2 GiB": Machine(scenario=_gpu("2GiB")),
    "80 GiB": Machine(scenario=_gpu("80GiB"), only=_SOME - {"shared segments"}),
    "expandable segments": Machine(scenario=_gpu("2GiB"), options="expandable_segments:True"),
    "cudaMallocAsync": Machine(scenario=_gpu("2GiB"), options="backend:cudaMallocAsync", only=_MORE),
    "fraction 0.5": Machine(scenario=_gpu("4GiB"), options="per_process_memory_fraction:0.5", only=_MORE),
    "fraction 0.7, expandable segments": Machine(
        scenario=_gpu("3GiB"), options="per_process_memory_fraction:0.7,expandable_segments:True", only=_SOME
    ),
    "another process": Machine(scenario=_gpu("4GiB", "used 2GiB", "process 4711 2GiB"), only=_SOME),
    "second of two GPUs": Machine(
        scenario=_gpu("1GiB") + _gpu("2GiB", uuid=UUIDS[1]), before="import torch; torch.cuda.set_device(1)", only=_SOME
    ),
    "MIG": Machine(
        scenario=_gpu("8GiB", "mig MIG-33333333-2222-3333-4444-555555555555 2GiB Played MIG 1g", "context 300MiB"),
        only=_SOME,
    ),
    "no NVML": Machine(scenario=_gpu("2GiB", "error nvmlInitWithFlags 9", "error nvmlInit_v2 9"), only=_SOME),
    "max_split_size_mb 64": Machine(scenario=_gpu("2GiB"), options="max_split_size_mb:64", only=_SOME),
    "roundup_power2_divisions 4": Machine(scenario=_gpu("2GiB"), options="roundup_power2_divisions:4", only=_ROUNDED),
}

SITUATIONS: dict[str, tuple[str, ...]] = {
    "frame": ("work(0.6, share=0.5)",),
    "too little": ("kept = take(0.5)", "work(0.2, share=0.6)"),
    "two variables": ("first = take(0.4); second = take(0.3)", "ask(0.5)"),
    "exactly enough": ("kept = take(0.6)", "work(0.3, extra=free() // (2 * MIB) * 2 * MIB)"),
    "one page too much": ("kept = take(0.6)", "work(0.3, extra=free() // (2 * MIB) * 2 * MIB + 2 * MIB)"),
    "shared segments": (
        "kept = []\ndef step():\n    mine = []\n    for _ in range(int(0.7 * ROOM / (20 * MIB))):\n"
        "        kept.append(small(8)); mine.append(small(8))\n    ask(0.5)",
        "step()",
    ),
    "odd sizes": (
        "def odd():\n    mine = [torch.empty(10 * MIB + 700_000 + i, dtype=torch.uint8, device='cuda')"
        " for i in range(int(0.8 * ROOM / (12 * MIB)))]\n    ask(0.5)",
        "odd()",
    ),
    "many small": (
        "def many():\n    mine = [torch.empty(300_001, dtype=torch.uint8, device='cuda') for i in range(1500)]\n"
        "    big = take(0.5)\n    ask(0.6)",
        "many()",
    ),
    "every other piece": (
        "pieces = [small(30) for _ in range(int(0.8 * ROOM / (30 * MIB)))]; del pieces[::2]",
        "work(0.1, share=0.55)",
    ),
    "a large segment, in parts": (
        "whole = take(0.8); del whole; parts = [take(0.1) for _ in range(8)]; del parts[1::2]",
        "work(share=0.5)",
    ),
    "displayed results": ("take(0.6)", "ask(0.6)"),
    "a view": ("base = take(0.6); view = base[:8]; del base", "ask(0.6)"),
    "came free on the way": ("kept = take(0.5)", "take(0.3) + ask(0.25)"),
    "graph pool": (
        "graph = torch.cuda.CUDAGraph()\nwith torch.cuda.graph(graph):\n    a = take(0.3); b = a + 1\ndel a, b",
        "work(0.1, share=0.5)",
    ),
    "dead graph pool": (
        "graph = torch.cuda.CUDAGraph()\nwith torch.cuda.graph(graph):\n    a = take(0.3); b = a + 1\ndel a, b, graph",
        "work(0.3, share=0.9)",
    ),
    "pinned memory": ("pinned = torch.empty(200 * MIB, dtype=torch.uint8, pin_memory=True)", "work(0.5, share=0.6)"),
    "losses": (
        "weight = torch.empty(size_of(0.1) // 4, device='cuda', requires_grad=True)\nlosses = []; ASKED = size_of(0.1)",
        "for _ in range(50): losses.append((weight * weight).sin())",
    ),
    "gradients": (
        "model = torch.nn.Linear(1024, size_of(0.35) // 4096, bias=False, device='cuda')\n"
        "model.weight.grad = torch.empty_like(model.weight)\ndef predict(): ask(0.5)",
        "predict()",
    ),
    "caught before": ("try: work(0.4, share=0.7)\nexcept RuntimeError as error: saved = error", "work(0.3, share=0.5)"),
    "request of 5 MiB": (
        "kept = take(0.6); ASKED = 5 * MIB\ndef fill():\n    mine = [take(0.3)]\n    while True: mine.append(small(5))",
        "fill()",
    ),
}
