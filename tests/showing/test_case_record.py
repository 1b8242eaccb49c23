"""A case as data: what its schema says, nothing secret in it, and no name of the user's where that is asked for."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from nb_oomhelper.case import Case
from nb_oomhelper.knowledge.catalog import load_catalog
from nb_oomhelper.knowledge.choosing import Choice
from nb_oomhelper.records.event import OomEvent
from nb_oomhelper.records.holdings import Holding, Holdings
from nb_oomhelper.showing.blanking import blanked
from nb_oomhelper.showing.case_page import case_page
from nb_oomhelper.showing.case_record import record_of, schema, to_json
from tests.cases import SCRIPT, rich_case

pytestmark = pytest.mark.plain

SCHEMA = Path(__file__).parents[2] / "docs" / "case.schema.json"
CATALOG = load_catalog()


def valid(text: str) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator(schema()).validate(json.loads(text))


def named_case(*names: str) -> Case:
    case = rich_case()
    rows = tuple(Holding(name=name, kind="variable", backend="cuda", device=0, own=5 << 20) for name in names)
    statement = f"{names[0]} = AutoModel.from_pretrained('x')"
    assert case.event.call is not None
    event = replace(case.event, call=replace(case.event.call, target=names[0], statement=statement))
    plans = tuple(replace(plan, subject=names[0], before=statement, code=statement) for plan in case.plans)
    return replace(case, event=event, snapshot=replace(case.snapshot, holdings=Holdings(rows=rows)), plans=plans)


def test_the_published_schema_is_this_one() -> None:
    """Written by `json.dumps(schema(), indent=2)`."""
    assert json.loads(SCHEMA.read_text("utf-8")) == schema()


@pytest.mark.parametrize("anonymize", [False, True])
def test_a_case_is_as_its_schema_says(anonymize: bool) -> None:
    valid(to_json(rich_case(), CATALOG, anonymize=anonymize))
    found = record_of(rich_case(), CATALOG)
    assert found["event"]["requested"] == 2 << 30
    assert found["fixes"]
    assert {fix["number"] for fix in found["fixes"]} == {plan.number for plan in rich_case().plans}
    assert all(fix["code"] and fix["title"] for fix in found["fixes"])
    assert found["outcomes"]


def test_what_a_message_carries_is_the_same_but_shorter() -> None:
    whole, brief = record_of(rich_case(), CATALOG), record_of(rich_case(), CATALOG, brief=True)
    valid(json.dumps(brief))
    assert len(json.dumps(brief)) < 0.8 * len(json.dumps(whole))
    assert brief["event"] == whole["event"]
    assert brief["diagnosis"] == whole["diagnosis"]
    for short, long in zip(brief["fixes"], whole["fixes"], strict=True):
        assert short.items() <= long.items()
        assert {"number", "title", "verdict", "applicability", "code", "exact"} <= set(short)


@pytest.mark.parametrize("brief", [False, True])
def test_nothing_unknown_or_empty_is_in_it(brief: bool) -> None:
    def values(found: object) -> list[object]:
        inner = list(found.values()) if isinstance(found, dict) else found if isinstance(found, list) else []
        return [*inner, *(deep for one in inner for deep in values(one))]

    found = record_of(rich_case(), CATALOG, brief=brief)
    assert not [one for one in values(found) if one in (None, "", [])]
    assert found["anonymized"] is False  # which is known


def test_a_schema_that_refuses() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    found = record_of(rich_case(), CATALOG)
    found["fixes"][0]["verdict"] = "surely"
    assert not jsonschema.Draft202012Validator(schema()).is_valid(found)


# put together here, so that no file of ours holds what looks like a key
SECRETS = (
    "hf_" + "a1B2" * 8,
    "sk-" + "proj-Abc123" * 3,
    "ghp_" + "x9Y8" * 8,
    "AKIA" + "ABCD1234EFGH5678",
    "eyJ" + "hbGciOiJIUzI1" + "." + "eyJzdWIiOiIxMjM0" + "." + "SflKxwRJSMeKKF2",
)


@pytest.mark.parametrize("secret", SECRETS)
def test_keys_are_blanked_wherever_they_stand(secret: str) -> None:
    case = named_case("llm")
    code = f"llm = load('x', revision={secret!r})  # {secret}"
    case = replace(
        case,
        event=replace(case.event, message=f"no room for {secret}"),
        plans=tuple(replace(plan, code=code, before=code, after=code) for plan in case.plans),
    )
    for text in (to_json(case, CATALOG), case_page(case, CATALOG, "en"), case_page(case, CATALOG, "zh")):
        assert secret not in text
        assert "***" in text
    assert not any(fix["exact"] for fix in record_of(case, CATALOG)["fixes"])
    assert all(fix["exact"] for fix in record_of(named_case("llm"), CATALOG)["fixes"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("token='correct-horse'", "token='***'"),
        ('{"api_key": "correct-horse"}', '{"api_key": "***"}'),
        ("os.environ['WANDB_API_KEY'] = 'correct-horse'", "os.environ['WANDB_API_KEY'] = '***'"),
        ("%env HF_TOKEN=correct-horse", "%env HF_TOKEN=***"),
        ("Authorization: Bearer correct-horse", "Authorization: Bearer ***"),
        ("https://me:pass@host.example/x", "https://***@host.example/x"),
        ("/home/alice/data/x.pt", "~/data/x.pt"),
        ("/Users/alice/data", "~/data"),
        (r"C:\Users\alice\data", r"~\data"),
        ("-----BEGIN PRIVATE KEY-----\nabc\n-----END PRIVATE KEY----- x", "*** x"),
        ("tokens = tokenizer(text)", None),
        ("generate(max_new_tokens=5000000)", None),
        ("batch = {'input_ids': ids}; token='<pad>'", None),
        ("sorted(rows, key=lambda row: row.size)", None),
        ("x = a @ b", None),
    ],
)
def test_what_is_blanked(text: str, expected: str | None) -> None:
    assert blanked(text) == (text if expected is None else expected)


def test_values_of_secret_variables_are_blanked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MY_SECRET", "correct horse")
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    assert blanked([{"x": f"correct horse {tmp_path}/me/a {tmp_path}/mean"}]) == [{"x": f"*** ~/a {tmp_path}/mean"}]


@pytest.mark.parametrize("name", ["secret_project", "model", "cuda", "runs", "项目"])
def test_names_on_request(name: str) -> None:
    """Names that are words of ours change neither the schema's words nor the sentences around them."""
    case = named_case(name, "other_thing")
    plain, without = record_of(case, CATALOG), record_of(case, CATALOG, anonymize=True)
    valid(json.dumps(without))
    assert plain["snapshot"]["holdings"]["rows"][0]["name"] == name
    assert without["snapshot"]["holdings"]["rows"][0]["name"].startswith("name_")
    assert without["event"]["call"]["target"] == without["snapshot"]["holdings"]["rows"][0]["name"]
    assert [one["verdict"] for one in without["fixes"]] == [one["verdict"] for one in plain["fixes"]]
    assert f"{name} = " not in json.dumps(without, ensure_ascii=False)
    assert "other_thing" not in json.dumps(without) + case_page(case, CATALOG, "en", anonymize=True)


def test_a_report_has_all_that_a_tracker_needs() -> None:
    case = rich_case()
    text = case_page(case, CATALOG, "en")
    assert "## Environment" in text
    assert "## Why" in text
    assert text.count("```python") == len(case.plans)
    outside = "".join(text.split("```")[::2])
    assert SCRIPT not in "".join(part for part in outside.split("`")[::2])


def test_code_cannot_end_its_block() -> None:
    case = named_case("llm")
    case = replace(case, plans=tuple(replace(plan, code="x = '''\n```\n# out\n'''") for plan in case.plans))
    assert "````python\n" in case_page(case, CATALOG, "en")


def test_a_message_of_a_mebibyte_makes_no_large_record() -> None:
    case = rich_case()
    case.event = replace(case.event, message="x" * (1 << 20))
    assert len(to_json(case, CATALOG)) < 60_000


def test_a_case_of_which_little_is_known() -> None:
    case = rich_case()
    event = OomEvent(framework="python", backend="host", exception_type="MemoryError", message="", format="py")
    bare = replace(case, event=event, choice=Choice(), plans=(), outcomes=[])
    valid(to_json(bare, CATALOG, anonymize=True))
    assert case_page(bare, CATALOG, "zh").startswith("# ")
