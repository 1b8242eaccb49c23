"""GGUF files: their headers read to the byte, what a text takes, and files that are not what they say."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nb_oomhelper.errors import UsageError
from nb_oomhelper.knowledge.catalog import load_catalog
from nb_oomhelper.knowledge.toml_tables import Language
from nb_oomhelper.loading.checkpoint import Checkpoint, measure
from nb_oomhelper.loading.checkpoint._gguf_header import _TYPES
from nb_oomhelper.loading.estimate import fit_whole, plan
from nb_oomhelper.loading.generation import SPARE, Generation
from nb_oomhelper.loading.layers import layers_on_gpu
from nb_oomhelper.loading.placement import MemoryBudget
from nb_oomhelper.showing import load_table
from nb_oomhelper.showing.notes import say_note
from tests.loading.gguf_files import F16, F32, LLAMA, Q4_0, SIZE, WEIGHTS, gguf_bytes, write_gguf

pytestmark = pytest.mark.plain


def read(path: Path, said: dict[str, Any] | None = None, tensors: Any = WEIGHTS) -> Checkpoint:
    return measure(write_gguf(path / "model.gguf", LLAMA if said is None else said, tensors))


def why(found: Checkpoint) -> str:
    assert found.size is None
    assert found.note is not None
    return say_note(found.note, "en")


def test_a_header_to_the_byte(tmp_path: Path) -> None:
    found = read(tmp_path)
    assert (found.how, found.size, found.note) == ("gguf", SIZE, None)
    assert dict(found.dtypes) == {"Q6_K": 256 * 210, "Q4_K": 256 * 144, "Q8_0": 24 * 34, "float32": 2048}
    assert [(one.name, one.shape) for one in found.tensors][:2] == [
        ("token_embd.weight", (3, 256)),
        ("blk.0.attn_q.weight", (256, 256)),
    ]
    config = found.config
    assert config is not None
    assert (config.model_type, config.layers, config.heads, config.kv_heads, config.head_dim) == ("llama", 2, 8, 2, 32)
    assert (config.context, config.hidden_size, config.vocabulary, config.intermediate) == (4096, 256, 3, 512)
    assert config.kv_cache(1000) == 2 * 2 * 2 * 32 * 1000 * 2  # layers, keys and values, heads, width, tokens, bytes
    assert config.kv_cache(1024, form="q8_0") == 2 * 2 * 2 * 32 * 1024 * 34 // 32


def test_the_writer_of_these_tests_writes_what_the_real_one_does(tmp_path: Path) -> None:
    gguf, numpy = pytest.importorskip("gguf"), pytest.importorskip("numpy")
    writer = gguf.GGUFWriter(tmp_path / "real.gguf", "llama")
    for name, value in LLAMA.items():
        if isinstance(value, int):
            writer.add_uint32(name, value)
        elif isinstance(value, list):
            writer.add_array(name, value)
    for name, (shape, kind) in WEIGHTS.items():
        block, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType(kind)]
        if kind == F32:
            writer.add_tensor(name, numpy.zeros(shape, "float32"))
        else:
            rows = numpy.zeros((*shape[:-1], shape[-1] // block * size), "uint8")
            writer.add_tensor(name, rows, raw_dtype=gguf.GGMLQuantizationType(kind))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert (tmp_path / "real.gguf").read_bytes() == gguf_bytes(LLAMA, WEIGHTS)
    known = {int(kind): tuple(sizes) for kind, sizes in gguf.GGML_QUANT_SIZES.items()}
    assert {kind: sizes for kind, (_, *sizes) in _TYPES.items()} == {kind: list(one) for kind, one in known.items()}


def test_big_endian(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(gguf_bytes(LLAMA, WEIGHTS, ">"))
    assert measure(path).size == SIZE


def test_heads_by_layer_and_windows(tmp_path: Path) -> None:
    said = LLAMA | {"llama.attention.head_count_kv": [2, 4], "llama.attention.key_length": 64}
    config = read(tmp_path, said).config
    assert config is not None
    assert config.kv_cache(10) == (2 + 4) * (64 + 64) * 10 * 2
    gemma = {name.replace("llama.", "gemma3."): value for name, value in LLAMA.items()}
    gemma |= {"general.architecture": "gemma3", "gemma3.block_count": 12, "gemma3.attention.sliding_window": 1024}
    config = read(tmp_path, gemma).config
    assert config is not None
    kept = 2 * 2 * 32 * 2  # bytes of one token in one layer
    assert config.kv_cache(8192) == kept * (2 * 8192 + 10 * (1024 + 512))  # llama.cpp reads 512 tokens at once


@pytest.mark.parametrize(
    "more",
    [
        {"llama.ssm.state_size": 16},
        {"llama.attention.kv_lora_rank": 512},
        {"llama.attention.sliding_window": 4096},
        {"llama.attention.head_count_kv": [2, 2, 2]},
        {"llama.attention.head_count": "eight", "llama.attention.head_count_kv": "two"},
    ],
    ids=str,
)
def test_what_keeps_something_else_is_unknown(tmp_path: Path, more: dict[str, Any]) -> None:
    found = read(tmp_path, LLAMA | more)
    assert found.size == SIZE
    assert found.config is not None
    assert found.config.kv_cache(10) is None


def test_a_model_in_several_files(tmp_path: Path) -> None:
    for number in (1, 2):
        said = (LLAMA if number == 1 else {"general.architecture": "llama"}) | {"split.count": 2}
        parts = {name: one for name, one in WEIGHTS.items() if ("blk" in name) == (number == 2)}
        write_gguf(tmp_path / f"m-0000{number}-of-00002.gguf", said, parts)
    for path in (tmp_path / "m-00001-of-00002.gguf", tmp_path / "m-00002-of-00002.gguf", tmp_path):
        found = measure(path)
        assert (found.size, found.config and found.config.layers, found.note) == (SIZE, 2, None)
    (tmp_path / "m-00002-of-00002.gguf").unlink()
    found = measure(tmp_path)
    assert found.size == 1024 + 24 * 34
    assert found.note is not None


def test_several_models_in_a_folder_want_a_name(tmp_path: Path) -> None:
    write_gguf(tmp_path / "m-Q4_K_M.gguf")
    assert measure(tmp_path).size == SIZE
    write_gguf(tmp_path / "m-Q8_0.gguf")
    assert why(measure(tmp_path)) == "several GGUF files are in it: name one of m-Q4_K_M.gguf, m-Q8_0.gguf"


def test_what_is_no_such_file_is_told(tmp_path: Path) -> None:
    path, good = tmp_path / "model.gguf", gguf_bytes(LLAMA, WEIGHTS)
    for data, told in (
        (good[:-1], "cut short: its header names more"),
        (good[:300], "cut short in the header"),
        (b"GGUF\x01" + good[5:], "version 1"),
        (b"GGML" + good[4:], "neither"),
        (b"", "cut short in the header"),
        (good[:8] + b"\xff" * 8 + good[16:], "makes no sense"),
        (good.replace(b"blk.0.attn_q.weight\x02", b"blk.0.attn_q.weight\x77"), "makes no sense"),
    ):
        path.write_bytes(data)
        assert told in why(measure(path))
    (tmp_path / "other.bin").write_bytes(good)
    assert "does not end with .gguf" in why(measure(tmp_path / "other.bin"))


@settings(max_examples=200, deadline=None)
@given(position=st.integers(0, 600), new=st.binary(max_size=9))
def test_changed_bytes(tmp_path_factory: pytest.TempPathFactory, position: int, new: bytes) -> None:
    path, good = tmp_path_factory.getbasetemp() / "changed.gguf", gguf_bytes(LLAMA, WEIGHTS)
    path.write_bytes(good[:position] + new + good[position + len(new) :])
    found = measure(path)
    assert found.note is None or found.note.key != "checkpoint.unread"
    assert found.size is None or found.size <= len(good)


def test_a_long_vocabulary_is_passed_over(tmp_path: Path) -> None:
    found = read(tmp_path, LLAMA | {"tokenizer.ggml.tokens": ["word"] * 200_000})
    assert found.config is not None
    assert found.config.vocabulary == 200_000


def test_where_it_would_fit(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "model.gguf")
    found = plan(path, tokens=1024)
    ways = [fix for fix, _ in found.rows]
    assert "clear-then-reload" in ways
    assert not {"reload-4bit", "reload-half", "reload-spread", "reload-disk"} & set(ways)
    assert found.writing is not None
    assert (found.dtype, found.writing.form, found.writing.vllm) == ("auto", "float16", None)
    assert found.writing.cache == 2 * 2 * 2 * 32 * 1024 * 2
    assert list(fit_whole(found, "cuda", 1 << 40)) == ["as_asked"]
    with pytest.raises(UsageError, match="no dtype goes with it"):
        plan(path, dtype="float16")


@pytest.mark.parametrize("language", get_args(Language))
def test_how_many_layers_a_gpu_has_room_for(tmp_path: Path, language: Language) -> None:
    large = {f"blk.{number}.w": ((1024, 1024), F16) for number in range(8)} | {"token_embd.weight": ((64, 1024), Q4_0)}
    checkpoint = read(tmp_path, LLAMA | {"llama.block_count": 8}, large)
    cache = 2 * 2 * 32 * 1024 * 2  # of one layer
    free = SPARE + 3 * ((2 << 20) + cache)
    wanted, room = Generation(tokens=1024), MemoryBudget(backend="cuda", device=0, free=free, host=1 << 40)
    found = layers_on_gpu(checkpoint, wanted, room)
    assert found is not None
    assert (found.count, found.of, found.size, found.cache) == (3, 8, 6 << 20, 3 * cache)
    assert layers_on_gpu(checkpoint, wanted, replace(room, free=free - 1)) == replace(
        found, count=2, size=4 << 20, cache=2 * cache
    )
    assert layers_on_gpu(checkpoint, wanted, replace(room, free=1 << 40)) is None
    assert layers_on_gpu(checkpoint, wanted, replace(room, backend="host")) is None
    told = replace(plan(tmp_path / "model.gguf"), backend="cuda", device=0, layers=found)
    assert any("n_gpu_layers=3" in line for line in load_table.below(told, load_catalog(), language))


def test_no_library_is_needed(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "model.gguf")
    code = f"""
import sys
sys.modules["gguf"] = sys.modules["numpy"] = sys.modules["torch"] = None
from nb_oomhelper.loading.checkpoint import measure
print(measure({str(path)!r}).size)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == str(SIZE)
