"""What a model's config.json says about its sizes, under the names that its many families use."""

from __future__ import annotations

from typing import Any

from nb_oomhelper.loading.checkpoint._cache import Attention, read_layers
from nb_oomhelper.loading.checkpoint._files import whole
from nb_oomhelper.loading.checkpoint._record import Config

# transformers 5 and the configs on the hub; the first that is there counts.
_HIDDEN = ("hidden_size", "n_embd", "d_model", "dim")
_LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "decoder_layers", "num_decoder_layers", "num_layers")
_HEADS = ("num_attention_heads", "n_head", "n_heads", "decoder_attention_heads", "num_heads")
_KV_HEADS = ("num_key_value_heads", "num_kv_heads", "n_head_kv", "multi_query_group_num")
_HEAD_DIM = ("head_dim", "d_kv", "kv_channels")
_VOCABULARY = ("vocab_size", "padded_vocab_size")
_CONTEXT = ("max_position_embeddings", "n_positions", "n_ctx", "seq_length", "max_seq_len", "max_sequence_length")
# Attention that makes a matrix of all tokens with all, a latent that is expanded, experts: what these take is unknown.
_NOT_FUSED = ("attn_logit_softcapping", "kv_lora_rank", "num_experts_per_tok", "num_local_experts", "num_experts")
_IN_ONE = ("phi3", "glm", "glm4")  # two parts of the feed-forward layer are made in one
_INTERMEDIATE = ("intermediate_size", "n_inner", "ffn_dim", "d_ff", "decoder_ffn_dim", "ffn_hidden_size")
TEXT = ("text_config", "llm_config", "language_config", "decoder")  # the language model of one with several parts


def read_config(said: dict[str, Any]) -> Config:
    """Read a config.json that was parsed. Never raises: what it does not say, or says oddly, is None."""
    text = next((part for name in TEXT if isinstance(part := said.get(name), dict)), {})
    both = said | text
    hidden, heads, layers = _number(both, _HIDDEN), _number(both, _HEADS), _number(both, _LAYERS)
    kv_heads, head_dim = _kv_heads(both, heads), _head_dim(both, hidden, heads)
    return Config(
        model_type=_text(said, "model_type"),
        architectures=_architectures(said),
        dtype=_dtype(said) or _dtype(text),
        hidden_size=hidden,
        layers=layers,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        vocabulary=_number(both, _VOCABULARY),
        context=_number(both, _CONTEXT),
        quantization=_quantization(said) or _quantization(text),
        intermediate=_intermediate(both, hidden),
        reading=_reading(both, hidden),
        cache=read_layers(both, layers, Attention(heads=heads, kv_heads=kv_heads, width=head_dim)),
    )


def _number(said: dict[str, Any], names: tuple[str, ...]) -> int | None:
    return next((number for name in names if (number := whole(said.get(name)))), None)


def _text(said: dict[str, Any], name: str) -> str | None:
    return value if isinstance(value := said.get(name), str) else None


def _architectures(said: dict[str, Any]) -> tuple[str, ...]:
    names = said.get("architectures")
    return tuple(name for name in names if isinstance(name, str)) if isinstance(names, list) else ()


def _dtype(said: dict[str, Any]) -> str | None:
    """The dtype, called "dtype" by transformers 5 and "torch_dtype" before, with or without "torch."."""
    name = _text(said, "dtype") or _text(said, "torch_dtype")
    return None if name is None else name.removeprefix("torch.")


def _kv_heads(said: dict[str, Any], heads: int | None) -> int | None:
    # Falcon's and GPTBigCode's "multi_query": one head of keys and values for all; Falcon's new decoder counts them
    if said.get("multi_query") is True and said.get("new_decoder_architecture") is not True:
        return _number(said, ("multi_query_group_num",)) or 1
    return _number(said, _KV_HEADS) or heads


def _head_dim(said: dict[str, Any], hidden: int | None, heads: int | None) -> int | None:
    if said.get("kv_lora_rank") is not None:
        return None
    if (told := _number(said, _HEAD_DIM)) is not None:
        return told
    return hidden // heads if hidden and heads else None


def _intermediate(said: dict[str, Any], hidden: int | None) -> int | None:
    """With experts, of all that one token goes through; GPT-2 and its kin have four times the hidden size."""
    told = _number(said, _INTERMEDIATE) or (4 * hidden if hidden and "n_embd" in said else None)
    chosen, one = _number(said, ("num_experts_per_tok",)), _number(said, ("moe_intermediate_size",))
    return max(told or 0, chosen * (one or told or 0)) or None if chosen else told


def _reading(said: dict[str, Any], hidden: int | None) -> int | None:
    """By forecasts of `generate` with one model of each family (transformers 5.24); attention that is fused."""
    wide = _intermediate(said, hidden)
    if not wide or not hidden or any(said.get(name) is not None for name in _NOT_FUSED):
        return None
    if "n_embd" in said:
        return 4 * wide + 6 * hidden
    return (4 if said.get("model_type") in _IN_ONE else 3) * wide + 4 * hidden


def _quantization(said: dict[str, Any]) -> str | None:
    part = said.get("quantization_config")
    return _text(part, "quant_method") if isinstance(part, dict) else None
