"""Every packaged entry: whole, sourced, in both languages, and about its own examples and about no others."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import re
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass, replace
from functools import reduce
from importlib import resources

import pytest
from IPython.core.inputtransformer2 import TransformerManager

from nb_oomhelper.failure.detection import detect_text
from nb_oomhelper.knowledge.catalog import load_catalog
from nb_oomhelper.knowledge.choosing import Choice
from nb_oomhelper.knowledge.entry import Entry, Example
from nb_oomhelper.knowledge.toml_tables import Text
from nb_oomhelper.records.diagnosis import Cause, Diagnosis
from nb_oomhelper.records.event import FailedCall, OomEvent

pytestmark = pytest.mark.plain

CATALOG = load_catalog()
ENTRIES = CATALOG.entries
FOLDER = resources.files("nb_oomhelper.knowledge") / "entries"
EXAMPLES = [
    pytest.param(entry, one, id=f"{entry.code}-{at}") for entry in ENTRIES for at, one in enumerate(entry.examples)
]
CODES = [
    pytest.param(row.code, id=f"{entry.code}-{at}")
    for entry in ENTRIES
    for at, row in enumerate(entry.workarounds, 1)
    if row.code
]
HAN = re.compile(r"[\u4e00-\u9fff]")
GIB = 1 << 30


def each(entries: tuple[Entry, ...] = ENTRIES) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("entry", entries, ids=lambda entry: entry.code)


def event_of(example: Example) -> OomEvent:
    """The example as an event: as the detectors read it, or bare where they do not know it."""
    read = detect_text(example.text, example.type)
    event = read or OomEvent(
        framework="",
        backend="",
        exception_type=example.type,
        message=example.text,
        format="unread",
        certainty="probable",
    )
    call = FailedCall(loader="load", module=example.module) if example.module else None
    return replace(event, phase=example.phase, stage=example.stage, remote=example.remote, call=call)


def chosen(example: Example) -> Choice:
    causes = tuple(Cause(kind=kind, size=GIB) for kind in example.causes)
    diagnosis = Diagnosis(requested=GIB, free=0, capacity=None, short=GIB, causes=causes)
    return CATALOG.choose(event_of(example), diagnosis, example.cell, [example.mends] if example.mends else ())


def only_searched(entry: Entry) -> bool:
    """Whether no error leads to it: it has no condition that tells it from others."""
    scope = entry.match
    return not (
        scope.says
        or scope.causes
        or scope.mends
        or scope.formats
        or scope.modules
        or scope.calls
        or scope.remotes
        or scope.stages
    )


def texts_of(record: object, path: str = "") -> Iterator[tuple[str, Text]]:
    """All texts in two languages below a record."""
    if isinstance(record, Text):
        yield path, record
    elif isinstance(record, tuple):
        for at, one in enumerate(record, 1):
            yield from texts_of(one, f"{path}[{at}]")
    elif is_dataclass(record):
        for field in fields(record):
            yield from texts_of(getattr(record, field.name), f"{path}.{field.name}")


def test_there_are_as_many_as_are_said() -> None:
    assert len(ENTRIES) >= 70
    assert CATALOG.problems == ()


def test_files_are_named_by_their_codes() -> None:
    names = {file.name for file in FOLDER.iterdir() if file.name.endswith(".toml")}
    assert names == {f"{entry.code}.toml" for entry in ENTRIES}
    assert len({entry.id for entry in ENTRIES}) == len(ENTRIES)


@each()
def test_files_hold_what_an_entry_needs(entry: Entry) -> None:
    assert re.fullmatch(r"(?:CUDA|HOST|MPS)-OOM-\d{3}", entry.code)
    assert re.fullmatch(r"[a-z0-9-]+/[a-z0-9-]+", entry.id)
    assert entry.workarounds or entry.root_cause_kind == "look_alike"
    assert entry.documentation or entry.sources
    assert any(example.match for example in entry.examples) or only_searched(entry)
    assert any(not example.match for example in entry.examples)
    assert entry.code not in entry.related()
    assert {fix.id for fix in CATALOG.fixes}.issuperset(entry.match.mends)
    assert all(row.when for row in entry.workarounds if row.rate is None)


@each()
def test_both_languages_say_the_same(entry: Entry) -> None:
    """As far as a program can tell: figures and code are the same, and the Chinese is Chinese."""
    for path, text in texts_of(entry):
        assert HAN.search(text.zh), path
        assert not HAN.search(text.en), path
        assert sorted(set(re.findall(r"`[^`]+`", text.en))) == sorted(set(re.findall(r"`[^`]+`", text.zh))), path
        assert sorted(re.findall(r"\d[\d.,]*\d|\d", text.en)) == sorted(re.findall(r"\d[\d.,]*\d|\d", text.zh)), path


@each()
def test_texts_are_short(entry: Entry) -> None:
    for path, text in texts_of(entry):
        assert len(text.en) <= 560, path
    assert len(entry.title.en) <= 90


@each()
def test_no_rate_but_the_first_entrys(entry: Entry) -> None:
    rates = [row.rate for row in entry.workarounds] + [row.rate for row in entry.dead_ends]
    rates += [entry.fix_rate, entry.confidence, entry.evidence]
    assert entry.code == "CUDA-OOM-001" or not any(rates)


@pytest.mark.parametrize("code", CODES)
def test_code_parses(code: str) -> None:
    ast.parse(TransformerManager().transform_cell(code))


@pytest.mark.parametrize("code", CODES)
def test_code_names_arguments_that_exist(code: str) -> None:
    for node in ast.walk(ast.parse(TransformerManager().transform_cell(code))):
        if isinstance(node, ast.Call) and (function := installed(ast.unparse(node.func))) is not None:
            known = inspect.signature(function).parameters
            open_ended = any(one.kind is one.VAR_KEYWORD for one in known.values())
            assert open_ended or {word.arg for word in node.keywords if word.arg} <= known.keys(), ast.unparse(node)


def installed(name: str) -> Callable[..., object] | None:
    """A function or class by its name as code writes it, if its library is here."""
    head, *rest = name.split(".")
    for package in ("torch", "transformers", "accelerate", "diffusers", "jax", "cupy"):
        if importlib.util.find_spec(package) is None:
            continue
        module = importlib.import_module(package)
        start = module if head == package else getattr(module, head, None) if head[:1].isupper() else None
        try:
            found: object = reduce(getattr, rest, start) if start is not None else None
            if callable(found) and inspect.signature(found):
                return found
        except (AttributeError, ValueError, TypeError, ImportError):
            continue
    return None


def test_the_check_of_arguments_sees_them() -> None:
    pytest.importorskip("torch")
    assert installed("torch.load") is not None
    assert installed("no_such_function") is None


@pytest.mark.parametrize(("entry", "example"), EXAMPLES)
def test_examples_agree_with_the_detectors(entry: Entry, example: Example) -> None:
    if example.format is not None:
        event = detect_text(example.text, example.type)
        assert event is not None
        assert event.format == example.format


@pytest.mark.parametrize(("entry", "example"), EXAMPLES)
def test_examples_lead_to_their_entry(entry: Entry, example: Example) -> None:
    best = chosen(example).best
    if example.match:
        assert best is not None
        assert best.entry.code == entry.code
    else:
        assert best is None or best.entry.code != entry.code


@pytest.mark.parametrize(("entry", "example"), EXAMPLES)
def test_no_wrong_entry_is_called_the_match(entry: Entry, example: Example) -> None:
    """Where less is known than an example tells, another entry may be likelier; it is not sure."""
    if not example.match:
        return
    for less in (replace(example, causes=(), cell=""), replace(example, phase="unknown", stage="")):
        best = chosen(less).best
        if best is not None and best.relation == "match":
            assert best.entry.code == entry.code or best.entry.root_cause_kind == "generic"


def test_files_hold_nothing_twice() -> None:
    for file in FOLDER.iterdir():
        if file.name.endswith(".toml"):
            rows = tomllib.loads(file.read_text("utf-8"))
            texts = [example["text"] + str(example) for example in rows["example"]]
            assert len(set(texts)) == len(texts), file.name
