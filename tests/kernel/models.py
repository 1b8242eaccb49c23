"""A model on disk to load and to run out of memory with: a random Llama in float32, in several files.

Its weights are random, so nothing is fetched. It is made in a process of its own: torch and transformers take memory
that the tests' process need not keep.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, missing

SYNC = {"HF_DEACTIVATE_ASYNC_LOAD": "1"}  # transformers 5: one tensor after another, no threads
SIZE = 650 << 20  # bytes of its weights, about; as float64 twice that, as bfloat16 half


def need_models() -> None:
    """Skip the test where what loads models is not installed."""
    needed = ("torch", "transformers", "accelerate", "safetensors")
    absent = [name for name in needed if importlib.util.find_spec(name) is None]
    if absent:
        missing(f"{', '.join(absent)} not installed")


def make_llama(factory: pytest.TempPathFactory, config: pytest.Config) -> Path:
    """Return the folder of the model; it is made once a test session and is deleted when that ends."""
    need_models()
    folder = factory.getbasetemp() / "llama"
    if not folder.exists():
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
        subprocess.run([sys.executable, "-m", "tests.kernel.models", folder], cwd=ROOT, check=True, timeout=300)
    return folder


def save_llama(folder: Path) -> None:
    """Save the model: 12 layers of 49 MiB, and 31 MiB each for what looks words up and for what chooses them."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=1024,
        intermediate_size=2816,
        num_hidden_layers=12,
        num_attention_heads=8,
        vocab_size=8000,
        max_position_embeddings=512,
    )
    LlamaForCausalLM(config).save_pretrained(folder, max_shard_size="150MB")


if __name__ == "__main__":
    save_llama(Path(sys.argv[1]))
