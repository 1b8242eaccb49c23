"""Every sentence in both languages, none missing and none that nobody says."""

from __future__ import annotations

import ast
import locale
import re
import string
import tomllib
from collections.abc import Iterator
from dataclasses import fields as fields_of
from importlib import resources
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

import nb_oomhelper
from nb_oomhelper.knowledge.catalog import load_catalog
from nb_oomhelper.knowledge.entry import Scope
from nb_oomhelper.knowledge.toml_tables import Language
from nb_oomhelper.records.diagnosis import CauseKind, DeadEndKind
from nb_oomhelper.records.event import Phase, Remote
from nb_oomhelper.records.memory import Segment
from nb_oomhelper.records.note import joined, note, size_note
from nb_oomhelper.records.remedy import Applicability
from nb_oomhelper.showing.notes import for_json, say_note
from nb_oomhelper.showing.wording import knows, pick_language, say, say_freed, say_list, say_size
from nb_oomhelper.untrusted import one_line

pytestmark = pytest.mark.plain

FILE = resources.files("nb_oomhelper.showing").joinpath("wording.toml")
SENTENCES: dict[str, dict[str, str]] = {
    f"{section}.{name}": texts
    for section, sentences in tomllib.loads(FILE.read_text("utf-8")).items()
    for name, texts in sentences.items()
}
_CONDITIONS = {"says": "says"}  # the rest are the plural of their names
SECTIONS = {key.partition(".")[0] for key in SENTENCES}
SOURCES = sorted(Path(nb_oomhelper.__file__).parent.rglob("*.py"))


