"""`nb_oomhelper.entries`, and the JSON Schema that is published."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import nb_oomhelper
from nb_oomhelper import entries
from nb_oomhelper.errors import KnowledgeError
from tests.conftest import ROOT

pytestmark = pytest.mark.plain

SCHEMA = ROOT / "docs" / "entry.schema.json"


def test_is_found_by_its_name() -> None:
    assert nb_oomhelper.entries is entries


def test_list_get_search() -> None:
    assert len(entries.list()) >= 70
    assert entries.get("cuda-oom-001").code == "CUDA-OOM-001"
    assert [entry.code for entry in entries.search("kv cache vllm fp8")] == ["CUDA-OOM-034"]
    assert [entry.code for entry in entries.search("键值缓存 generate 离线")] == []
    with pytest.raises(KnowledgeError, match="there is no entry"):
        entries.get("nothing")


def test_json_is_what_the_schema_says() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator.check_schema(entries.schema())
    check = jsonschema.Draft202012Validator(entries.schema())
    rows = json.loads(entries.to_json())
    assert [row["code"] for row in rows] == [entry.code for entry in entries.list()]
    assert [error.message for row in rows for error in check.iter_errors(row)] == []
    assert not check.is_valid(rows[0] | {"fix_rate": 101})
    assert not check.is_valid(rows[0] | {"colour": "red"})
    assert not check.is_valid({key: value for key, value in rows[0].items() if key != "title"})


def test_the_published_schema_is_of_these_files() -> None:
    """To write it anew: `json.dumps(entries.schema(), indent=1)`."""
    assert json.loads(Path(SCHEMA).read_text("utf-8")) == entries.schema()


def test_one_or_all() -> None:
    one = entries.get("MPS-OOM-001")
    assert json.loads(entries.to_json(one))[0]["id"] == "mps/high-watermark"
    assert entries.to_markdown(one).startswith("# MPS-OOM-001 · ")
    assert "使用上限" in entries.to_markdown(one, language="zh")
    whole = entries.to_markdown()
    assert [entry.code for entry in entries.list() if f"# {entry.code} · " not in whole] == []
