"""How many bytes a checkpoint needs: against what is really loaded, and against files that lie."""

from __future__ import annotations

import collections
import json
import os
import pickle
import struct
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nb_oomhelper.loading.checkpoint import Checkpoint, Config, TensorSize, measure
from nb_oomhelper.loading.checkpoint._cache import CacheLayers
from nb_oomhelper.loading.checkpoint._files import LONGEST_JSON
from nb_oomhelper.showing.notes import say_note

pytestmark = pytest.mark.plain
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="counts what is read, or limits memory, as Linux does")

Shapes = dict[str, tuple[str, tuple[int, ...]]]  # name -> dtype as safetensors writes it, shape
WIDTH = {"F32": 4, "F16": 2, "BF16": 2, "I64": 8, "U8": 1, "F8_E4M3": 1}
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def header(shapes: Shapes) -> dict[str, Any]:
    found: dict[str, Any] = {}
    end = 0
    for name, (dtype, shape) in shapes.items():
        start, size = end, WIDTH[dtype]
        for side in shape:
            size *= side
        end = start + size
        found[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}
    return found


def write(path: Path, head: Any, stored: int | None = None) -> Path:
    """Write a safetensors file whose data is a hole: a JSON object, or the header's bytes as they are."""
    data = head if isinstance(head, bytes) else json.dumps(head).encode()
    if stored is None:
        stored = max((one["data_offsets"][1] for one in head.values() if "dtype" in one), default=0)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(data)) + data)
        file.truncate(8 + len(data) + stored)
    return path


def save(path: Path, **shapes: tuple[str, tuple[int, ...]]) -> int:
    """Write a good file and tell the bytes of its tensors."""
    head = header(shapes)
    write(path, head)
    return int(max(one["data_offsets"][1] for one in head.values()))


def write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


def check(found: Checkpoint) -> Checkpoint:
    """What holds for every answer."""
    if found.how == "unknown":
        assert (found.size, found.tensors, found.dtypes) == (None, (), ())
        assert found.note
    if found.note is not None:
        line = say_note(found.note, "en")
        assert line == line.strip()
        assert line.isprintable()
        assert len(line) < 400
    if found.tensors:
        assert found.size == sum(one.size for one in found.tensors) == sum(size for _, size in found.dtypes)
        assert [size for _, size in found.dtypes] == sorted((size for _, size in found.dtypes), reverse=True)
    return found


def told(found: Checkpoint) -> str:
    return "" if found.note is None else say_note(found.note, "en")


def refused(path: Path) -> str:
    """Why a file is not read."""
    found = check(measure(path))
    assert found.how == "unknown", found
    assert found.note is not None
    return say_note(found.note, "en")


# -- arithmetic ------------------------------------------------------------------------------------------------------


def some(*tensors: tuple[str, str, tuple[int, ...], int]) -> Checkpoint:
    sizes = tuple(TensorSize(name=name, dtype=dtype, shape=shape, size=size) for name, dtype, shape, size in tensors)
    return Checkpoint(source="", how="safetensors", tensors=sizes, size=sum(one.size for one in sizes))


MIXED = some(
    ("model.embed_tokens.weight", "float32", (100, 64), 25600),
    ("model.layers.0.mlp.weight", "float32", (32, 64), 8192),
    ("model.layers.0.norm.weight", "float32", (64,), 256),
    ("model.layers.0.position_ids", "int64", (1, 10), 80),
    ("model.layers.0.packed.weight", "float4_e2m1fn_x2", (4, 32), 64),
    ("lm_head.weight", "float32", (100, 64), 25600),
)


class TestArithmetic:
    def test_another_dtype_changes_floats_only(self) -> None:
        values = 6400 + 2048 + 64 + 128 + 6400
        assert MIXED.size_as("float16") == MIXED.size_as("bfloat16") == 2 * values + 80
        assert MIXED.size_as("float32") == 4 * values + 80
        assert MIXED.size_as("float64") == 8 * values + 80
        assert MIXED.size_as("int8") is None

    def test_quantized_takes_large_weights_but_for_embeddings_and_output(self) -> None:
        rest = 2 * (6400 + 64 + 6400) + 80 + 64
        assert MIXED.quantized(4) == rest + 2048 // 2 + 4 * 2048 // 64
        assert MIXED.quantized(8) == rest + 2048 + 4 * 32
        assert MIXED.quantized(3) is None

    @pytest.mark.parametrize(
        ("name", "kept"),
        [
            ("transformer.wte.weight", True),
            ("output.weight", True),
            ("bert.embeddings.word_embeddings.weight", True),
            ("encoder.layer.0.output.dense.weight", False),
            ("unet.proj.weight", False),
        ],
    )
    def test_what_stays_in_16_bits(self, name: str, kept: bool) -> None:
        assert (some((name, "float16", (64, 64), 8192)).quantized(4) == 8192) == kept

    def test_nothing_is_told_of_a_total_alone(self) -> None:
        only = Checkpoint(source="", how="index", size=100)
        assert (only.size_as("float16"), only.quantized(4)) == (None, None)

    def test_keys_and_values(self) -> None:
        config = Config(cache=(CacheLayers(count=80, width=2 * 8 * 128),))
        assert config.kv_cache(1000, batch=3) == 2 * 80 * 8 * 128 * 1000 * 3 * 2
        assert Config(layers=80).kv_cache(1) is None


