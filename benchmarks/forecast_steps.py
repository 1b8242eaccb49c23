"""The steps whose memory `benchmarks.forecast` forecasts: small models and one of 1.4 G parameters, in two batches."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

Step = Callable[[], Any]
_WORDS = 5000
_NEW_TOKENS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """One step, as it can be told to other estimators, too.

    Attributes:
        model: Makes the model, on the default device and in the default dtype.
        inputs: Gives what it is called with, for a batch; with "labels" where its loss is its own.
        optimizer: "adamw", "sgd", "adafactor", "adamw_8bit"; "" for none, where words are written.
        length: Tokens of a row; 0 for images.
        size: Pixels of an image's side; 0 for words.
        rows: Rows of the model's batch for each one that is asked for.
        half: Under autocast.
        dtype: What the model's weights are.
        checkpointing: Activations are computed again.
        cache: Of the words that are written: "dynamic", "static", "offloaded".
    """

    model: Callable[[], Any]
    inputs: Callable[[int], dict[str, Any]]
    optimizer: str = "adamw"
    length: int = 0
    size: int = 0
    rows: int = 1
    half: bool = False
    dtype: str = "float32"
    checkpointing: bool = False
    cache: str = ""


def make(recipe: Recipe, batch: int) -> Step:
    """Put a model on the device, and give what runs one step of it.

    Args:
        recipe: The step.
        batch: How many.
    """
    import torch

    torch.backends.cudnn.enabled = False  # the played device has none
    torch.set_default_dtype(getattr(torch, recipe.dtype))
    with torch.device("cuda"):
        model, given = recipe.model(), recipe.inputs(batch)
    torch.set_default_dtype(torch.float32)
    model = model.to("cuda")
    return _training(model, given, recipe) if recipe.optimizer else _writing(model, given, recipe)


def _training(model: Any, given: dict[str, Any], recipe: Recipe) -> Step:
    import torch

    model.train()
    if recipe.checkpointing:
        model.gradient_checkpointing_enable()
    made = _optimizer(recipe.optimizer, [one for one in model.parameters() if one.requires_grad])

    def step() -> None:
        with torch.autocast("cuda", dtype=torch.bfloat16) if recipe.half else nullcontext():
            found = model(**given)
            loss = getattr(found, "loss", None)
            if loss is None:
                loss = getattr(found, "sample", found).pow(2).mean()
        loss.backward()
        made.step()
        made.zero_grad()

    return step


def _optimizer(name: str, kept: list[Any]) -> Any:
    import torch

    if name == "adamw_8bit":
        return importlib.import_module("bitsandbytes").optim.AdamW8bit(kept)
    if name == "adafactor":
        return torch.optim.Adafactor(kept)
    return torch.optim.AdamW(kept) if name == "adamw" else torch.optim.SGD(kept, lr=0.1, momentum=0.9)


def _writing(model: Any, given: dict[str, Any], recipe: Recipe) -> Step:
    model.eval()
    how = {} if recipe.cache == "dynamic" else {"cache_implementation": recipe.cache}
    return lambda: model.generate(**given, max_new_tokens=_NEW_TOKENS, do_sample=False, disable_compile=True, **how)


def _words(length: int) -> Callable[[int], dict[str, Any]]:
    import torch

    def words(batch: int) -> dict[str, Any]:
        ids = torch.ones(batch, length, dtype=torch.long)
        return {"input_ids": ids, "labels": ids}

    return words


def _prompt(batch: int) -> dict[str, Any]:
    import torch

    ids = torch.ones(batch, 64, dtype=torch.long)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def _images(size: int, rows: int, name: str) -> Callable[[int], dict[str, Any]]:
    import torch

    def images(batch: int) -> dict[str, Any]:
        many = rows * batch
        labels = {"labels": torch.zeros(many, dtype=torch.long)} if name == "pixel_values" else {}
        times = {"timestep": torch.zeros(many, dtype=torch.long)} if name == "sample" else {}
        return {name: torch.randn(many, 3, size, size)} | labels | times

    return images


def _mlp() -> Any:
    from torch.nn import Linear, ReLU, Sequential

    return Sequential(Linear(512, 2048), ReLU(), Linear(2048, 512))


def _resnet() -> Any:
    """Three blocks with convolutions."""
    import torch
    from torch import nn

    class Block(nn.Module):  # type: ignore[misc,unused-ignore]
        def __init__(self, given: int, wide: int) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(given, wide, 3, 2, 1), nn.Conv2d(wide, wide, 3, 1, 1)
            self.norms = nn.ModuleList([nn.BatchNorm2d(wide), nn.BatchNorm2d(wide)])
            self.beside = nn.Conv2d(given, wide, 1, 2)

        def forward(self, image: Any) -> Any:
            inner = torch.relu(self.norms[0](self.first(image)))
            return torch.relu(self.norms[1](self.second(inner)) + self.beside(image))

    blocks = [Block(32, 64), Block(64, 128), Block(128, 256)]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(256, 10)]
    return nn.Sequential(nn.Conv2d(3, 32, 3, padding=1), *blocks, *head)


def _unet() -> Any:
    made: Any = importlib.import_module("diffusers").UNet2DModel
    wide, down, up = (32, 64, 64), ("DownBlock2D", "AttnDownBlock2D", "DownBlock2D"), ("UpBlock2D", "AttnUpBlock2D")
    return made(
        sample_size=32,
        block_out_channels=wide,
        layers_per_block=1,
        down_block_types=down,
        up_block_types=(*up, "UpBlock2D"),
    )


def _vit() -> Any:
    from transformers import ViTConfig, ViTForImageClassification

    small = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 6, "intermediate_size": 1536}
    return ViTForImageClassification(ViTConfig(**small, image_size=96, patch_size=8))


def _gpt2() -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(GPT2Config(n_embd=384, n_layer=6, n_head=6, vocab_size=_WORDS))


def _gpt2_whole() -> Any:
    """The one of 124 M parameters."""
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(GPT2Config())


def _llama(wide: int = 384, deep: int = 6, inner: int = 1024, heads: int = 6, words: int = _WORDS) -> Any:
    """With grouped queries, a pair of keys and values for three heads or four."""
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(
        LlamaConfig(
            hidden_size=wide,
            intermediate_size=inner,
            num_hidden_layers=deep,
            num_attention_heads=heads,
            num_key_value_heads=2 if heads == 6 else heads // 4,
            vocab_size=words,
            eos_token_id=None,
        )
    )


def _llama_whole() -> Any:
    """1.4 G parameters."""
    return _llama(2048, 28, 5632, 32, 32000)


def _bert() -> Any:
    from transformers import BertConfig, BertForMaskedLM

    small = {"hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 6, "num_attention_heads": 6}
    return BertForMaskedLM(BertConfig(**small, vocab_size=_WORDS))


def _t5() -> Any:
    from transformers import T5Config, T5ForConditionalGeneration

    small = {"d_model": 256, "d_ff": 1024, "num_layers": 4, "num_heads": 4, "d_kv": 64}
    return T5ForConditionalGeneration(T5Config(**small, vocab_size=_WORDS, decoder_start_token_id=0))


def _lora() -> Any:
    from peft import LoraConfig, get_peft_model

    return get_peft_model(_llama(), LoraConfig(r=8, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"))


def _rows(batch: int) -> dict[str, Any]:
    import torch

    return {"input": torch.randn(512 * batch, 512)}


def recipes() -> dict[str, Recipe]:
    """Give all steps by name."""
    gpt2 = {"model": _gpt2, "inputs": _words(128), "length": 128}
    llama = {"model": _llama, "inputs": _prompt, "optimizer": "", "length": 64, "dtype": "float16"}
    whole = {"model": _llama_whole, "inputs": _words(512), "length": 512, "dtype": "bfloat16"}
    made: dict[str, dict[str, Any]] = {
        "MLP, AdamW": {"model": _mlp, "inputs": _rows, "rows": 512},
        "MLP, SGD": {"model": _mlp, "inputs": _rows, "rows": 512, "optimizer": "sgd"},
        "ResNet by hand, SGD": {
            "model": _resnet,
            "inputs": _images(64, 8, "input"),
            "optimizer": "sgd",
            "rows": 8,
            "size": 64,
        },
        "U-Net of diffusers, AdamW": {"model": _unet, "inputs": _images(32, 2, "sample"), "rows": 2, "size": 32},
        "ViT, AdamW": {"model": _vit, "inputs": _images(96, 2, "pixel_values"), "rows": 2, "size": 96},
        "GPT-2, AdamW": gpt2,
        "GPT-2, SGD": gpt2 | {"optimizer": "sgd"},
        "GPT-2, Adafactor": gpt2 | {"optimizer": "adafactor"},
        "GPT-2, 8-bit AdamW": gpt2 | {"optimizer": "adamw_8bit"},
        "GPT-2, autocast": gpt2 | {"half": True},
        "GPT-2, checkpointing": gpt2 | {"checkpointing": True},
        "GPT-2 of 124 M, AdamW": {"model": _gpt2_whole, "inputs": _words(256), "length": 256},
        "BERT, AdamW": gpt2 | {"model": _bert},
        "Llama with GQA, AdamW": gpt2 | {"model": _llama},
        "Llama with LoRA": gpt2 | {"model": _lora},
        "T5, AdamW": gpt2 | {"model": _t5},
        "Llama, generate": llama | {"cache": "dynamic"},
        "Llama, generate, static cache": llama | {"cache": "static"},
        "Llama, generate, offloaded cache": llama | {"cache": "offloaded"},
        "Llama of 1.4 G, AdamW": whole,
        "Llama of 1.4 G, checkpointing": whole | {"checkpointing": True},
    }
    return {name: Recipe(**fields) for name, fields in made.items()}