def fields(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


# -- the file --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", SENTENCES)
def test_both_languages_are_whole(key: str) -> None:
    texts = SENTENCES[key]
    assert set(texts) == set(get_args(Language))
    assert all(text == text.strip() and text for text in texts.values())
    assert fields(texts["en"]) == fields(texts["zh"])
    assert not fields(texts["en"]) & {"key", "language"}  # they are parameters of `say`
    assert texts["en"].count("`") == texts["zh"].count("`")
    assert texts["en"].count("`") % 2 == texts["en"].count("**") % 2 == 0
    assert all(name.isidentifier() for name in fields(texts["en"]))


@pytest.mark.parametrize("key", SENTENCES)
def test_the_chinese_is_chinese(key: str) -> None:
    has_words = re.search(r"[A-Za-z]{2,}", re.sub(r"\{\w+\}|`[^`]*`", "", SENTENCES[key]["en"]))
    assert not has_words or re.search(r"[\u4e00-\u9fff]", SENTENCES[key]["zh"])
    assert not re.search(r"[\u4e00-\u9fff]", SENTENCES[key]["en"])


@pytest.mark.parametrize("key", SENTENCES)
def test_chinese_sentences_have_chinese_marks(key: str) -> None:
    """A comma, colon, semicolon or bracket of ASCII's between Chinese words is one of another language's."""
    text = re.sub(r"`[^`]*`|^\? ", "", SENTENCES[key]["zh"])
    assert not re.search(r"[\u4e00-\u9fff}] ?[,:;!?(]|[,:;!?)] ?[\u4e00-\u9fff]|, |: |; ", text)


def test_sizes_are_binary() -> None:
    assert not [key for key, texts in SENTENCES.items() if re.search(r"\b[KMGT]B\b", texts["en"] + texts["zh"])]


# -- who says them ---------------------------------------------------------------------------------------------------


def texts_in(tree: ast.AST) -> Iterator[str]:
    """Patterns of the keys that code may ask for: constants, and f-strings with anything in their braces."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and not node.value.endswith("."):
            yield re.escape(node.value)
        elif isinstance(node, ast.JoinedStr):
            yield "".join(
                re.escape(str(part.value)) if isinstance(part, ast.Constant) else r"[\w ]+" for part in node.values
            )


def asked_for() -> set[str]:
    """Patterns of everything in the code that looks like a key of a section of the file."""
    beginnings = tuple(re.escape(f"{section}.") for section in SECTIONS)
    trees = (ast.parse(path.read_text("utf-8")) for path in SOURCES)
    return {text for tree in trees for text in texts_in(tree) if text.startswith(beginnings)}


def said_directly() -> set[str]:
    """Keys that stand in a call of `say` or `knows`."""
    calls = (node for path in SOURCES for node in ast.walk(ast.parse(path.read_text("utf-8"))))
    return {
        node.args[0].value
        for node in calls
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("say", "knows")
        and node.args
        and isinstance(node.args[0], ast.Constant)
        and isinstance(node.args[0].value, str)
    }


def test_the_search_finds_what_is_said() -> None:
    """Otherwise the two tests below would prove nothing."""
    assert "section.why" in said_directly()
    assert len(said_directly()) > 20
    assert any(re.fullmatch(pattern, "part.free") for pattern in asked_for())


@pytest.mark.parametrize("key", sorted(said_directly()))
def test_every_key_that_is_said_is_there(key: str) -> None:
    assert key in SENTENCES


def test_every_key_that_code_may_ask_for_is_there() -> None:
    lost = {pattern for pattern in asked_for() if not any(re.fullmatch(pattern, key) for key in SENTENCES)}
    assert not lost


def test_every_sentence_is_said_by_somebody() -> None:
    patterns = asked_for()
    unsaid = {key for key in SENTENCES if not any(re.fullmatch(pattern, key) for pattern in patterns)}
    assert not unsaid


def test_keys_that_are_put_together() -> None:
    """Those whose end is a word of the records: every word has its sentence, and no sentence lacks its word."""

    def named(section: str) -> set[str]:
        return {key.partition(".")[2] for key in SENTENCES if key.startswith(f"{section}.")}

    assert named("part") == set(get_args(get_type_hints(Segment)["kind"]))
    special = {"variable_role", "variable_path", "variable_shared", "other_process_unknown", "fragmentation_largest"}
    special |= {"other_process_several", "other_process_several_unknown", "child_process_several"}
    special |= {
        "graph_part",
        "gradients_part",
        "copies_part",
        "too_large_machine",
        "too_large_limit",
        "limit_there",
        "failed_cell_library",
        "too_large_buffer",
    }
    assert named("remote") >= set(get_args(Remote))
    assert named("cause") == set(get_args(CauseKind)) | special
    assert named("cause_kind") == set(get_args(CauseKind))
    assert named("advised") >= {f"dead_{kind}" for kind in get_args(DeadEndKind) if kind != "restart_unchanged"}
    conditions = {one.name for one in fields_of(Scope)} - {"hint", "mends"}
    assert {name.removeprefix("not_") for name in named("choice") if name.startswith("not_")} >= {
        _CONDITIONS.get(name, name.removesuffix("s")) for name in conditions
    }
    assert named("fix") >= set(get_args(Applicability))
    assert {f"phase_{phase}" for phase in get_args(Phase) if phase != "unknown"} <= named("entry")
    assert named("entry") >= {f"backend_{one}" for entry in load_catalog().entries for one in entry.match.backends}


# -- nothing else is said --------------------------------------------------------------------------------------------

PACKAGE = Path(nb_oomhelper.__file__).parent
# What has words of its own: markup, and names that are the same in every language.
WORDLESS = ("showing", "memory", "loading/checkpoint")
A_SENTENCE = re.compile(r"[A-Za-z]+(?: [a-z]+){2,}|[\u4e00-\u9fff]")


def literals(tree: ast.Module) -> Iterator[str]:
    """Texts of code: no docstrings, and nothing that is only logged or raised."""
    skipped: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            skipped.add(id(node.value))
        named = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "debug"
        if isinstance(node, ast.Raise) or named:
            skipped |= {id(inner) for inner in ast.walk(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in skipped:
            yield node.value


def test_a_sentence_in_code_is_seen() -> None:
    tree = ast.parse('"""Not this one at all."""\nx = "the driver is gone"\nraise ValueError("nor this one here")')
    assert [text for text in literals(tree) if A_SENTENCE.search(text)] == ["the driver is gone"]


@pytest.mark.parametrize(
    "path", [path for room in WORDLESS for path in sorted((PACKAGE / room).rglob("*.py"))], ids=lambda path: path.stem
)
def test_no_sentence_stands_in_code(path: Path) -> None:
    texts = [text for text in literals(ast.parse(path.read_text("utf-8"))) if A_SENTENCE.search(text)]
    assert not [text for text in texts if "<" not in text]  # markup is none


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_what_is_said_is_given_all_its_fields(path: Path) -> None:
    """Calls of `say` and `note` whose key is written out, and which name all that they give."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("say", "note")):
            continue
        key = node.args[0] if node.args else None
        if (
            isinstance(key, ast.Constant)
            and isinstance(key.value, str)
            and key.value != "size"
            and all(keyword.arg for keyword in node.keywords)
        ):
            assert {str(keyword.arg) for keyword in node.keywords} >= fields(SENTENCES[key.value]["en"]), key.value


# -- saying them -----------------------------------------------------------------------------------------------------


def test_say() -> None:
    assert say("section.why", "en") == "Why"
    assert say("fix.frees", "zh", size="1.00 GiB") == "释放 1.00 GiB"
    assert say("fix.frees", "en", size="{size}", unused=1) == "frees {size}"
    assert [say_list(words, "zh") for words in ((), ("a",), ("a", "b", "c"))] == ["", "a", "a、b、c"]
    assert say_list(("a", "b"), "en", "list.then") == "a; b"
    assert [say("status.devices", "en", count=count) for count in (0, 1, 2)] == ["0 devices", "1 device", "2 devices"]
    assert [say("fold.more", "en", count=count) for count in (1, 4)] == ["1 more fix", "4 more fixes"]
    assert [say("fix.frees", "zh", size=size) for size in ("未知", "1 字节")] == ["释放未知", "释放 1 字节"]
    with pytest.raises(KeyError):
        say("fix.nothere", "en")
    with pytest.raises(KeyError):
        say("fix.frees", "en")


@pytest.mark.parametrize(
    ("size", "said", "freed"),
    [
        (None, ("unknown", "未知"), ("unknown", "未知")),
        (0, ("0 bytes", "0 字节"), ("nothing", "无变化")),
        (-(96 << 10), ("-96.0 KiB", "-96.0 KiB"), ("nothing", "无变化")),
        (1 << 30, ("1.00 GiB", "1.00 GiB"), ("1.00 GiB", "1.00 GiB")),
    ],
)
def test_sizes(size: int | None, said: tuple[str, str], freed: tuple[str, str]) -> None:
    assert (say_size(size, "en"), say_size(size, "zh")) == said
    assert (say_freed(size, "en"), say_freed(size, "zh")) == freed


def test_notes_are_said_in_either_language() -> None:
    inner = joined(note("nvml.name"), None, note("nvml.memory"), key="list.and")
    found = joined(note("nvml.unread", what=inner, reason=note("nvml.no_permission")), note("nvml.late"))
    assert found is not None
    assert say_note(found, "en") == (
        "could not read name, memory: this user has no permission; the NVIDIA driver does not answer"
    )
    assert say_note(found, "zh") == "无法读取名称、内存：当前用户没有权限；NVIDIA 驱动没有响应"
    assert joined() is joined(None) is None
    limit = note("gpumem.limit", limit="`**x**`", size=size_note(1 << 30), left=size_note(None))
    assert say_note(limit, "zh") == "受 '*x*' 限制为 1.00 GiB，剩余未知"
    assert for_json({"notes": (limit, None)}) == {"notes": ["limited by '*x*' to 1.00 GiB: unknown left", None]}


def test_knows() -> None:
    assert knows("role.pretrained model")
    assert not knows("role.other")
    assert not knows("nothere.role")
    assert not knows("")


@pytest.mark.parametrize(
    ("setting", "variables", "expected"),
    [
        ("en", {"LANG": "zh_CN.UTF-8"}, "en"),
        ("zh", {"LANG": "en_US.UTF-8"}, "zh"),
        ("auto", {"LANG": "zh_CN.UTF-8"}, "zh"),
        ("auto", {"LANG": "zh_TW"}, "zh"),
        ("auto", {"LANG": "ZH"}, "zh"),
        ("auto", {"LANG": "en_US.UTF-8"}, "en"),
        ("auto", {"LANG": "de_DE"}, "en"),
        ("auto", {"LANG": "C.UTF-8", "LANGUAGE": "zh"}, "en"),
        ("auto", {"LANGUAGE": "zh_CN:en"}, "zh"),
        ("auto", {"LC_ALL": "en_US", "LANG": "zh_CN"}, "en"),
        ("auto", {"LC_ALL": "", "LC_MESSAGES": "zh_CN", "LANG": "en_US"}, "zh"),
        ("nonsense", {"LANG": "zh_CN"}, "zh"),
    ],
)
def test_language(setting: str, variables: dict[str, str], expected: Language, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LC_ALL", "LC_MESSAGES", "LANG", "LANGUAGE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert pick_language(setting) == expected


def test_language_where_no_variable_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LC_ALL", "LC_MESSAGES", "LANG", "LANGUAGE"):
        monkeypatch.delenv(name, raising=False)
    for system, expected in (((None, None), "en"), (("zh_CN", "UTF-8"), "zh"), (("en_US", "UTF-8"), "en")):
        monkeypatch.setattr(locale, "getlocale", lambda system=system: system)
        assert pick_language("auto") == expected


@pytest.mark.parametrize("mark", [*"\0\x1b\x7f\x9b\u061c\u200e\u200f\u202a\u202e\u2066\u2069", "\ud800"], ids=ascii)
def test_what_cannot_be_seen_is_written_out(mark: str) -> None:
    assert one_line(f"a{mark}b") == "a" + mark.encode("unicode_escape").decode() + "b"


@pytest.mark.parametrize("mark", list("\t\n\r\x85\u2028\u2029"), ids=ascii)
def test_a_line_stays_one(mark: str) -> None:
    assert one_line(f"a{mark}{mark}b{mark}") == "a b"


def test_other_characters_stay() -> None:
    name = "NVIDIA H100 80GB · 显卡 “é” 👩\u200d🔬 <b>`$x`*"
    assert one_line(name) == name
