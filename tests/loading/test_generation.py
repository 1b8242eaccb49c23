"""Keys and values beside those that transformers really keeps, and what there is room for."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest

from nb_oomhelper.errors import UsageError
from nb_oomhelper.knowledge.catalog import load_catalog
from nb_oomhelper.knowledge.toml_tables import Language
from nb_oomhelper.loading import generation
from nb_oomhelper.loading.checkpoint import Config
from nb_oomhelper.loading.checkpoint._cache import CacheLayers
from nb_oomhelper.loading.checkpoint._config import read_config
from nb_oomhelper.loading.checkpoint._meta import fill_in
from nb_oomhelper.loading.estimate import plan
from nb_oomhelper.loading.generation import Generation, cache_size, find_room, formula_of, needed_for, start_vllm
from nb_oomhelper.records.memory import DeviceMemory
from nb_oomhelper.showing import load_table
from nb_oomhelper.showing.notes import say_note

pytestmark = pytest.mark.plain

GIB = 1 << 30
BATCH, PROMPT, WINDOW = 2, 12, 8
PLAIN = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 100,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
SLIDING = PLAIN | {"sliding_window": WINDOW}
GPT = {"n_embd": 64, "n_layer": 4, "n_head": 4, "vocab_size": 100, "bos_token_id": 1, "eos_token_id": 2}
LATENT = PLAIN | {
    "head_dim": 4,
    "kv_lora_rank": 8,
    "q_lora_rank": 8,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 4,
    "v_head_dim": 12,
    "first_k_dense_replace": 4,
    "n_routed_experts": 4,
    "n_group": 1,
    "topk_group": 1,
    "num_experts_per_tok": 1,
    "moe_intermediate_size": 16,
}
LINEAR = PLAIN | {
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "num_experts": 2,
    "num_experts_per_tok": 1,
    "moe_intermediate_size": 16,
    "shared_expert_intermediate_size": 16,
}
SHARED = SLIDING | {
    "layer_types": ["sliding_attention", "full_attention"] * 2,
    "num_kv_shared_layers": 2,
    "hidden_size_per_layer_input": 8,
    "vocab_size_per_layer_input": 100,
    "global_head_dim": 32,
}
FAMILIES: dict[str, dict[str, Any]] = {
    "gpt2": GPT,
    "gpt_bigcode": GPT | {"multi_query": True},
    "llama": PLAIN,
    "mistral": SLIDING,
    "gemma2": SLIDING,
    "gemma3_text": SLIDING | {"num_hidden_layers": 6},
    "gemma4_text": SHARED,
    "qwen2": SLIDING | {"use_sliding_window": True, "max_window_layers": 2},
    "gpt_oss": SLIDING | {"num_local_experts": 2, "num_experts_per_tok": 1},
    "deepseek_v3": LATENT,
    "qwen3_next": LINEAR,
}


def really_kept(cache: Any) -> int:
    """Bytes of the storages that a cache of transformers' keeps."""
    kept = 0
    for layer in cache.layers:
        tensors = [getattr(layer, name, None) for name in ("keys", "values")]
        for name in ("conv_states", "recurrent_states"):
            tensors += (getattr(layer, name, None) or {}).values()
        kept += sum(one.untyped_storage().nbytes() for one in tensors if one is not None)
    return kept


def build(kind: str) -> tuple[Any, Any]:
    transformers = pytest.importorskip("transformers")
    config = transformers.CONFIG_MAPPING[kind](**FAMILIES[kind])
    return transformers.AutoModelForCausalLM.from_config(config).eval().bfloat16(), config


@pytest.mark.parametrize("kind", FAMILIES)
def test_as_transformers_keeps_them(kind: str) -> None:
    """To the byte: while the prompt is read, and once another token was."""
    torch: Any = pytest.importorskip("torch")
    model, made = build(kind)
    with torch.no_grad():
        cache = model(torch.ones(BATCH, PROMPT, dtype=torch.long), use_cache=True).past_key_values
        reading = really_kept(cache)
        model(torch.ones(BATCH, 1, dtype=torch.long), use_cache=True, past_key_values=cache)
    for said in (FAMILIES[kind] | {"model_type": kind}, json.loads(made.to_json_string())):
        config = read_config(said)
        config = config if config.cache else read_config(fill_in(said))
        found = (config.kv_cache(PROMPT, BATCH, prompt=True), config.kv_cache(PROMPT + 1, BATCH))
        assert found == (reading, really_kept(cache))


