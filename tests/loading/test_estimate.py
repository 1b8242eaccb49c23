"""Where a model would fit, before anybody loads it, and the table of it."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest

import nb_oomhelper
from nb_oomhelper.errors import KnowledgeError, UsageError
from nb_oomhelper.knowledge.catalog import load_catalog
from nb_oomhelper.knowledge.toml_tables import Language
from nb_oomhelper.loading import estimate
from nb_oomhelper.loading.estimate import Estimate, plan
from nb_oomhelper.records.remedy import Placement
from nb_oomhelper.showing import load_table
from nb_oomhelper.showing.rate_text import said_rates

pytestmark = pytest.mark.plain

CATALOG = load_catalog()
MIB = 1 << 20


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small real checkpoint with a config."""
    torch, safetensors = pytest.importorskip("torch"), pytest.importorskip("safetensors.torch")
    weights = {f"model.layers.{number}.weight": torch.zeros(1024, 256) for number in range(4)}
    safetensors.save_file(weights, tmp_path / "model.safetensors")
    config = {"model_type": "llama", "hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4}
    (tmp_path / "config.json").write_text(json.dumps(config | {"vocab_size": 1000}), "utf-8")
    return tmp_path


def rows(found: Estimate) -> dict[str, Placement]:
    return dict(found.rows)


def test_on_this_machine(folder: Path) -> None:
    found = nb_oomhelper.plan(folder, dtype="auto")
    assert (found.model, found.checkpoint.size, found.dtype) == (str(folder), 4 * MIB, "auto")
    asked, half = rows(found)["clear-then-reload"], rows(found)["reload-half"]
    if found.backend == "host":
        assert (asked.gpu, asked.host, asked.disk) == (0, 4 * MIB, 0)
        assert (half.host, found.context) == (2 * MIB, None)
    assert asked.fits is True
    assert "reload-device" not in rows(found) or found.backend == "cuda"
    assert found.beside.cache == 2 * 4 * 4 * 64 * 2048 * 2


def test_another_dtype(folder: Path) -> None:
    found = plan(folder, dtype="float64")
    assert found.rows[0][1].host == 8 * MIB or found.backend == "cuda"
    assert "reload-half" not in rows(plan(folder, dtype="bfloat16"))


def test_what_is_wrong_is_told(folder: Path) -> None:
    with pytest.raises(UsageError, match="there is no GPU 63"):
        plan(folder, device=63)
    with pytest.raises(UsageError, match="dtype is one of auto, float16"):
        plan(folder, dtype="int3")
    with pytest.raises(UsageError, match="dtype is one of auto"):
        plan(folder, dtype="int3", device=63)
    missing = plan(folder / "nothing here")
    assert (missing.checkpoint.size, missing.checkpoint.how) == (None, "unknown")
    assert all(one.fits is None for _, one in missing.rows)


def test_a_gpu_that_is_not_there_is_refused_before_anything_is_imported(tmp_path: Path) -> None:
    """To tell the size of a config alone, the model is built with torch and transformers: that takes seconds."""
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]}))
    code = f"""
import sys, nb_oomhelper
from nb_oomhelper.errors import UsageError
try:
    nb_oomhelper.plan({str(tmp_path)!r}, device=63)
except UsageError as error:
    print(error)
print([name for name in ("torch", "transformers") if name in sys.modules])
"""
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    refused, loaded = done.stdout.splitlines()
    assert refused.startswith("there is no GPU 63 that frameworks in this process can see")
    assert loaded == "[]"


def test_a_loader_that_is_not_in_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate, "_ROW", "nothing")
    with pytest.raises(KnowledgeError, match=r"loaders\.toml has no row 'nothing'"):
        plan("anything")


def on_a_gpu(found: Estimate) -> Estimate:
    placements = {
        "clear-then-reload": Placement(gpu=9 * MIB, host=0, disk=0, fits=False, device=0),
        "reload-half": Placement(gpu=5 * MIB, host=0, disk=0, fits=None, device=0),
        "reload-device": Placement(gpu=9 * MIB, host=0, disk=0, fits=True, device=3),
        "reload-disk": Placement(gpu=4 * MIB, host=2 * MIB, disk=3 * MIB, fits=True, device=0),
    }
    return replace(found, backend="cuda", device=0, context=7 * MIB, free=8 * MIB, rows=tuple(placements.items()))


@pytest.mark.parametrize("language", get_args(Language))
def test_table(folder: Path, language: Language) -> None:
    found = on_a_gpu(plan(folder, dtype="auto"))
    columns, lines = load_table.table(found, CATALOG, {"reload-half": (2, 3)}, language)
    assert len(columns) == 6
    assert [line[1:4] for line in lines] == [
        ("9.00 MiB", "–", "–"),
        ("5.00 MiB", "–", "–"),
        ("9.00 MiB", "–", "–"),
        ("4.00 MiB", "2.00 MiB", "3.00 MiB"),
    ]
    assert [line[4][0] for line in lines] == ["✗", "?", "✓", "✓"]
    assert "3" in lines[1][5]
    said = [said_rates(row, CATALOG, {}, language) for row, _ in found.rows]  # no error here that a claim is about
    assert [line[5] for line in (lines[0], *lines[2:])] == [one or "–" for one in (said[0], *said[2:])]
    assert "cuda:3" in lines[2][0]
    texts = [*load_table.above(found, language), *load_table.below(found, CATALOG, language), *columns]
    assert not [text for text in texts if "{" in text or "$" in text or "None" in text or "`" in text]
    assert any("7.00 MiB" in text for text in texts)  # the CUDA context
    formula = {
        "en": "4 layers × 512 values × 2048 tokens × 2 bytes",
        "zh": "4 层 × 512 个值 × 2048 个 token × 2 字节",
    }
    assert any(formula[language] in text for text in texts)


def test_unknown_says_why(folder: Path) -> None:
    (first, *_) = load_table.above(plan(folder / "nothing"), "en")
    assert first.endswith(
        "size unknown: there is no such file or folder, and no such model in the cache of this machine"
    )


def test_on_the_host_there_is_one_memory(folder: Path) -> None:
    found = replace(plan(folder), backend="host", device=None, free=3 * MIB, host=3 * MIB)
    assert load_table.above(found, "en")[-1] == "host memory available: 3.00 MiB"


def test_shown_as_it_is_it_does_not_name_every_tensor(folder: Path) -> None:
    assert "mlp" not in repr(plan(folder))


def test_json(folder: Path) -> None:
    said = json.loads(load_table.to_json(plan(folder, dtype="auto")))
    assert said["checkpoint"]["size"] == 4 * MIB
    assert said["checkpoint"]["config"]["layers"] == 4
    assert said["rows"][0]["fix"] == "clear-then-reload"
    assert {"gpu", "host", "disk", "fits"} <= said["rows"][0].keys()


def test_nothing_is_loaded_and_no_gpu_is_started(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch: Any = pytest.importorskip("torch")

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("something was loaded")

    for owner, name in ((torch, "load"), (torch.cuda, "_lazy_init"), (torch.cuda, "init")):
        monkeypatch.setattr(owner, name, refuse)
    assert plan(folder).checkpoint.size == 4 * MIB
    assert estimate.plan(str(folder)).rows
