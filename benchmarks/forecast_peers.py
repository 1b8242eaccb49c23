"""`python -m benchmarks.forecast_peers STEP BATCH`: what torch-preflight and accelerate say of the same step, as JSON.

Both get the model itself, on PyTorch's meta device. torch-preflight's figure is told without its 135 MiB for a CUDA
context, and stands beside the bytes reserved; accelerate's, four times the weights where Adam trains, beside those in
tensors.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
from types import ModuleType
from typing import Any

from benchmarks.forecast_steps import Recipe, recipes

_ADAM = 4  # accelerate's: weights, gradients, two moments


def main() -> None:
    """Print the figures of those that are installed and know the case."""
    recipe, batch = recipes()[sys.argv[1]], int(sys.argv[2])
    import torch

    torch.set_default_dtype(getattr(torch, recipe.dtype))
    found: dict[str, Any] = {}
    if importlib.util.find_spec("torch_preflight") is not None:
        size = _preflight(recipe, batch)
        if size is not None:
            found["torch-preflight"] = {"bytes": size, "kind": "reserved"}
    if importlib.util.find_spec("accelerate") is not None and recipe.optimizer in ("", "adamw"):
        found["accelerate"] = {"bytes": _accelerate(recipe), "kind": "allocated"}
    print(json.dumps(found))


def _preflight(recipe: Recipe, batch: int) -> int | None:
    vram = importlib.import_module("torch_preflight.vram")
    meta = importlib.import_module("torch_preflight.vram.providers.meta")
    kinds = {"sgd": "sgd-momentum", "adamw_8bit": "adamw-8bit", "": "adamw"}
    precision = "amp" if recipe.half else {"bfloat16": "pure-bf16", "float16": "pure-fp16"}.get(recipe.dtype, "fp32")
    config = vram.RunConfig(
        batch_size=batch * recipe.rows,
        seq_len=recipe.length or None,
        image_size=recipe.size or None,
        precision=vram.PrecisionMode(precision),
        optimizer=vram.OptimizerKind(kinds.get(recipe.optimizer, recipe.optimizer)),
        gradient_checkpointing=recipe.checkpointing,
        flash_attention=True,
        inference_only=not recipe.optimizer,
    )
    sys.modules["step_to_estimate"] = module = ModuleType("step_to_estimate")
    module.__dict__["model"] = recipe.model
    profile = meta.profile("step_to_estimate:model", config)
    if profile.activation_bytes_per_sample is None:
        return None  # it has found no form of input for this model
    report = vram.estimate_config(profile, config)
    return int(report.breakdown.total - report.breakdown.cuda_context)


def _accelerate(recipe: Recipe) -> int:
    import torch
    from accelerate.utils import calculate_maximum_sizes

    with torch.device("meta"):
        size, _ = calculate_maximum_sizes(recipe.model())
    return int(size) * (_ADAM if recipe.optimizer else 1)


if __name__ == "__main__":
    main()