@pytest.mark.parametrize("kind", ["llama", "gemma2"])
def test_as_a_static_cache_keeps_them(kind: str) -> None:
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    model, made = build(kind)
    cache = transformers.StaticCache(config=made, max_cache_len=20)
    with torch.no_grad():
        model(torch.ones(BATCH, 5, dtype=torch.long), use_cache=True, past_key_values=cache)
    config = read_config(FAMILIES[kind] | {"model_type": kind})
    assert config.kv_cache(20, BATCH) == really_kept(cache)


def test_what_a_file_leaves_out_is_asked_of_its_class() -> None:
    pytest.importorskip("transformers")
    said = {"model_type": "gemma3", "text_config": {"model_type": "gemma3_text", "num_hidden_layers": 34}}
    assert read_config(said).cache is None
    assert read_config(fill_in(said)).cache == (
        CacheLayers(count=29, width=2 * 4 * 256, window=4096),
        CacheLayers(count=5, width=2 * 4 * 256),
    )
    assert fill_in(said | {"num_hidden_layers": 1 << 60}) == said | {"num_hidden_layers": 1 << 60}  # in no time
    assert fill_in({"model_type": "nothing of theirs"}) == {"model_type": "nothing of theirs"}


@pytest.mark.parametrize(
    "said",
    [
        {"mamba_d_state": 16},
        {"layer_types": ["full_attention", "linear_attention"] * 2},
        {"layer_types": ["something_new"] * 4},
        {"sliding_window": 8, "model_type": "a family of its own"},
        {"kv_lora_rank": 16},
        {"layer_types": ["indexed_attention"] * 4},
        {"attention_chunk_size": 8},
        {"linear_num_key_heads": 2},
        {"num_hidden_layers": 1 << 60},
        {"sliding_window": 8, "sliding_window_pattern": ""},
        {"num_kv_shared_layers": 99},
    ],
)
def test_what_is_not_known_is_not_guessed(said: dict[str, Any]) -> None:
    assert read_config(PLAIN | said).kv_cache(1) is None


def test_quantized() -> None:
    """64 values: in 4 bits 32 bytes and two of 16 bits, as quanto and HQQ have it; in fp8 64 bytes."""
    config = Config(cache=(CacheLayers(count=2, width=64),))
    sizes = {
        form: config.kv_cache(10, 1, form)
        for form in ("float64", "float32", "fp8", "int8", "int4", "int2", "q8_0", "q4_0")
    }
    one = {"float64": 512, "float32": 256, "fp8": 64, "int8": 68, "int4": 36, "int2": 20, "q8_0": 68, "q4_0": 36}
    assert sizes == {form: 2 * 10 * size for form, size in one.items()}


def test_a_latent_was_kept_as_keys_and_values_before() -> None:
    config = read_config(LATENT)
    assert config.kv_cache(10) == 4 * (8 + 4) * 10 * 2
    assert config.kv_cache(10, expanded=True) == 4 * 4 * (8 + 4 + 12) * 10 * 2


LLAMA = Config(
    hidden_size=4096,
    intermediate=14336,
    reading=3 * 14336 + 4 * 4096,
    vocabulary=128256,
    context=131072,
    cache=(CacheLayers(count=32, width=2 * 8 * 128),),
)


