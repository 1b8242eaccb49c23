"""The steps whose memory `benchmarks.forecast` forecasts: small models, with a batch that can be made larger."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

Step = Callable[[], Any]
_WORDS = 5000


def _train(model: Any, given: dict[str, Any], optimizer: str = "adamw", half: bool = False) -> Step:
    """A training step of a model of transformers'."""
    import torch

    model = model.to("cuda").train()
    kept = [one for one in model.parameters() if one.requires_grad]
    made: Any = torch.optim.AdamW(kept) if optimizer == "adamw" else torch.optim.SGD(kept, lr=0.1, momentum=0.9)

    def step() -> float:
        with torch.autocast("cuda", dtype=torch.bfloat16) if half else nullcontext():
            loss = model(**given).loss
        loss.backward()
        made.step()
        made.zero_grad()
        return float(loss.detach())

    return step


def _words(batch: int, length: int = 128) -> dict[str, Any]:
    import torch

    ids = torch.ones(batch, length, dtype=torch.long, device="cuda")
    return {"input_ids": ids, "labels": ids}


def _gpt2() -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(GPT2Config(n_embd=384, n_layer=6, n_head=6, vocab_size=_WORDS))


def _llama() -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(
        LlamaConfig(
            hidden_size=384,
            intermediate_size=1024,
            num_hidden_layers=6,
            num_attention_heads=6,
            num_key_value_heads=2,
            vocab_size=_WORDS,
            eos_token_id=None,
        )
    )


def mlp(batch: int, optimizer: str = "adamw") -> Step:
    """Two wide layers."""
    import torch

    model = torch.nn.Sequential(torch.nn.Linear(512, 2048), torch.nn.ReLU(), torch.nn.Linear(2048, 512)).to("cuda")
    made: Any = (torch.optim.AdamW if optimizer == "adamw" else torch.optim.SGD)(model.parameters(), lr=1e-3)
    rows = torch.randn(512 * batch, 512, device="cuda")

    def step() -> float:
        loss = model(rows).pow(2).mean()
        loss.backward()
        made.step()
        made.zero_grad()
        return float(loss.detach())

    return step


def resnet(batch: int) -> Step:
    """Three blocks with convolutions, without cuDNN, which the played device has not."""
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

    torch.backends.cudnn.enabled = False
    blocks = [Block(32, 64), Block(64, 128), Block(128, 256)]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(256, 10)]
    model = nn.Sequential(nn.Conv2d(3, 32, 3, padding=1), *blocks, *head).to("cuda")
    made = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    images = torch.randn(8 * batch, 3, 64, 64, device="cuda")
    labels = torch.zeros(8 * batch, dtype=torch.long, device="cuda")

    def step() -> float:
        loss = nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        made.step()
        made.zero_grad()
        return float(loss.detach())

    return step


def vit(batch: int) -> Step:
    """A vision transformer."""
    import torch
    from transformers import ViTConfig, ViTForImageClassification

    torch.backends.cudnn.enabled = False
    config = ViTConfig(
        hidden_size=384, num_hidden_layers=6, num_attention_heads=6, intermediate_size=1536, image_size=96, patch_size=8
    )
    images = torch.randn(2 * batch, 3, 96, 96, device="cuda")
    labels = torch.zeros(2 * batch, dtype=torch.long, device="cuda")
    return _train(ViTForImageClassification(config), {"pixel_values": images, "labels": labels})


def bert(batch: int) -> Step:
    """A masked language model."""
    from transformers import BertConfig, BertForMaskedLM

    config = BertConfig(
        hidden_size=384, intermediate_size=1536, num_hidden_layers=6, num_attention_heads=6, vocab_size=_WORDS
    )
    return _train(BertForMaskedLM(config), _words(batch))


def t5(batch: int) -> Step:
    """An encoder and a decoder."""
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(
        d_model=256, d_ff=1024, num_layers=4, num_heads=4, d_kv=64, vocab_size=_WORDS, decoder_start_token_id=0
    )
    return _train(T5ForConditionalGeneration(config), _words(batch))


def checkpointed(batch: int) -> Step:
    """GPT-2, whose activations are computed again."""
    model = _gpt2()
    model.gradient_checkpointing_enable()
    return _train(model, _words(batch))


def lora(batch: int) -> Step:
    """Llama with adapters."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=8, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    return _train(get_peft_model(_llama(), config), _words(batch))


def generate(batch: int) -> Step:
    """Llama in 16 bits, which writes 64 words."""
    import torch

    model = _llama().to("cuda").half().eval()
    ids = torch.ones(batch, 64, dtype=torch.long, device="cuda")
    return lambda: model.generate(ids, max_new_tokens=64, do_sample=False)


STEPS: dict[str, Callable[[int], Step]] = {
    "MLP, AdamW": mlp,
    "MLP, SGD": lambda batch: mlp(batch, "sgd"),
    "ResNet by hand, SGD": resnet,
    "ViT, AdamW": vit,
    "GPT-2, AdamW": lambda batch: _train(_gpt2(), _words(batch)),
    "GPT-2, SGD": lambda batch: _train(_gpt2(), _words(batch), "sgd"),
    "GPT-2, autocast": lambda batch: _train(_gpt2(), _words(batch), half=True),
    "GPT-2, checkpointing": checkpointed,
    "BERT, AdamW": bert,
    "Llama with GQA, AdamW": lambda batch: _train(_llama(), _words(batch)),
    "Llama with LoRA": lora,
    "T5, AdamW": t5,
    "Llama, generate": generate,
}