class TestConfig:
    def read(self, folder: Path, **said: Any) -> Config:
        write_json(folder / "config.json", said)
        found = check(measure(folder)).config
        assert found is not None
        return found

    def test_gpt2_calls_things_otherwise(self, tmp_path: Path) -> None:
        found = self.read(tmp_path, n_embd=64, n_layer=3, n_head=4, n_positions=128, torch_dtype="torch.float16")
        assert (found.hidden_size, found.layers, found.heads, found.kv_heads, found.head_dim) == (64, 3, 4, 4, 16)
        assert (found.context, found.dtype) == (128, "float16")

    def test_one_with_several_parts(self, tmp_path: Path) -> None:
        text = {
            "hidden_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "head_dim": 32,
            "dtype": "bfloat16",
        }
        found = self.read(tmp_path, model_type="both", architectures=["A"], text_config=text, vision_config={})
        assert (found.model_type, found.architectures, found.dtype) == ("both", ("A",), "bfloat16")
        assert found.kv_cache(1) == 2 * 2 * 4 * 32 * 2

    def test_one_head_for_all(self, tmp_path: Path) -> None:
        assert self.read(tmp_path, n_head=8, multi_query=True).kv_heads == 1
        assert (
            self.read(tmp_path, n_head=8, multi_query=True, new_decoder_architecture=True, num_kv_heads=4).kv_heads == 4
        )

    def test_compressed_keys_are_not_guessed(self, tmp_path: Path) -> None:
        said = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "kv_lora_rank": 16}
        assert self.read(tmp_path, **said).kv_cache(1) is None

    def test_nonsense_is_unknown(self, tmp_path: Path) -> None:
        odd = {"hidden_size": "64", "num_hidden_layers": True, "num_attention_heads": -1, "vocab_size": 1e9}
        assert self.read(tmp_path, **odd, architectures="A", dtype=4, quantization_config=[]) == Config()
        assert self.read(tmp_path, quantization_config={"quant_method": "gptq"}).quantization == "gptq"


# -- real files ------------------------------------------------------------------------------------------------------


def model(kind: str, dtype: str) -> Any:
    transformers, torch = pytest.importorskip("transformers"), pytest.importorskip("torch")
    torch.manual_seed(0)
    if kind == "gpt2":  # its output layer is its embedding
        one = transformers.GPT2LMHeadModel(transformers.GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=100))
    elif kind == "bert":
        config = transformers.BertConfig(
            hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, vocab_size=100
        )
        one = transformers.BertModel(config)
    else:
        config = transformers.LlamaConfig(
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            vocab_size=100,
            tie_word_embeddings=kind == "tied",
        )
        one = transformers.LlamaForCausalLM(config)
    return one.to(getattr(torch, dtype))


def loaded(state: dict[str, Any]) -> dict[str, int]:
    """Bytes by dtype of a state dict, each storage once."""
    sizes: dict[str, int] = {}
    seen = set()
    for tensor in state.values():
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in seen:
            seen.add(storage.data_ptr())
            dtype = str(tensor.dtype).removeprefix("torch.")
            sizes[dtype] = sizes.get(dtype, 0) + storage.nbytes()
    return sizes


class TestSavedByTransformers:
    @pytest.mark.parametrize("shard", ["1GB", "40KB"])
    @pytest.mark.parametrize(
        ("kind", "dtype"), [("llama", "bfloat16"), ("tied", "float32"), ("gpt2", "float16"), ("bert", "float64")]
    )
    def test_size_is_what_is_loaded(self, tmp_path: Path, kind: str, dtype: str, shard: str) -> None:
        one = model(kind, dtype)
        one.save_pretrained(tmp_path, max_shard_size=shard)
        found = check(measure(tmp_path))
        assert (found.how, found.note) == ("safetensors", None)
        state = type(one).from_pretrained(tmp_path, dtype="auto").state_dict()
        assert dict(found.dtypes) == loaded(state)
        assert {one.name: one.shape for one in found.tensors}.items() <= {
            name: tuple(tensor.shape) for name, tensor in state.items()
        }.items()
        assert found.size_as("float32") == sum(loaded(one.float().state_dict()).values())
        assert found.config is not None
        assert (found.config.layers, found.config.heads, found.config.dtype) == (2, 4, dtype)

    @pytest.mark.parametrize("kind", ["llama", "tied", "gpt2", "bert"])
    def test_built_from_the_config_alone(self, tmp_path: Path, kind: str) -> None:
        one = model(kind, "float32")
        one.config.architectures = [type(one).__name__]
        one.config.save_pretrained(tmp_path)
        assert check(measure(tmp_path)).how == "unknown"
        found = check(measure(tmp_path, build=True))
        assert (found.how, found.size) == ("config", sum(loaded(one.state_dict()).values()))

    def test_what_is_not_built(self, tmp_path: Path) -> None:
        pytest.importorskip("transformers")
        write_json(tmp_path / "config.json", {"model_type": "llama", "num_hidden_layers": 10**9})
        assert "too large" in told(check(measure(tmp_path, build=True)))
        write_json(tmp_path / "config.json", {"model_type": "detr", "use_pretrained_backbone": True})
        assert "without fetching" in told(check(measure(tmp_path, build=True)))
        (tmp_path / "own.py").write_text("raise SystemExit('run')")
        write_json(tmp_path / "config.json", {"model_type": "own", "auto_map": {"AutoConfig": "own.Own"}})
        assert "cannot be built" in told(check(measure(tmp_path, build=True)))