def test_the_longest_text_is_the_longest_that_fits() -> None:
    wanted = Generation(tokens=4096, batch=2)
    room = find_room(LLAMA, wanted, "bfloat16", 8 * GIB)
    assert room.tokens is not None
    assert room.batch is not None
    for longer, fits in ((0, True), (1, False)):
        text = replace(wanted, tokens=room.tokens + longer)
        assert ((needed_for(LLAMA, text, "bfloat16") or 0) <= 8 * GIB) is fits
        batch = replace(wanted, batch=room.batch + longer)
        assert ((needed_for(LLAMA, batch, "bfloat16") or 0) <= 8 * GIB) is fits
    assert find_room(LLAMA, wanted, "bfloat16", 1000 * GIB).tokens == 131072
    assert find_room(LLAMA, wanted, "bfloat16", 0).tokens == 0
    assert find_room(replace(LLAMA, cache=None), wanted, "bfloat16", GIB).tokens is None
    assert find_room(LLAMA, wanted, "bfloat16", None).batch is None
    assert needed_for(LLAMA, wanted, "float64") == 4 * (needed_for(LLAMA, wanted, "bfloat16") or 0)


def test_the_prompt_is_what_is_largest() -> None:
    """Three values a unit of the feed-forward part and four a hidden unit, as a forecast of Llama's generate has it."""
    torch: Any = pytest.importorskip("torch")
    from nb_oomhelper.forecasting.forecast import forecast

    model, made = build("llama")
    config, ids = read_config(json.loads(made.to_json_string())), torch.ones(BATCH, 256, dtype=torch.long)
    found = forecast(model.generate, ids, max_new_tokens=1, do_sample=False, eos_token_id=None)
    told = needed_for(config, Generation(tokens=256, batch=BATCH), "bfloat16")
    assert found.ended == "returned"
    assert told == pytest.approx(found.allocated.likely, rel=0.12)  # at 64 hidden units small tensors count, too


def test_vllm() -> None:
    gpu = DeviceMemory(nvml_index=0, capacity=80 * GIB, free=79 * GIB, name="NVIDIA H100")
    wanted = Generation(tokens=8192)
    found = start_vllm(LLAMA, wanted, 15 * GIB, gpu)
    assert found is not None
    assert (found.takes, found.starts) == (int(72 * GIB), True)
    each = 32 * 2048 * 2
    assert found.tokens is not None
    assert found.cache is not None
    assert found.tokens % 16 == 0
    assert found.tokens == found.cache // (16 * each) * 16
    assert 50 * GIB < found.cache < 56 * GIB
    refused = start_vllm(LLAMA, wanted, 15 * GIB, replace(gpu, free=60 * GIB))
    assert refused is not None
    assert refused.starts is False
    windows = replace(LLAMA, cache=(CacheLayers(count=16, width=2048, window=1024), CacheLayers(count=16, width=2048)))
    mixed = start_vllm(windows, wanted, 15 * GIB, gpu)
    assert mixed is not None
    assert mixed.tokens is None
    assert mixed.texts == (mixed.cache or 0) // (16 * 2048 * 2 * (1024 + 8192))
    assert start_vllm(LLAMA, wanted, 15 * GIB, None) is None
    unknown = start_vllm(None, wanted, 15 * GIB, gpu)
    assert unknown is not None
    assert (unknown.takes, unknown.cache) == (72 * GIB, None)


