"""The size of a large checkpoint: its index and headers read, next to the model built without its weights."""

from __future__ import annotations

import importlib.util
import json
import struct
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.timing import Result, Side, Time, take_turns

NAME = "checkpoint"

_TITLE = "Size of a 70-billion-parameter checkpoint's index and headers (made as sparse files)"
_CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "dtype": "bfloat16",
    "hidden_size": 8192,
    "intermediate_size": 28672,
    "num_hidden_layers": 80,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "tie_word_embeddings": False,
}
_BUFFERS = 4096  # bytes; an empty model has buffers that are computed and not stored, and accelerate counts them
_SHARD = 5_000_000_000  # bytes, as models of this size are stored on the hub

# Each side in a process of its own, which prints the milliseconds of its imports, those of its work, and the size.
_TIMED = """
import sys, time
started = time.perf_counter()
{imports}
imported = time.perf_counter()
{work}
ended = time.perf_counter()
print(1000 * (imported - started), 1000 * (ended - imported), size)
"""
_OURS = ("from nb_oomhelper.loading.checkpoint import measure", "size = measure(sys.argv[1]).size")
_THEIRS = (
    """
    from accelerate import init_empty_weights
    from accelerate.utils import calculate_maximum_sizes
    from transformers import AutoConfig, AutoModelForCausalLM
    import transformers.models.llama.modeling_llama
    """,
    """
    config = AutoConfig.from_pretrained(sys.argv[1], local_files_only=True)
    with init_empty_weights():
        model = AutoModelForCausalLM.from_config(config)
    size, _ = calculate_maximum_sizes(model)
    """,
)


def measure(repeats: int | None) -> Iterator[Result]:
    """Compare with what `accelerate estimate-memory` does once it has the config, in a fresh process each time."""
    ours, theirs = "nb_oomhelper reads it", "accelerate and transformers build the empty model"
    with TemporaryDirectory() as folder:
        expected = _write(Path(folder))
        imports: dict[str, list[float]] = {ours: []}
        sides: dict[str, Time] = {ours: _timer(folder, _OURS, imports[ours], expected)}
        notes = ["each in a fresh process; importing is not in the first two lines, but in those below them"]
        if importlib.util.find_spec("accelerate") and importlib.util.find_spec("transformers"):
            imports[theirs] = []
            sides[theirs] = _timer(folder, _THEIRS, imports[theirs], expected)
        else:
            notes.append("accelerate or transformers is not installed here, so there is nothing to compare with")
        times = take_turns(sides, repeats or 7)
    warm = {name: tuple(each[1:]) for name, each in imports.items()}  # the first round does not count
    yield Result(
        name=NAME,
        title=_TITLE,
        sides=(*times, *(Side(name=f"imports: {name}", times=each) for name, each in warm.items())),
        goal=0.1 if len(sides) > 1 else None,
        notes=(*notes, f"{expected:,} bytes are stored, and said"),
    )


def _timer(folder: str, side: tuple[str, str], imports: list[float], expected: int) -> Time:
    """A function that runs a side in a new process, keeps its time to import, and gives that of its work."""
    lines, work = map(textwrap.dedent, side)
    code = _TIMED.format(imports=lines, work=work)

    def run() -> float:
        command = [sys.executable, "-W", "ignore", "-c", code, folder]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
        imported, worked, size = done.stdout.splitlines()[-1].split()
        if not 0 <= int(size) - expected < _BUFFERS:
            raise RuntimeError(f"{size} bytes were said, and {expected} are there")
        imports.append(float(imported))
        return float(worked)

    return run


def _write(folder: Path) -> int:
    """Write config, index and shards, whose data are holes; tell the bytes of all tensors."""
    shards: list[dict[str, tuple[int, ...]]] = [{}]
    filled = 0
    for name, shape in _shapes():
        size = 2 * prod(shape)
        if shards[-1] and filled + size > _SHARD:
            shards.append({})
            filled = 0
        shards[-1][name] = shape
        filled += size
    places: dict[str, str] = {}
    total = 0
    for i, shapes in enumerate(shards, 1):
        file = f"model-{i:05d}-of-{len(shards):05d}.safetensors"
        total += _write_shard(folder / file, shapes)
        places |= dict.fromkeys(shapes, file)
    index = {"metadata": {"total_size": total}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    (folder / "config.json").write_text(json.dumps(_CONFIG), encoding="utf-8")
    return total


def _shapes() -> Iterator[tuple[str, tuple[int, ...]]]:
    """Weights of a Llama of 70 billion parameters."""
    hidden, inner, keys, words = 8192, 28672, 1024, 128256
    yield "model.embed_tokens.weight", (words, hidden)
    for layer in range(80):
        before = f"model.layers.{layer}"
        yield f"{before}.input_layernorm.weight", (hidden,)
        yield f"{before}.mlp.down_proj.weight", (hidden, inner)
        yield f"{before}.mlp.gate_proj.weight", (inner, hidden)
        yield f"{before}.mlp.up_proj.weight", (inner, hidden)
        yield f"{before}.post_attention_layernorm.weight", (hidden,)
        for part, rows in (("k_proj", keys), ("o_proj", hidden), ("q_proj", hidden), ("v_proj", keys)):
            yield f"{before}.self_attn.{part}.weight", (rows, hidden)
    yield "model.norm.weight", (hidden,)
    yield "lm_head.weight", (words, hidden)


def _write_shard(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> int:
    """Write a header, and a hole of the length that it names; tell that length in bytes."""
    head = {}
    end = 0
    for name, shape in shapes.items():
        start, end = end, end + 2 * prod(shape)
        head[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [start, end]}
    data = json.dumps(head).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(data)) + data)
        file.truncate(8 + len(data) + end)
    return end
