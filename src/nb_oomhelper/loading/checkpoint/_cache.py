"""What each layer of a model keeps of the tokens it has read, from its config.json: keys, values, and states.

By transformers 5.24: a layer keeps all tokens, those of a window, or a state of one size (linear attention); which one
is said by `layer_types` or, in older files, by the family's own fields. Multi-head latent attention (DeepSeek) keeps
one compressed head, in vLLM and in transformers from 5.15 on.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

from nb_oomhelper.loading.checkpoint._files import whole

# Bytes of 64 values. int8, int4 and int2 are transformers' QuantizedCache (quanto, HQQ: a scale and a zero point of 16
# bits for 64 values), q8_0 and q4_0 llama.cpp's (a scale of 16 bits for 32 values).
FORMS = {
    "float64": 512,
    "float32": 256,
    "float16": 128,
    "bfloat16": 128,
    "fp8": 64,
    "int8": 68,
    "q8_0": 68,
    "int4": 36,
    "q4_0": 36,
    "int2": 20,
}
_BLOCK = 64

_EVERY = {"gemma2": 2, "gpt_oss": 2, "cohere2": 4, "olmo3": 4, "gemma3_text": 6}  # the n-th layer keeps all tokens
_ALL_SLIDE = ("mistral", "mixtral", "phi3", "phimoe", "starcoder2")
_OLD_NAMES = {"attention": "full", "mamba": "linear", "deepseek_sparse_attention": "indexed"}
_MOST = 4096  # layers; each is looked at
_STATES = (  # fields of families that keep states, or something else
    "linear_",
    "mamba",
    "ssm",
    "state_size",
    "attn_layer_period",
    "rwkv",
    "max_source_positions",
    "compress_ratio",
)
_LINEAR = tuple(f"linear_{name}" for name in ("num_key_heads", "key_head_dim", "num_value_heads", "value_head_dim"))


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheLayers:
    """Layers that keep alike what they have read.

    Attributes:
        count: How many layers.
        width: Values that one layer keeps of one token: its key and its value, over all heads.
        window: Tokens that are kept at most, or None for all.
        state: Values that one layer keeps of a text, however long it is.
        wide_state: The same, in float32 whatever the rest is kept in.
        expanded: Width where a latent is kept as the keys and values made of it, as transformers did before 5.15.
    """

    count: int
    width: int = 0
    window: int | None = None
    state: int = 0
    wide_state: int = 0
    expanded: int = 0

    def values(self, *, expanded: bool) -> int:
        """Values that one layer keeps of one token.

        Args:
            expanded: A latent is kept as the keys and values made of it.
        """
        return (self.expanded if expanded else 0) or self.width

    def size(self, tokens: int, batch: int, form: str, *, prompt: bool = False, expanded: bool = False) -> int:
        """Count the bytes that these layers keep.

        Args:
            tokens: Length of the text.
            batch: Texts side by side.
            form: One of FORMS.
            prompt: The text was just read, in one go: transformers keeps all of it until the next token is read.
            expanded: A latent is kept as the keys and values made of it.
        """
        kept = tokens if prompt or self.window is None else min(tokens, self.window)
        values = self.count * kept * batch * self.values(expanded=expanded)
        states = self.count * batch
        itemsize = max(2, FORMS[form] // _BLOCK)
        return -(-values * FORMS[form] // _BLOCK) + states * (self.state * itemsize + self.wide_state * 4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention:
    """Heads of a layer, as far as they are known.

    Attributes:
        heads: Of queries.
        kv_heads: Of keys and values.
        width: Of one head.
    """

    heads: int | None
    kv_heads: int | None
    width: int | None


def read_layers(said: dict[str, Any], layers: int | None, attention: Attention) -> tuple[CacheLayers, ...] | None:
    """Read what the layers keep.

    Args:
        said: A config.json, with the text model's part put over it.
        layers: How many there are.
        attention: Of all layers for which the file says nothing else.

    Returns:
        Layers that are alike together; None where the file does not say enough, or is of a kind that is not known here.
    """
    kinds = _kinds(said, layers) if layers and layers <= _MOST else None
    if kinds is None:
        return None
    shared = whole(said.get("num_kv_shared_layers")) or 0  # the last ones read what others keep
    found = [_one(said, kind, _of(said, number, kind, attention)) for number, kind in enumerate(kinds)]
    found = found[: max(0, len(found) - shared)]
    if said.get("is_encoder_decoder") is True:  # and each layer keeps what it reads of the encoder, as long as that is
        found *= 2
    kept = Counter(one for one in found if one is not None)
    return tuple(replace(one, count=count) for one, count in kept.items()) if found and all(found) else None


def _of(said: dict[str, Any], number: int, kind: str, attention: Attention) -> Attention:
    """The heads of one layer, which a file may give apart (Gemma 4)."""
    own: Any = said.get("per_layer_config")
    own = own.get(str(number), own.get(number)) if isinstance(own, dict) else None
    if own is None and kind == "full" and whole(said.get("global_head_dim")):
        heads = said.get("num_global_key_value_heads") if said.get("attention_k_eq_v") is not False else None
        own = {"head_dim": said["global_head_dim"], "num_key_value_heads": heads}
    if not isinstance(own, dict):
        return attention
    width, heads = whole(own.get("head_dim")), whole(own.get("num_key_value_heads"))
    return replace(attention, width=width or attention.width, kv_heads=heads or attention.kv_heads)


def _kinds(said: dict[str, Any], layers: int) -> list[str] | None:
    """A word for each layer: "full", "sliding", "linear", "indexed", "chunked", or what it says."""
    told = said.get("layer_types")
    if isinstance(told, list) and len(told) == layers and all(isinstance(one, str) for one in told):
        return [_OLD_NAMES.get(one, one.removesuffix("_attention")) for one in told]
    if (every := whole(said.get("full_attention_interval"))) and _LINEAR[0] in said:
        return _each(every, layers, "linear")
    if any(name.startswith(_STATES) for name in said) or whole(said.get("attention_chunk_size")):
        return None
    if not whole(said.get("sliding_window")) or said.get("use_sliding_window") is False:
        return ["full"] * layers
    if said.get("use_sliding_window") is True:
        full = min(layers, whole(said.get("max_window_layers")) or 0)
        return ["full"] * full + ["sliding"] * (layers - full)
    pattern = said.get("sliding_window_pattern")
    every = whole(pattern) or (len(pattern) if isinstance(pattern, str) else _EVERY.get(str(said.get("model_type"))))
    if not every:
        return ["sliding"] * layers if said.get("model_type") in _ALL_SLIDE else None
    return _each(every, layers, "sliding")


def _each(every: int, layers: int, others: str) -> list[str]:
    return [others if number % every else "full" for number in range(1, layers + 1)]


def _one(said: dict[str, Any], kind: str, attention: Attention) -> CacheLayers | None:
    if kind == "linear":
        return _linear(said)
    window = whole(said.get("attention_chunk_size" if kind == "chunked" else "sliding_window"))
    window = window if kind in ("sliding", "chunked") else None
    beside = whole(said.get("index_head_dim")) if kind == "indexed" else 0
    if kind not in ("full", "sliding", "chunked", "indexed") or beside is None:
        return None
    if said.get("kv_lora_rank") is not None:
        return _latent(said, window, beside, attention)
    if not attention.kv_heads or not attention.width:
        return None
    return CacheLayers(count=1, width=2 * attention.kv_heads * attention.width + beside, window=window)


def _latent(said: dict[str, Any], window: int | None, beside: int, attention: Attention) -> CacheLayers | None:
    rank, turned = whole(said["kv_lora_rank"]), whole(said.get("qk_rope_head_dim"))
    plain, value, heads = whole(said.get("qk_nope_head_dim")), whole(said.get("v_head_dim")), attention.heads
    if not rank or turned is None:
        return None
    expanded = heads * (plain + turned + value) if heads and plain is not None and value is not None else 0
    return CacheLayers(count=1, width=rank + turned + beside, window=window, expanded=expanded)


def _linear(said: dict[str, Any]) -> CacheLayers | None:
    """Gated delta rule (Qwen3-Next): the last inputs of a convolution, and one matrix a head."""
    sizes = [whole(said.get(name)) for name in (*_LINEAR, "linear_conv_kernel_dim")]
    if not all(sizes):
        return None
    key_heads, key, value_heads, value, kernel = (size or 0 for size in sizes)
    state = (2 * key_heads * key + value_heads * value) * kernel
    return CacheLayers(count=1, state=state, wide_state=value_heads * key * value)
