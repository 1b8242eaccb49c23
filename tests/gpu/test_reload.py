"""A load that does not fit on a real CUDA device of which PyTorch may use little, cured by one click.

Nothing here runs without a device. The bytes that are compared are the plan's, ours, and PyTorch's own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import StartKernel
from tests.kernel.cells import LOAD
from tests.kernel.driver import Kernel

pytestmark = pytest.mark.gpu

MIB = 1 << 20
CASE = "get_ipython()._nb_oomhelper.case"
MAKE = """
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM
sizes = dict(hidden_size=1024, intermediate_size=4096, num_hidden_layers=16, num_attention_heads=16)
config = LlamaConfig(**sizes, vocab_size=8000)
LlamaForCausalLM(config).save_pretrained(FOLDER, max_shard_size="1GB")
"""
FAIL = """model = AutoModelForCausalLM.from_pretrained(
    FOLDER,  # ours
    dtype=torch.float32,
).to("cuda")"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of some 1.1 GiB in float32; skipped where PyTorch finds no device, which creates no context."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    folder = tmp_path_factory.mktemp("model")
    exec(MAKE, {"FOLDER": str(folder)})
    return folder


@pytest.fixture
def kernel(folder: Path, start_kernel: StartKernel, allowed: int) -> Iterator[Kernel]:
    """A kernel whose load has failed: its PyTorch may use `allowed` bytes of the card."""
    with start_kernel() as kernel:
        for cell in (
            LOAD,
            f"FOLDER = {str(folder)!r}\nimport torch\nfrom transformers import AutoModelForCausalLM",
            f"whole = torch.cuda.get_device_properties(0).total_memory\n"
            f"torch.cuda.set_per_process_memory_fraction({allowed} / whole, 0)",
        ):
            assert kernel.execute(cell).status == "ok"
        reply = kernel.execute(FAIL)
        assert reply.status == "error"
        assert "OutOfMemoryError" in reply.ename
        yield kernel


def run(kernel: Kernel, fix: str) -> dict[str, int]:
    """Run a fix; the plan's and the measured bytes on the GPU, in host memory and on disk."""
    number = kernel.eval(f"next(one.number for one in {CASE}.plans if one.fix == {fix!r})")
    told = kernel.execute(f"%oom fix {number} --yes")
    assert told.status == "ok", told.evalue
    found = kernel.eval(
        f"__import__('json').dumps({{side: [getattr(getattr({CASE}.outcomes[-1], side), place)"
        f" for place in ('gpu', 'host', 'disk')] for side in ('planned', 'placed')}})"
    )
    sides = json.loads(found)
    assert kernel.eval(f"{CASE}.outcomes[-1].loaded"), told.stdout
    return {f"{side} {place}": size for side, sizes in sides.items() for place, size in zip("ghd", sizes, strict=True)}


def close(one: int, other: int) -> bool:
    return abs(one - other) <= 0.05 * max(one, other, 1)


# Disk is another way than host memory alone only where 16 bits do not fit on the card.
@pytest.mark.parametrize(
    ("fix", "allowed"), [("reload-half", 900 * MIB), ("reload-spread", 900 * MIB), ("reload-offload", 700 * MIB)]
)
def test_what_was_planned_is_what_is_measured(kernel: Kernel, fix: str) -> None:
    fixes = kernel.eval(f"[one.fix for one in {CASE}.plans]")
    assert "clear-then-reload" not in fixes  # 1.1 GiB do not fit
    found = run(kernel, fix)
    for place in "ghd":
        assert close(found[f"planned {place}"], found[f"placed {place}"]), found
    assert found["placed g"] > 300 * MIB
    allocated = kernel.eval("torch.cuda.memory_allocated()")
    assert close(allocated, found["placed g"])
    code = (
        "with torch.inference_mode():\n    out = model(torch.tensor([[1, 2, 3]], device='cuda'))\nout.logits.shape[-1]"
    )
    assert kernel.execute(code).status == "ok"
    assert kernel.eval("out.logits.shape[-1]") == 8000
