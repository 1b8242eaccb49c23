"""Models that are not here, by the headers of their files: the real huggingface_hub against a server of our own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.loading.gguf_files import LLAMA, SIZE, WEIGHTS, write_gguf
from tests.loading.hub_server import Hub, serving
from tests.shells import in_shell

pytestmark = pytest.mark.plain

MIB = 1 << 20
CODE = """
import json, sys
from nb_oomhelper.loading.estimate import plan
from nb_oomhelper.showing.load_table import above, to_json
for model in sys.argv[2:]:
    found = plan(model, online=sys.argv[1] == "online", tokens=100)
    print(json.dumps([json.loads(to_json(found)), above(found, "en")]))
"""
CONFIG = {"model_type": "llama", "hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4}


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    pytest.importorskip("huggingface_hub")
    torch, safetensors = pytest.importorskip("torch"), pytest.importorskip("safetensors.torch")
    folder = tmp_path_factory.mktemp("hub")
    weights = {f"model.layers.{number}.weight": torch.zeros(1024, 256) for number in range(4)}
    for name in ("one", "whole", "short"):
        (folder / "org" / name).mkdir(parents=True)
        safetensors.save_file(weights, folder / "org" / name / "model.safetensors")
        (folder / "org" / name / "config.json").write_text(json.dumps(CONFIG), "utf-8")
    sharded = folder / "org" / "sharded"
    sharded.mkdir()
    index = {}
    for number, (name, weight) in enumerate(weights.items(), 1):
        file = f"model-0000{number}-of-00004.safetensors"
        safetensors.save_file({name: weight}, sharded / file)
        index[name] = file
    total = {"metadata": {"total_size": 4 * MIB}, "weight_map": index}
    (sharded / "model.safetensors.index.json").write_text(json.dumps(total), "utf-8")
    pickled = folder / "org" / "pickled"
    pickled.mkdir()
    torch.save(weights, pickled / "pytorch_model.bin")
    ggufs = folder / "org" / "ggufs"
    ggufs.mkdir()
    write_gguf(ggufs / "m-Q4_K_M.gguf")
    write_gguf(ggufs / "m-Q8_0.gguf")
    write_gguf(ggufs / "long.gguf", LLAMA | {"tokenizer.ggml.tokens": ["some word"] * 60_000}, WEIGHTS)
    with serving(folder) as one:
        yield one


def asked(hub: Hub, *models: str, how: str = "online", **env: str) -> list[tuple[dict[str, Any], list[str]]]:
    """What is planned, and what is said above it, of each."""
    clean = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    whole = {**clean, "HF_ENDPOINT": hub.url, "HF_HUB_CACHE": str(hub.folder / "none"), "HF_TOKEN": "", **env}
    command = [sys.executable, "-W", "ignore", "-c", CODE, how, *models]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True, env=whole)
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_without_online_nothing_is_asked_and_the_option_is_named(hub: Hub) -> None:
    before = len(hub.sent)
    ((found, above),) = asked(hub, "org/one", how="offline")
    assert len(hub.sent) == before
    assert found["checkpoint"]["size"] is None
    assert above[1] == "%oom plan org/one --online asks the hub for its size: headers of files, and nothing else"


def test_sizes_by_headers(hub: Hub) -> None:
    models = ["one", "sharded", "pickled", "whole", "ggufs/m-Q4_K_M.gguf", "ggufs/long.gguf"]
    found = asked(hub, *(f"org/{one}" for one in models))
    told = [(one["checkpoint"]["how"], one["checkpoint"]["size"]) for one, _ in found]
    assert told == [
        *[("safetensors", 4 * MIB)] * 2,
        ("pickle", 4 * MIB),
        ("safetensors", 4 * MIB),
        *[("gguf", SIZE)] * 2,
    ]
    assert found[0][0]["checkpoint"]["dtypes"] == [["float32", 4 * MIB]]
    assert (
        found[0][0]["writing"]["cache"] % (2 * 4 * 4 * 64 * 100) == 0
    )  # layers, heads, width, tokens, from config.json
    assert "4.00 MiB on the hub" in found[0][1][0]
    assert found[5][0]["checkpoint"]["config"]["vocabulary"] == 60_000
    for file in ("one/model.safetensors", "pickled/pytorch_model.bin"):
        assert 0 < sum(hub.sent[f"cdn/org/{file}"]) < MIB // 2
    assert 2 < len(hub.sent["cdn/org/ggufs/long.gguf"]) < 8  # a megabyte, more at once as one reads on


def test_bad_answers_are_one_line(hub: Hub) -> None:
    expected = {
        "org/nothing": "the hub has no such model, or shows it only to others",
        "org/private": "the hub has no such model, or shows it only to others",
        "org/gated": "the model is gated: accept its terms",
        "org/old": "no such branch, tag or commit",
        "org/broken": "the hub answered with error 500",
        "org/ggufs": "several GGUF files are in it: name one of long.gguf, m-Q4_K_M.gguf, m-Q8_0.gguf",
        "org/ggufs/none.gguf": "the model has no file none.gguf",
        "org/short": "the server sent less than was asked for",
    }
    for told, (found, above) in zip(expected.values(), asked(hub, *expected), strict=True):
        assert found["checkpoint"]["size"] is None
        assert told in above[0]


def test_no_network(hub: Hub) -> None:
    ((_, refused),) = asked(hub, "org/one", HF_ENDPOINT="http://127.0.0.1:9")
    assert "the hub cannot be reached (Connect" in refused[0]
    ((_, offline),) = asked(hub, "org/one", HF_HUB_OFFLINE="1")
    assert "HF_HUB_OFFLINE is set" in offline[0]


def test_a_hub_that_does_not_answer_is_waited_for_so_long(hub: Hub) -> None:
    code = "from nb_oomhelper.loading.checkpoint import measure_online as m; print(m('org/slow', deadline=1.5).note)"
    env = {**os.environ, "HF_ENDPOINT": hub.url, "NO_PROXY": "127.0.0.1"}
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=25, check=True, env=env
    )  # it sleeps for 30 s
    assert "online.unreachable" in done.stdout
    assert "ReadTimeout" in done.stdout


def test_without_the_library(hub: Hub) -> None:
    code = """
import sys
sys.modules["huggingface_hub"] = None
from nb_oomhelper.loading.checkpoint import measure_online
print(measure_online("org/one").note.key)
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "online.no_library"


def test_as_a_command(hub: Hub) -> None:
    code = f"""
import os
os.environ.update(HF_ENDPOINT={hub.url!r}, HF_HUB_CACHE="/nowhere", NO_PROXY="127.0.0.1")
cell("%load_ext nb_oomhelper")
tell(cell("%oom plan org/one"), cell("%oom plan org/one --online"), cell("%oom plan ./none --online"))
"""
    plain, online, none = in_shell(code)
    assert "--online asks the hub" in plain
    assert "4.00 MiB on the hub" in online
    assert "the hub has models of names such as org/name" in none