class TestSavedByTorch:
    @pytest.mark.parametrize("zipped", [True, False])
    @pytest.mark.parametrize("kind", ["llama", "gpt2"])
    def test_a_state_dict(self, tmp_path: Path, kind: str, zipped: bool) -> None:
        torch = pytest.importorskip("torch")
        state = model(kind, "bfloat16").state_dict()
        torch.save(state, tmp_path / "model.pt", _use_new_zipfile_serialization=zipped)
        found = check(measure(tmp_path / "model.pt"))
        assert (found.how, found.note) == ("pickle", None)
        assert dict(found.dtypes) == loaded(state)
        assert all(tuple(state[one.name].shape) == one.shape for one in found.tensors)

    @pytest.mark.parametrize("zipped", [True, False])
    @pytest.mark.parametrize("dtype", ["float8_e4m3fn", "uint16", "int8", "complex64", "bool", "float16", "int64"])
    def test_dtypes(self, tmp_path: Path, dtype: str, zipped: bool) -> None:
        torch = pytest.importorskip("torch")
        torch.save(
            {"w": torch.zeros(3, 5).to(getattr(torch, dtype))},
            tmp_path / "w.bin",
            _use_new_zipfile_serialization=zipped,
        )
        (tensor,) = check(measure(tmp_path / "w.bin")).tensors
        item = getattr(torch, dtype).itemsize
        assert tensor == TensorSize(name="w", dtype=dtype, shape=(3, 5), size=15 * item)

    @pytest.mark.parametrize("zipped", [True, False])
    def test_views_count_their_storage_once(self, tmp_path: Path, zipped: bool) -> None:
        torch = pytest.importorskip("torch")
        whole = torch.zeros(10, 10)
        part = torch.zeros(10, 10)[3:4]
        saved = {"first": whole[0], "whole": whole, "list": [part, part[0]]}
        torch.save(saved, tmp_path / "v.pth", _use_new_zipfile_serialization=zipped)
        found = check(measure(tmp_path / "v.pth"))
        assert [(one.name, one.shape) for one in found.tensors] == [("whole", (10, 10)), ("list.0", (100,))]
        torch.save([torch.zeros(3).untyped_storage()], tmp_path / "s.pt", _use_new_zipfile_serialization=zipped)
        assert [(one.dtype, one.size) for one in check(measure(tmp_path / "s.pt")).tensors] == [("uint8", 12)]

    def test_a_training_checkpoint_and_a_whole_module(self, tmp_path: Path) -> None:
        torch = pytest.importorskip("torch")
        net = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.BatchNorm1d(4))
        optimizer = torch.optim.Adam(net.parameters())
        net(torch.ones(2, 4)).sum().backward()
        optimizer.step()
        torch.save({"model": net.state_dict(), "optimizer": optimizer.state_dict(), "step": 3}, tmp_path / "all.ckpt")
        found = check(measure(tmp_path / "all.ckpt"))
        names = {one.name for one in found.tensors}
        assert {"model.0.weight", "model.1.running_mean", "optimizer.state.0.exp_avg"} <= names
        state = loaded(net.state_dict())
        assert found.size == state["float32"] + state["int64"] + 2 * 4 * (16 + 4 + 4 + 4) + 4 * 4
        torch.save(net, tmp_path / "net.pt")
        found = check(measure(tmp_path / "net.pt"))
        assert {one.name for one in found.tensors} == set(net.state_dict())
        assert dict(found.dtypes) == state

    @pytest.mark.parametrize("zipped", [True, False])
    @pytest.mark.parametrize("protocol", range(2, 6))
    def test_what_may_stand_beside_tensors(self, tmp_path: Path, protocol: int, zipped: bool) -> None:
        torch = pytest.importorskip("torch")
        beside = {"set": {1, 2}, "frozen": frozenset([(3,)]), "bytes": b"b", "array": bytearray(b"a"), 7: -1 << 70}
        queue = collections.deque([torch.zeros(2)])
        saved = {**beside, "float": 1.5, "none": None, "queue": queue, "pair": (True, [torch.zeros(3)])}
        path = tmp_path / "w.pt"
        torch.save(saved, path, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
        found = check(measure(path))
        assert (found.size, found.note) == (20, None)
        assert [one.name for one in found.tensors] == ["queue.0", "pair.0"]

    def test_torchscript_gives_its_total(self, tmp_path: Path) -> None:
        torch = pytest.importorskip("torch")
        torch.jit.trace(torch.nn.Linear(8, 8), torch.ones(1, 8)).save(tmp_path / "s.pt")
        found = check(measure(tmp_path / "s.pt"))
        assert (found.how, found.size, found.tensors) == ("pickle", 4 * 72, ())
        assert "TorchScript" in told(found)

    @on_linux
    @pytest.mark.parametrize("zipped", [True, False])
    def test_storages_are_not_read(self, tmp_path: Path, zipped: bool) -> None:
        torch = pytest.importorskip("torch")
        torch.save({"w": torch.zeros(1 << 22)}, tmp_path / "w.pt", _use_new_zipfile_serialization=zipped)
        before = read_so_far()
        assert measure(tmp_path / "w.pt").size == 4 << 22
        assert read_so_far() - before < 1 << 20


def read_so_far() -> int:
    """Bytes that this process has read."""
    line = next(line for line in Path("/proc/self/io").read_text().splitlines() if line.startswith("rchar"))
    return int(line.split()[1])


# -- folders ---------------------------------------------------------------------------------------------------------


def save_shards(folder: Path, total: int | None, *names: str) -> int:
    size = 0
    places = {}
    for i, name in enumerate(names):
        size += save(folder / name, **{f"w{i}": ("F16", (8, 8))})
        places[f"w{i}"] = name
    said = {"weight_map": places} | ({} if total is None else {"metadata": {"total_size": total}})
    write_json(folder / "model.safetensors.index.json", said)
    return size


class TestFolders:
    def test_the_order_is_that_of_transformers(self, tmp_path: Path) -> None:
        loose = save(tmp_path / "consolidated.safetensors", w=("F16", (1,)))
        assert measure(tmp_path).size == loose
        adapter = save(tmp_path / "adapter_model.safetensors", w=("F16", (2,)))
        assert measure(tmp_path).size == adapter
        index = save_shards(tmp_path, None, "a.safetensors")
        assert measure(tmp_path).size == index
        whole = save(tmp_path / "model.safetensors", w=("F16", (3,)))
        assert measure(tmp_path).size == whole
        variant = save(tmp_path / "model.fp16.safetensors", w=("F16", (4,)))
        assert measure(tmp_path).size == whole
        assert measure(tmp_path, variant="fp16").size == variant

    def test_a_variant_that_is_not_there(self, tmp_path: Path) -> None:
        size = save(tmp_path / "model.safetensors", w=("F16", (3,)))
        found = check(measure(tmp_path, variant="bf16"))
        assert (found.size, "no variant bf16" in told(found)) == (size, True)

    @pytest.mark.parametrize("name", ["model.safetensors.index.fp16.json", "model.fp16.safetensors.index.json"])
    def test_the_index_of_a_variant(self, tmp_path: Path, name: str) -> None:
        size = save_shards(tmp_path, None, "a.safetensors", "b.safetensors")
        (tmp_path / "model.safetensors.index.json").rename(tmp_path / name)
        assert measure(tmp_path, variant="fp16").size == size

    def test_shards_of_torch(self, tmp_path: Path) -> None:
        torch = pytest.importorskip("torch")
        torch.save({"a": torch.zeros(4)}, tmp_path / "one.bin")
        torch.save({"b": torch.zeros(5)}, tmp_path / "two.bin")
        write_json(tmp_path / "pytorch_model.bin.index.json", {"weight_map": {"a": "one.bin", "b": "two.bin"}})
        found = check(measure(tmp_path))
        assert (found.how, found.size, [one.name for one in found.tensors]) == ("pickle", 36, ["a", "b"])

    def test_missing_shards_leave_the_total(self, tmp_path: Path) -> None:
        save_shards(tmp_path, 1000, "a.safetensors", "b.safetensors", "c.safetensors")
        (tmp_path / "b.safetensors").unlink()
        found = check(measure(tmp_path))
        assert (found.how, found.size, found.tensors) == ("index", 1000, ())
        assert "1 of 3 shards left out (b.safetensors: it is missing)" in told(found)

    def test_missing_shards_without_a_total(self, tmp_path: Path) -> None:
        save_shards(tmp_path, None, "a.safetensors", "b.safetensors")
        (tmp_path / "b.safetensors").unlink()
        assert "1 of 2 shards left out" in refused(tmp_path)

    @pytest.mark.parametrize("place", ["../a.safetensors", "/a.safetensors", "b\\..\\a", 3, None, ["a"]])
    def test_shards_elsewhere(self, tmp_path: Path, place: Any) -> None:
        write_json(tmp_path / "model.safetensors.index.json", {"weight_map": {"w": place}})
        assert "no index of shards" in refused(tmp_path)

    @pytest.mark.parametrize("total", [True, -1, 1.5, "9", 1 << 70])
    def test_totals_that_are_none(self, tmp_path: Path, total: Any) -> None:
        said = {"weight_map": {"w": "gone.safetensors"}, "metadata": {"total_size": total}}
        write_json(tmp_path / "model.safetensors.index.json", said)
        assert "has no total" in refused(tmp_path)

    def test_a_tensor_in_two_shards_counts_once(self, tmp_path: Path) -> None:
        size = save(tmp_path / "a.safetensors", w=("F16", (8,)))
        save(tmp_path / "b.safetensors", w=("F16", (8,)))
        assert measure(tmp_path).size == size

    def test_a_pipeline_is_the_sum_of_its_components(self, tmp_path: Path) -> None:
        said = {
            "_class_name": "StableDiffusionPipeline",
            "unet": ["diffusers", "UNet2DConditionModel"],
            "text_encoder": ["transformers", "CLIPTextModel"],
            "safety_checker": [None, None],
            "scheduler": ["diffusers", "DDIMScheduler"],
            "tokenizer": ["transformers", "CLIPTokenizer"],
        }
        write_json(tmp_path / "model_index.json", said)
        size = save(tmp_path / "unet" / "diffusion_pytorch_model.safetensors", w=("F32", (8,)))
        size += save(tmp_path / "text_encoder" / "model.safetensors", w=("F16", (8,)))
        write_json(tmp_path / "scheduler" / "scheduler_config.json", {})
        found = check(measure(tmp_path))
        assert (found.how, found.size, found.note) == ("safetensors", size, None)
        assert {one.name for one in found.tensors} == {"unet.w", "text_encoder.w"}
        (tmp_path / "unet" / "diffusion_pytorch_model.safetensors").unlink()
        assert "1 of 2 parts left out (unet" in told(check(measure(tmp_path)))
        assert measure(tmp_path, subfolder="text_encoder").size == 16

    def test_an_adapter_names_its_base(self, tmp_path: Path) -> None:
        size = save(tmp_path / "adapter_model.safetensors", w=("F32", (8, 2)))
        write_json(tmp_path / "adapter_config.json", {"base_model_name_or_path": "org/base"})
        found = check(measure(tmp_path))
        assert (found.size, "adapter of org/base" in told(found)) == (size, True)

    def test_a_trainers_own_files_do_not_count(self, tmp_path: Path) -> None:
        torch = pytest.importorskip("torch")
        torch.save({"w": torch.zeros(4)}, tmp_path / "consolidated.00.pth")
        torch.save({"w": torch.zeros(400)}, tmp_path / "optimizer.pt")
        assert measure(tmp_path).size == 16

    def test_nothing_there(self, tmp_path: Path) -> None:
        assert "no weights" in refused(tmp_path)
        assert "no such file" in refused(tmp_path / "gone")
        assert measure(tmp_path, subfolder="gone").how == "unknown"

    @pytest.mark.parametrize("name", ["", "\0", "a" * 5000, "a/b/c", "..", "~", "org/na\nme", b"bytes", 3, None])
    def test_odd_names(self, name: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "empty").mkdir()
        monkeypatch.chdir(tmp_path / "empty")
        assert check(measure(name, cache_dir=tmp_path)).how == "unknown"

    def test_no_time_at_all(self, tmp_path: Path) -> None:
        save_shards(tmp_path, 1000, "a.safetensors", "b.safetensors")
        found = check(measure(tmp_path, deadline=0.0))
        assert (found.how, found.size) == ("index", 1000)
        assert "2 of 2 shards left out" in told(found)
        assert "the time was up" in told(check(measure(tmp_path / "a.safetensors", deadline=0.0)))

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
    def test_a_pipe_does_not_hold_it_up(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "a.safetensors")
        write_json(tmp_path / "model.safetensors.index.json", {"weight_map": {"w": "a.safetensors"}})
        assert "no regular file" in refused(tmp_path)


class TestHubCache:
    @pytest.fixture
    def cache(self, tmp_path: Path) -> Path:
        repo = tmp_path / "models--org--name"
        save(repo / "blobs" / "abc", w=("F16", (8,)))
        snapshot = repo / "snapshots" / COMMIT
        snapshot.mkdir(parents=True)
        (snapshot / "model.safetensors").symlink_to("../../blobs/abc")
        for name in ("main", "refs--none", "pr/1"):
            (repo / "refs" / name).parent.mkdir(parents=True, exist_ok=True)
            (repo / "refs" / name).write_text(COMMIT)
        return tmp_path

    @pytest.mark.parametrize("revision", [None, "main", "pr/1", COMMIT])
    def test_by_name(self, cache: Path, revision: str | None) -> None:
        assert measure("org/name", cache_dir=cache, revision=revision).size == 16

    @pytest.mark.parametrize("revision", ["v1", "../../..", "../snapshots", "/etc"])
    def test_another_revision(self, cache: Path, revision: str) -> None:
        assert measure("org/name", cache_dir=cache, revision=revision).how == "unknown"

    @pytest.mark.parametrize("commit", ["../../..", "/", "", COMMIT + "\n/..", ".."])
    def test_a_reference_that_leads_elsewhere(self, cache: Path, commit: str) -> None:
        (cache / "models--org--name" / "refs" / "main").write_text(commit)
        assert measure("org/name", cache_dir=cache).how == "unknown"

    @pytest.mark.parametrize(
        ("name", "below"), [("HF_HUB_CACHE", ""), ("HF_HOME", "hub"), ("XDG_CACHE_HOME", "huggingface/hub")]
    )
    def test_by_the_environment(
        self, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, below: str
    ) -> None:
        monkeypatch.delitem(sys.modules, "huggingface_hub.constants", raising=False)
        for one in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
            monkeypatch.delenv(one, raising=False)
        home = tmp_path / "home"
        (home / below).mkdir(parents=True)
        (cache / "models--org--name").rename(home / below / "models--org--name")
        monkeypatch.setenv(name, str(home))
        assert measure("org/name").size == 16

    def test_as_huggingface_hub_finds_it(self, cache: Path) -> None:
        hub = pytest.importorskip("huggingface_hub")
        path = hub.try_to_load_from_cache("org/name", "model.safetensors", cache_dir=cache)
        assert measure(path).size == measure("org/name", cache_dir=cache).size == 16

    def test_a_file_that_was_not_fetched(self, cache: Path) -> None:
        (cache / "models--org--name" / "blobs" / "abc").unlink()
        assert measure("org/name", cache_dir=cache).how == "unknown"


# -- files that lie --------------------------------------------------------------------------------------------------

GOOD = header({"a": ("F32", (2, 3)), "b": ("U8", (4,))})


def altered(**changes: Any) -> dict[str, Any]:
    return {"a": GOOD["a"] | changes, "b": GOOD["b"]}


class TestHeaders:
    @pytest.mark.parametrize(
        ("head", "why"),
        [
            (b"", "not valid JSON"),
            (b'{"a": {"dtype": "U8"}} more', "not valid JSON"),
            (b"{", "not valid JSON"),
            (b"[]", "not an object"),
            (b'{"a": "\xff"}', "not valid JSON"),
            (b'{"a": ' + b"9" * 5000 + b"}", "not valid JSON"),
            (b'{"a":' + b"[" * 200_000, "too deeply"),
            (b'{"a":[' + b"[]," * 1_000_000 + b"[]]}", "too many parts"),
            (b'{"a": {}, "a": {}}', "a name twice"),
            (b'{"a": {"dtype": "F32", "dtype": "F32"}}', "a name twice"),
            ({"a": 3}, "where a lies"),
            ({"a": {}}, "where a lies"),
            (altered(data_offsets=[-4, 24]), "where a lies"),
            (altered(data_offsets=[24, 0]), "where a lies"),
            (altered(data_offsets=[0, 24, 28]), "where a lies"),
            (altered(data_offsets=[False, 24]), "where a lies"),
            (altered(data_offsets=[0.0, 24]), "where a lies"),
            (altered(data_offsets=[0, 1 << 70]), "where a lies"),
            (altered(data_offsets=[0, 26]), "in the wrong place"),
            (altered(data_offsets=[0, 20]), "in the wrong place"),
            (altered(data_offsets=[4, 24]), "in the wrong place"),
            (altered(dtype="F33"), "dtype that is not known: F33"),
            (altered(dtype=["F32"]), "dtype that is not known"),
            (altered(dtype="\n" * 500), "dtype that is not known"),
            (altered(shape=[2, 4]), "no shape of a"),
            (altered(shape=[6, True]), "no shape of a"),
            (altered(shape=[-2, -3]), "no shape of a"),
            (altered(shape=6), "no shape of a"),
            (altered(shape=[1] * 70), "no shape of a"),
            (altered(shape=[(1 << 62)] * 60), "no shape of a"),
        ],
        ids=lambda value: value if isinstance(value, str) else "",  # some heads are megabytes
    )
    def test_refused(self, tmp_path: Path, head: Any, why: str) -> None:
        assert why in refused(write(tmp_path / "x.safetensors", head, stored=28))

    def test_the_good_one_is_read(self, tmp_path: Path) -> None:
        found = check(measure(write(tmp_path / "x.safetensors", {"__metadata__": {"format": "pt"}, **GOOD}, stored=28)))
        assert (found.size, found.dtypes) == (28, (("float32", 24), ("uint8", 4)))

    @pytest.mark.parametrize(("stored", "why"), [(27, "cut short"), (29, "more than its header")])
    def test_a_file_of_another_length(self, tmp_path: Path, stored: int, why: str) -> None:
        assert why in refused(write(tmp_path / "x.safetensors", GOOD, stored=stored))

    @pytest.mark.parametrize(
        ("data", "why"),
        [
            (b"", "too short"),
            (b"1234567", "too short"),
            (struct.pack("<Q", 3) + b"{}", "cut short in the header"),
            (struct.pack("<Q", LONGEST_JSON + 1), "header would be too large"),
            (b"\xff" * 8, "header would be too large"),
        ],
    )
    def test_lengths(self, tmp_path: Path, data: bytes, why: str) -> None:
        (tmp_path / "x.safetensors").write_bytes(data)
        assert why in refused(tmp_path / "x.safetensors")

    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(head=st.binary(max_size=200), length=st.none() | st.integers(0, (1 << 64) - 1))
    def test_random_bytes(self, tmp_path: Path, head: bytes, length: int | None) -> None:
        data = head if length is None else struct.pack("<Q", length) + head
        for name in ("x.safetensors", "x.bin"):
            (tmp_path / name).write_bytes(data)
            check(measure(tmp_path / name))

    @settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(data=st.data())
    def test_a_good_header_changed(self, tmp_path: Path, data: st.DataObject) -> None:
        head = json.loads(json.dumps(GOOD))
        part = data.draw(st.sampled_from(["dtype", "shape", "data_offsets"]))
        number = st.integers(-(1 << 65), 1 << 65) | st.integers(-2, 30)
        odd = st.recursive(
            st.none() | st.booleans() | number | st.floats() | st.text(max_size=5),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
            max_leaves=5,
        )
        head[data.draw(st.sampled_from(["a", "b"]))][part] = data.draw(st.lists(number, max_size=4) | odd)
        path = write(tmp_path / "x.safetensors", json.dumps(head).encode(), stored=28)
        found = check(measure(path))
        assert found.size in (None, 28)

    @on_linux
    @settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(position=st.integers(0, 200), byte=st.integers(0, 255))
    def test_no_more_than_the_header_is_read(self, tmp_path: Path, position: int, byte: int) -> None:
        path = write(tmp_path / "x.safetensors", header({"w": ("F16", (1 << 13, 1 << 20))}))
        with path.open("r+b") as file:
            file.seek(position)
            file.write(bytes([byte]))
            file.seek(0)
            (claimed,) = struct.unpack("<Q", file.read(8))
        before = read_so_far()
        check(measure(path))
        assert read_so_far() - before < (claimed if claimed <= LONGEST_JSON else 0) + (1 << 16)

    @on_linux
    def test_with_little_memory_and_nothing_imported(self, tmp_path: Path) -> None:
        write(tmp_path / "model.safetensors", header({"w": ("F16", (1 << 14, 1 << 20))}))
        code = (
            "import resource, sys\n"
            "from nb_oomhelper.loading.checkpoint import measure\n"
            "resource.setrlimit(resource.RLIMIT_AS, (1 << 28, 1 << 28))\n"
            "print(measure(sys.argv[1]).size)\n"
            "print(sorted({'torch', 'transformers', 'safetensors', 'huggingface_hub', 'numpy'} & set(sys.modules)))\n"
        )
        command = [sys.executable, "-c", code, str(tmp_path)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        assert done.stdout.split("\n") == [str(2 << 34), "[]", ""]


class Runs:
    """Unpickling this would run a command."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"echo run > {self.path}",)


def repacked(path: Path, change: Any) -> Iterator[tuple[str, bytes]]:
    """The members of a zip archive, changed."""
    with zipfile.ZipFile(path) as archive:
        members = {one: archive.read(one) for one in archive.namelist()}
    change(members)
    yield from members.items()


class TestPickles:
    @pytest.fixture
    def saved(self, tmp_path: Path) -> Path:
        torch = pytest.importorskip("torch")
        torch.save({"w": torch.zeros(4), "v": torch.zeros(8)}, tmp_path / "w.pt")
        return tmp_path / "w.pt"

    @pytest.mark.parametrize("zipped", [True, False])
    def test_code_in_it_does_not_run(self, tmp_path: Path, zipped: bool) -> None:
        torch = pytest.importorskip("torch")
        mark = tmp_path / "mark"
        saved = {"bad": Runs(mark), "w": torch.zeros(4)}
        torch.save(saved, tmp_path / "w.pt", _use_new_zipfile_serialization=zipped)
        found = check(measure(tmp_path / "w.pt"))
        assert (found.size, mark.exists()) == (16, False)
        torch.load(tmp_path / "w.pt", weights_only=False)
        assert mark.exists(), "it would have run"

    @pytest.mark.parametrize("protocol", range(6))
    def test_other_pickles(self, tmp_path: Path, protocol: int) -> None:
        (tmp_path / "x.bin").write_bytes(pickle.dumps({"a": [1, Runs(tmp_path / "mark")]}, protocol))
        assert refused(tmp_path / "x.bin").startswith("x.bin: it is")
        assert not (tmp_path / "mark").exists()

    def alter(self, path: Path, change: Any, **kwargs: Any) -> Path:
        members = list(repacked(path, change))
        with zipfile.ZipFile(path, "w", **kwargs) as archive:
            for name, data in members:
                archive.writestr(name, data)
        return path

    def test_a_storage_is_missing(self, saved: Path) -> None:
        assert "storage is missing" in refused(self.alter(saved, lambda members: members.pop("w/data/0")))

    def test_a_storage_of_another_size(self, saved: Path) -> None:
        path = self.alter(saved, lambda members: members.update({"w/data/0": b"1"}))
        assert "does not fit" in refused(path)

    def test_compressed(self, saved: Path) -> None:
        path = self.alter(saved, lambda members: None, compression=zipfile.ZIP_DEFLATED)
        assert "compressed" in refused(path)

    def test_no_pickle_in_it(self, saved: Path) -> None:
        assert "not one of torch.save" in refused(self.alter(saved, lambda members: members.pop("w/data.pkl")))

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b".",
            b"0.",
            b"\x85.",
            b"u.",
            b"s.",
            b"t.",
            b"Q.",
            b"K\x01Q.",
            b"h\x07.",
            b"\x93.",
            b"}(K\x01u.",
            b"K\x01K\x01a.",
            b"X\xff\xff\xff\xff.",
            b"\x8d" + b"\xff" * 8 + b".",
            b"\x8b\xff\xff\xff\x7f.",
            b"I" + b"9" * 5000 + b"\n.",
            b"((((((",
        ],
        ids=lambda data: repr(data[:12]),
    )
    def test_a_broken_pickle_leaves_the_total(self, saved: Path, data: bytes) -> None:
        found = check(measure(self.alter(saved, lambda members: members.update({"w/data.pkl": data}))))
        assert (found.size, found.tensors, "cannot be followed" in told(found)) == (48, (), True)

    def test_deep_shared_and_long_ones_end(self, saved: Path) -> None:
        laughs = b"]" + b"2\x86" * 60 + b"}q\x00(h\x00h\x00u."  # a tuple of itself, 60 times over
        deep = b"]" * 100_000 + b"a" * 99_999 + b"."
        for data in (laughs, deep):
            check(measure(self.alter(saved, lambda members, data=data: members.update({"w/data.pkl": data}))))
        path = self.alter(saved, lambda members: members.update({"w/data.pkl": b"N0" * 1_200_000 + b"."}))
        assert "only the total" in told(check(measure(path, deadline=0.05)))
        path = self.alter(saved, lambda members: members.update({"w/data.pkl": b"N" * (17 << 20)}))
        assert "too long" in told(check(measure(path)))

    @pytest.mark.parametrize("zipped", [True, False])
    def test_cut_short(self, tmp_path: Path, zipped: bool) -> None:
        torch = pytest.importorskip("torch")
        torch.save({"w": torch.zeros(100)}, tmp_path / "w.pt", _use_new_zipfile_serialization=zipped)
        data = (tmp_path / "w.pt").read_bytes()
        for length in (10, 60, len(data) // 2, len(data) - 400):
            (tmp_path / "w.pt").write_bytes(data[:length])
            assert "w.pt: " in refused(tmp_path / "w.pt")

    @pytest.mark.parametrize("zipped", [True, False])
    def test_changed_bytes(self, tmp_path: Path, zipped: bool) -> None:
        torch = pytest.importorskip("torch")
        path = tmp_path / "w.pt"
        torch.save({"w": torch.zeros(4), "v": [torch.zeros(2)]}, path, _use_new_zipfile_serialization=zipped)
        good = path.read_bytes()

        @settings(max_examples=200, deadline=None)
        @given(position=st.integers(0, len(good) - 1), new=st.binary(max_size=9))
        def changed(position: int, new: bytes) -> None:
            path.write_bytes(good[:position] + new + good[position + len(new) :])
            found = check(measure(path))
            assert found.size is None or found.size <= len(good)

        changed()

    def test_other_kinds_of_file(self, tmp_path: Path) -> None:
        (tmp_path / "x.bin").write_bytes(b"GGUF" + b"\0" * 100)
        assert "GGUF" in refused(tmp_path / "x.bin")
        (tmp_path / "y.h5").write_bytes(b"\x89HDF")
        assert "neither" in refused(tmp_path / "y.h5")