@pytest.mark.parametrize(
    ("said", "values"),
    [
        (PLAIN, 3 * 128 + 4 * 64),
        (PLAIN | {"model_type": "phi3"}, 4 * 128 + 4 * 64),
        (GPT, 4 * 256 + 6 * 64),
        (PLAIN | {"attn_logit_softcapping": 50.0}, None),
        (LATENT, None),
        (PLAIN | {"num_local_experts": 8}, None),
    ],
)
def test_what_reading_takes(said: dict[str, Any], values: int | None) -> None:
    assert read_config(said).reading == values


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The config of Llama 3 8B, and none of its weights."""
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
        "max_position_embeddings": 131072,
        "torch_dtype": "bfloat16",
    }
    (tmp_path / "config.json").write_text(json.dumps(config), "utf-8")
    return tmp_path


@pytest.mark.parametrize("language", get_args(Language))
def test_in_the_table(folder: Path, language: Language) -> None:
    found = plan(folder, dtype="auto", tokens=8192, batch=4, cache="fp8")
    writing = found.writing
    assert writing is not None
    assert writing.cache == 32 * 2048 * 8192 * 4
    gpu = DeviceMemory(nvml_index=0, capacity=24 * GIB, free=23 * GIB)
    vllm = start_vllm(LLAMA, writing.wanted, 15 * GIB, gpu)
    found = replace(found, backend="cuda", device=0, writing=replace(writing, vllm=vllm))
    columns, rows = load_table.table(found, load_catalog(), {}, language)
    assert len(columns) == 8
    assert all(len(row) == 8 for row in rows)
    text = "\n".join([*load_table.below(found, load_catalog(), language), *columns])
    for part in ("2.00 GiB", "32", "2048", "8192", "fp8", "21.6 GiB", "max_model_len=", "131,072"):
        assert part in text, part
    assert "{" not in text
    said = json.loads(load_table.to_json(found))["writing"]
    assert (said["cache"], said["wanted"]["tokens"]) == (2 * GIB, 8192)
    assert {"fix", "tokens", "batch"} == set(said["rooms"][0])


def test_a_text_that_is_too_long_does_not_fit(folder: Path) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"num_hidden_layers": 2}))
    assert plan(folder, dtype="auto", tokens=16).rows[0][1].fits is not False
    assert plan(folder, dtype="auto", tokens=1 << 30).rows[0][1].fits is False
    assert plan(folder, dtype="auto").writing is None
    with pytest.raises(UsageError, match="whole numbers from 1 to"):
        plan(folder, tokens=0)
    with pytest.raises(UsageError, match="cache is one of float64"):
        plan(folder, cache="int3")


def test_where_reading_is_not_known_nothing_is_said_to_fit(folder: Path) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"attn_logit_softcapping": 50.0, "num_hidden_layers": 2}))
    found = plan(folder, dtype="auto", tokens=16)
    assert found.writing is not None
    assert (found.writing.cache, found.writing.peak) == (2 * 2048 * 16 * 2, None)
    assert found.rows[0][1].fits is None
    assert "unknown for this model" in "\n".join(load_table.below(found, load_catalog(), "en"))
    assert "? unknown" in load_table.table(found, load_catalog(), {}, "en")[1][0]  # and not that it is tight


def test_what_is_not_known_is_said_once(folder: Path) -> None:
    found = plan(folder, dtype="auto", tokens=1 << 18)
    assert found.writing is not None
    told = "\n".join(load_table.below(found, load_catalog(), "en"))
    assert "32 layers × 2048 values × 262144 tokens × 2 bytes" in told
    assert "the model was made for texts of 131,072 tokens at most" in told
    bare = replace(found, checkpoint=replace(found.checkpoint, config=None))
    told = "\n".join(load_table.below(replace(bare, writing=replace(found.writing, cache=None)), load_catalog(), "en"))
    assert "KV cache of 1 × 262144 tokens: unknown:" in told
    assert "made for" not in told


def test_how_it_was_counted_is_told() -> None:
    config = Config(cache=(CacheLayers(count=3, width=64, window=8), CacheLayers(count=1, state=8)))
    told = say_note(formula_of(config, Generation(tokens=100, batch=2), "q4_0"), "en")
    assert told == "3 layers × 64 values × 16 tokens × 36/64 bytes + 1 layer × 32 bytes"
    assert say_note(formula_of(None, Generation(tokens=1), "float16"), "en") == "unknown"


def test_of_a_latent_the_width_is_told_that_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    config, wanted = read_config(LATENT), Generation(tokens=10)
    for version, values in (("5.14.0", 4 * (8 + 4 + 12)), ("5.15.0", 8 + 4)):
        monkeypatch.setattr(generation, "installed_version", {"transformers": version}.get)
        assert cache_size(config, wanted, "float16") == 4 * values * 10 * 2
        told = say_note(formula_of(config, wanted, "float16"), "en")
        assert told == f"4 layers × {values} values × 10 tokens × 2 bytes"
