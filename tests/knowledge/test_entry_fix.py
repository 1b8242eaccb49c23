"""The entry and the fixes that are packaged, what a file must hold, and how a fix becomes code."""

from __future__ import annotations

import ast
import re
import textwrap
import tomllib
from collections.abc import Iterator, Mapping
from datetime import date
from importlib import resources
from string import Template

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nb_oomhelper.errors import KnowledgeError, UsageError
from nb_oomhelper.knowledge.catalog import load_catalog
from nb_oomhelper.knowledge.code_facts import CodeFacts, read_facts
from nb_oomhelper.knowledge.entry import Entry, read_entry
from nb_oomhelper.knowledge.fix import Example, Fix, read_fix
from nb_oomhelper.knowledge.render import fill, render
from nb_oomhelper.knowledge.toml_tables import Text
from nb_oomhelper.knowledge.versions import installed_version
from nb_oomhelper.source.call_sites import bound_names
from tests.knowledge.texts import texts_of

pytestmark = pytest.mark.plain

CATALOG = load_catalog()
ENTRY = CATALOG.entry("CUDA-OOM-001")
FIXES = {fix.id: fix for fix in CATALOG.fixes}


def bound(tree: ast.AST) -> set[str]:
    return {name for node in ast.walk(tree) for name in bound_names(node)}


EXAMPLES = [pytest.param(fix, example, id=fix.id) for fix in CATALOG.fixes for example in fix.examples]


def packaged(path: str) -> str:
    return (resources.files("nb_oomhelper.knowledge") / path).read_text("utf-8")


ENTRY_FILE = packaged("entries/CUDA-OOM-001.toml")
FIX_FILE = """
id = "made-up"
order = 40
applicability = "unsafe"
phases = ["load"]
subject = "variable"
entry = "CUDA-OOM-001"
claimed_rate = 95
code = "$name.reload($dtype_argument=1)"

[[spelling]]
field = "dtype_argument"
package = "transformers"
since = "5.0.0"
new = "dtype"
old = "torch_dtype"

[en]
title = "Reload `$name`"
note = "Slower."
loses = "What `$name` holds."

[zh]
title = "重新加载 `$name`"
note = "会变慢。"
loses = "`$name` 的内容。"

[[example]]
fields = { name = "x" }
versions = { transformers = "4.36.0" }
code = "x.reload(torch_dtype=1)"
"""


class TestEntry:
    """Every fact of CUDA-OOM-001, written out: a change to the file must be meant."""

    def test_names(self) -> None:
        assert ENTRY.code == "CUDA-OOM-001"
        assert ENTRY.id == "llm/huggingface-model-load-oom-on-cpu"
        assert ENTRY.domain == "llm"
        assert ENTRY.category == "resource_error"
        assert ENTRY.ai_generated is True
        assert ENTRY.root_cause_kind == "generic"

    def test_signature(self) -> None:
        assert ENTRY.signature == (
            "torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. "
            "GPU 0 has 8.00 GiB total capacity; 7.80 GiB already allocated."
        )

    def test_figures(self) -> None:
        assert (ENTRY.fix_rate, ENTRY.confidence, ENTRY.evidence) == (88, 90, 1)
        assert ENTRY.first_seen == date(2023, 12, 1)

    def test_documentation(self) -> None:
        assert ENTRY.documentation == (
            "https://huggingface.co/docs/transformers/en/troubleshooting#out-of-memory",
            "https://huggingface.co/docs/transformers/troubleshooting#cuda-out-of-memory",  # where it has moved
        )

    def test_what_is_known_today_stands_beside_the_facts(self) -> None:
        today = [row.today for row in ENTRY.workarounds] + [ENTRY.today]
        facts = [
            ("inference only", "仅用于推理"),
            ("nothing for a load", "没有任何帮助"),
            ("ignores it", "忽略"),
            ("`dtype`", "`dtype`"),
        ]
        for words, (en, zh) in zip(today, facts, strict=True):
            assert words is not None
            assert en in words.en
            assert zh in words.zh

    def test_scope(self) -> None:
        assert ENTRY.match.frameworks == ("pytorch",)
        assert ENTRY.match.backends == ("cuda",)
        assert ENTRY.match.phases == ("load",)

    def test_versions(self) -> None:
        assert [(row.package, row.version) for row in ENTRY.versions] == [
            ("transformers", "4.36.0"),
            ("torch", "2.1.0"),
            ("accelerate", "0.25.0"),
        ]
        for row in ENTRY.versions:
            assert row.status == Text(en="active", zh="有效")
            assert (row.introduced, row.deprecated, row.notes) == ("", "", "")

    def test_workarounds(self) -> None:
        assert [(row.rate, row.fix, row.code) for row in ENTRY.workarounds] == [
            (
                95,
                "reload-offload",
                "model = AutoModelForCausalLM.from_pretrained('model-name', device_map='auto', "
                "torch_dtype=torch.float16, offload_folder='/tmp/offload')",
            ),
            (85, "gradient-checkpointing", "model.gradient_checkpointing_enable()"),
            (
                75,
                "clear-then-reload",
                "import gc; gc.collect(); torch.cuda.empty_cache(); torch.cuda.reset_peak_memory_stats()",
            ),
        ]

    @pytest.mark.parametrize(
        ("row", "en", "zh"),
        [
            (0, ["`device_map='auto'`", "CPU memory", "GPU", "offload folder"], ["`device_map='auto'`", "内存", "GPU"]),
            (1, ["training", "activations", "less memory", "more time"], ["训练", "激活值", "更省显存", "更慢"]),
            (2, ["before|first", "`low_cpu_mem_usage=True`", "cache"], ["先", "`low_cpu_mem_usage=True`", "缓存"]),
        ],
    )
    def test_workaround_texts_keep_the_facts(self, row: int, en: list[str], zh: list[str]) -> None:
        text = ENTRY.workarounds[row].text
        assert all(re.search(fact, text.en) for fact in en)
        assert all(re.search(fact, text.zh) for fact in zh)

    def test_dead_ends(self) -> None:
        assert [(row.rate, row.check) for row in ENTRY.dead_ends] == [
            (60, "restart_unchanged"),
            (80, "empty_cache"),
            (95, "smaller_batch"),
        ]

    @pytest.mark.parametrize(
        ("row", "en", "zh"),
        [
            (
                0,
                ["does come back", "fragmentation", "as large as before", "same error"],
                ["归还", "碎片", "同样的错误"],
            ),
            (1, ["cached", "nobody uses", "tensors", "parameters"], ["缓存", "张量", "参数"]),
            (2, ["loaded", "inference", "any batch size"], ["加载", "推理", "批次"]),
        ],
    )
    def test_dead_end_reasons_keep_the_facts(self, row: int, en: list[str], zh: list[str]) -> None:
        reason = ENTRY.dead_ends[row].reason
        assert all(fact in reason.en for fact in en)
        assert all(fact in reason.zh for fact in zh)

    def test_root_cause_keeps_the_facts(self) -> None:
        for fact in ("all of the model's weights", "GPU", "data loader", "process", "loaded before", "larger than"):
            assert fact in ENTRY.root_cause.en
        for fact in ("全部权重", "GPU", "数据加载器", "进程", "之前加载", "还大"):
            assert fact in ENTRY.root_cause.zh

    def test_source_is_honest_about_the_rates(self) -> None:
        assert ENTRY.source is not None
        for fact in ("CUDA-OOM-001", "AI-generated", "1 evidence", "no measurement"):
            assert fact in ENTRY.source.en
        for fact in ("CUDA-OOM-001", "AI 生成", "1 条证据", "未引用任何实测"):
            assert fact in ENTRY.source.zh


def texts_that_are_given(record: Entry | Fix) -> Iterator[tuple[str, Text]]:
    """All texts in two languages; what a fix loses may be left out."""
    yield from (one for one in texts_of(record) if one[0] != ".loses" or one[1].en)


def is_name(clause: str) -> bool:
    """Whether it is a name or a message, which is the same in every language."""
    return bool(
        re.search(
            r"CUDA-OOM|^ ?(?:vLLM|MPS|Windows|Triton|DataParallel|TensorFlow|JAX|RESOURCE_EXHAUSTED)\b|OOM when", clause
        )
    )


@pytest.mark.parametrize("record", [*CATALOG.entries, *CATALOG.fixes], ids=lambda record: record.id)
def test_both_languages_are_whole(record: Entry | Fix) -> None:
    for where, text in texts_that_are_given(record):
        assert not re.search(r"[\u3000-\u9fff\uff00-\uffef]", text.en), where
        # A clause between Chinese marks is Chinese, or it is code.
        for clause in re.split(r"[。；：，（）]", re.sub(r"`[^`]*`", "码", text.zh)):
            assert not clause.strip() or re.search(r"[\u4e00-\u9fff]", clause) or is_name(clause), (where, clause)
        assert not re.search(r"[\u4e00-\u9fff][,;:?!.]", text.zh), f"{where}: Western punctuation after 中文"
        marks = sorted(set(re.findall(r"`[^`]*`", text.en)))
        assert marks == sorted(set(re.findall(r"`[^`]*`", text.zh))), f"{where}: the same code in both languages"
        assert Template(text.en).get_identifiers() or not Template(text.zh).get_identifiers(), where


class TestFixes:
    def test_which_there_are(self) -> None:
        assert [(fix.id, fix.applicability, fix.causes, fix.subject) for fix in CATALOG.fixes] == [
            ("release-failed-cell", "safe", (), "none"),
            ("append-detached", "unsafe", (), "mistake"),
            ("keep-errors-bare", "unsafe", (), "mistake"),
            ("add-number", "unsafe", (), "mistake"),
            ("backward-each", "unsafe", (), "mistake"),
            ("append-on-host", "unsafe", (), "mistake"),
            ("backward-once", "unsafe", (), "mistake"),
            ("in-place", "unsafe", (), "mistake"),
            ("move-last", "unsafe", (), "mistake"),
            ("map-location", "unsafe", (), "mistake"),
            ("move-each-batch", "unsafe", (), "mistake"),
            ("old-first", "unsafe", (), "mistake"),
            ("small-dummies", "unsafe", (), "mistake"),
            ("sparse-dummies", "unsafe", (), "mistake"),
            ("empty-each-step", "unsafe", (), "mistake"),
            ("read-columns", "unsafe", (), "mistake"),
            ("retry-after-except", "unsafe", (), "mistake"),
            ("windows-as-view", "unsafe", (), "mistake"),
            ("columns-apart", "unsafe", (), "mistake"),
            ("concat-once", "unsafe", (), "mistake"),
            ("flags-in-bytes", "unsafe", (), "mistake"),
            ("grow-in-place", "unsafe", (), "mistake"),
            ("loss-in-parts", "unsafe", (), "mistake"),
            ("only-used", "unsafe", (), "mistake"),
            ("still-sparse", "unsafe", (), "mistake"),
            ("working-memory", "unsafe", (), "mistake"),
            ("by-parts", "unsafe", (), "mistake"),
            ("joined-as-made", "unsafe", (), "mistake"),
            ("joined-in-place", "unsafe", (), "mistake"),
            ("model-in-parts", "unsafe", (), "mistake"),
            ("nearly-sparse", "unsafe", (), "mistake"),
            ("pairs-in-parts", "unsafe", (), "mistake"),
            ("rows-apart", "unsafe", (), "mistake"),
            ("tensor-parts", "unsafe", (), "mistake"),
            ("no-grad-block", "unsafe", (), "mistake"),
            ("no-grad-function", "unsafe", (), "mistake"),
            ("on-demand", "unsafe", (), "mistake"),
            ("step-in-parts", "unsafe", (), "mistake"),
            ("no-grad", "unsafe", (), "cell"),
            ("on-disk", "unsafe", (), "mistake"),
            ("read-in-parts", "unsafe", (), "mistake"),
            ("clear-then-reload", "unsafe", (), "call"),
            ("reload-half", "unsafe", (), "call"),
            ("reload-device", "unsafe", (), "call"),
            ("reload-spread", "unsafe", (), "call"),
            ("reload-disk", "unsafe", (), "call"),
            ("reload-offload", "unsafe", (), "call"),
            ("reload-8bit", "unsafe", (), "call"),
            ("reload-4bit", "unsafe", (), "call"),
            ("reload-host", "unsafe", (), "call"),
            ("reload-context", "unsafe", (), "call"),
            ("let-go", "unsafe", (), "mistake"),
            ("fewer-workers", "unsafe", (), "cell"),
            ("smaller-batch-trainer", "unsafe", (), "trainer"),
            ("smaller-batch-arguments", "unsafe", (), "cell"),
            ("smaller-batch-cell", "unsafe", (), "cell"),
            ("smaller-batch-loader", "unsafe", (), "data loader"),
            ("less-optimizer-state", "unsafe", (), "mistake"),
            ("smaller-batch-number", "unsafe", (), "number"),
            ("smaller-batch-definition", "unsafe", (), "definition"),
            ("gradient-checkpointing", "safe", (), "pretrained model"),
            ("graph-on-host", "unsafe", (), "mistake"),
            ("offloaded-cache", "unsafe", (), "cell"),
            ("fewer-new-tokens", "unsafe", (), "cell"),
            ("shorter-input", "unsafe", (), "cell"),
            ("shorter-input-number", "unsafe", (), "number"),
            ("float32", "unsafe", (), "mistake"),
            ("quantized-cache", "unsafe", (), "cell"),
            ("smaller-image", "unsafe", (), "cell"),
            ("smaller-image-number", "unsafe", (), "number"),
            ("autocast", "unsafe", (), "cell"),
            ("stop-collecting", "unsafe", (), "mistake"),
            ("empty-container", "unsafe", (), "container"),
            ("optimizer-8bit", "display_only", (), "adam"),
            ("detach-list", "unsafe", ("graph",), "list"),
            ("optimizer-8bit-trainer", "display_only", (), "trainer"),
            ("detach-tensor", "unsafe", ("graph",), "tensor"),
            ("drop-gradients", "unsafe", ("gradients",), "model"),
            ("forget-output-history", "unsafe", ("output_history",), "none"),
            ("expandable-segments", "display_only", ("fragmentation",), "allocator"),
            ("jax-no-preallocation", "display_only", ("pool_kept",), "preallocation"),
            ("delete-variable", "unsafe", ("variable",), "variable"),
            ("stop-other-process", "display_only", ("other_process",), "process"),
            ("on-host", "unsafe", (), "mistake"),
            ("train-on-host", "unsafe", (), "mistake"),
            ("fewer-results", "unsafe", (), "mistake"),
            ("less-data", "unsafe", (), "mistake"),
        ]

    def test_rates_are_those_of_the_entry(self) -> None:
        claimed = {fix.id: (fix.entry, fix.claimed_rate) for fix in CATALOG.fixes if fix.entry}
        assert claimed == {row.fix: (ENTRY.code, row.rate) for row in ENTRY.workarounds}

    def test_file_names_are_ids(self) -> None:
        folder = resources.files("nb_oomhelper.knowledge")
        assert {file.name for file in (folder / "fixes").iterdir()} == {f"{fix.id}.toml" for fix in CATALOG.fixes}
        assert {file.name for file in (folder / "entries").iterdir()} == {f"{one.code}.toml" for one in CATALOG.entries}

    def test_every_fix_has_an_example(self) -> None:
        assert all(fix.examples for fix in CATALOG.fixes)

    @pytest.mark.parametrize(("fix", "example"), EXAMPLES)
    def test_example(self, fix: Fix, example: object) -> None:
        found = next(one for one in fix.examples if one is example)
        code = render(fix, dict(found.fields), dict(found.versions).get)
        assert code == found.code
        if fix.applicability != "display_only":
            compile(code, fix.id, "exec")

    @pytest.mark.parametrize(("fix", "example"), EXAMPLES)
    def test_no_name_of_the_users_is_bound_but_what_it_is_about(self, fix: Fix, example: Example) -> None:
        """Of modules alone, under their own names, and nothing that its fields do not bring."""
        if fix.subject == "process":
            return
        fields = dict(example.fields)
        brought = [fields.get(name, "") for name in ("cell", "block", "statement", "forget", "definition", "clear")]
        own = {name for text in brought for name in bound(ast.parse(textwrap.dedent(text)))} | {fields.get("name")}
        tree = ast.parse(render(fix, fields, dict(example.versions).get))
        modules = [node for node in ast.walk(tree) if isinstance(node, ast.Import)]
        assert all(alias.asname is None for node in modules for alias in node.names)
        assert bound(tree) - own == {name for node in modules for name in bound(node)}
        assert fix.does.binds == bound(tree) - own - bound(ast.parse(fields.get("imports", "")))

    def test_pasting_the_shell_lines_ends_no_process(self) -> None:
        lines = render(FIXES["stop-other-process"], {"pid": "4711"}, installed_version).splitlines()
        assert lines == ["ps -fp 4711", "# kill 4711"]

    @pytest.mark.parametrize("fix", [fix for fix in CATALOG.fixes if fix.subject == "call"], ids=lambda fix: fix.id)
    def test_reloads_release_first(self, fix: Fix) -> None:
        assert fix.code.index("$forget") < fix.code.index("nb_oomhelper.release()") < fix.code.index("$statement")

    def test_needs(self) -> None:
        assert FIXES["release-failed-cell"].needs == set()
        assert FIXES["delete-variable"].needs == {"name"}
        assert FIXES["reload-offload"].needs == {"statement"}  # the other lines may be empty


def with_key(text: str, key: str, value: str) -> str:
    """Replace one top-level key of a TOML text; an empty value takes it away."""
    line = f"{key} = {value}" if value else ""
    changed, times = re.subn(rf"(?m)^{key} = .*$", lambda _: line, text, count=1)
    assert times == 1, key
    return changed


BROKEN_ENTRIES = [
    ("code", "", "code: is missing"),
    ("code", '"A B"', "code: must not hold spaces"),
    ("id", '""', "id: must not be empty"),
    ("id", "7", "id: must be a text, not 7"),
    ("ai_generated", '"yes"', "ai_generated: must be true or false, not 'yes'"),
    ("fix_rate", "101", "fix_rate: must be a whole number from 0 to 100, not 101"),
    ("fix_rate", "88.5", "fix_rate: must be a whole number from 0 to 100, not 88.5"),
    ("confidence", "true", "confidence: must be a whole number from 0 to 100, not True"),
    ("confidence", "1" + "0" * 80, "confidence: must be a whole number from 0 to 100, not a huge number"),
    ("evidence", "-1", "evidence: must be a whole number from 0"),
    ("first_seen", '"2023-12-01"', "first_seen: must be a date like 2023-12-01, without quotes"),
    ("first_seen", "2023-12-01T10:00:00", "first_seen: must be a date like 2023-12-01"),
    ("documentation", '["javascript:alert(1)"]', "documentation: must be a web address"),
    ("signature", '"a\\u001b[2J"', "signature: must not hold control characters"),
    ("frameworks", '"pytorch"', "match.frameworks: must be a list of texts, not 'pytorch'"),
    ("frameworks", "[1]", "match.frameworks: must be a list of texts, not 1"),
    ("phases", '["loading"]', "match.phases: must be one of load, train, infer, unknown, not 'loading'"),
    ("zh", "", "title.zh: is missing"),
    ("zh", '"  "', "title.zh: must not be empty"),
    ("package", "[]", "versions[1].package: must be a text, not a list"),
    ("rate", "950", "workarounds[1].rate: must be a whole number from 0 to 100, not 950"),
    ("check", '"reboot"', "dead_ends[1].check: must be one of empty_cache,"),
    ("domain", '"llm"\nnovel = 1', "'novel': is not a known key"),
]

BROKEN_FIXES = [
    ("applicability", '"harmless"', "applicability: must be one of safe, unsafe, display_only, not 'harmless'"),
    ("applicability", '"safe"', "en.loses: must be empty, because applicability is safe"),
    ("loses", '""', "en.loses: must say what is lost, because applicability is unsafe"),
    ("claimed_rate", "", "claimed_rate: is missing"),
    ("entry", "", "entry: is missing"),
    ("order", "1.5", "order: must be a whole number"),
    ("phases", '"load"', "phases: must be a list of texts, not 'load'"),
    ("subject", '"gpu"', "subject: must be one of none, variable,"),
    ("subject", '"process"', "code: uses $name, which a fix about 'process' does not have"),
    ("subject", '"call"', "options: a fix about a call names some, and no other does"),
    ("phases", '["load"]\noptions = ["half"]', "options: a fix about a call names some, and no other does"),
    ("phases", '["load"]\noptions = ["quarter"]', "options: must be one of as_asked, half,"),
    ("title", '"Reload $colour"', "en.title: uses $colour, which a fix about 'variable' does not have"),
    ("title", '"Costs 5 $"', "en.title: holds a $ that starts no field"),
    ("note", "", "en.note: is missing"),
    ("field", '"type"', "spelling: code does not use $type"),
    ("field", '"name"', "spelling: name already has a meaning"),
    ("field", '"två"', "spelling[1].field: must be a plain name"),
    ("since", '"five"', "spelling[1].since: must be a version like 5.0.0"),
    ("fields", "{ name = 1 }", "example[1].fields.name: must be a text, not 1"),
    ("order", "20\nsafe = true", "'safe': is not a known key"),
]


@pytest.mark.parametrize(("key", "value", "message"), BROKEN_ENTRIES)
def test_broken_entry(key: str, value: str, message: str) -> None:
    with pytest.raises(KnowledgeError, match=re.escape(message)):
        read_entry(with_key(ENTRY_FILE, key, value))


@pytest.mark.parametrize(("key", "value", "message"), BROKEN_FIXES)
def test_broken_fix(key: str, value: str, message: str) -> None:
    with pytest.raises(KnowledgeError, match=re.escape(message)):
        read_fix(with_key(FIX_FILE, key, value))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is missing"),
        ("a = ", "Invalid value"),
        ("a = 1\na = 2", "overwrite"),
        ("a = " + "[" * 100_000, "nested too deeply"),
        ("a = " + "9" * 5_000, "integer string conversion"),
        ("en = 1\nzh = 2", "en: must be a table, not 1"),
    ],
)
def test_what_is_no_fix_at_all(text: str, message: str) -> None:
    with pytest.raises(KnowledgeError, match=message):
        read_fix(text)


def test_two_spellings_of_one_field() -> None:
    start = FIX_FILE.index("[[spelling]]")
    row = FIX_FILE[start : FIX_FILE.index("[en]")]
    with pytest.raises(KnowledgeError, match="two rows have the same field"):
        read_fix(FIX_FILE[:start] + row + FIX_FILE[start:])


def test_fix_and_check_may_be_left_out() -> None:
    text = with_key(with_key(ENTRY_FILE, "fix", ""), "check", "")
    entry = read_entry(text)
    assert entry.workarounds[0].fix is None
    assert entry.dead_ends[0].check is None


def test_absent_lists_mean_any() -> None:
    fix = FIXES["release-failed-cell"]
    assert (fix.frameworks, fix.backends, fix.phases, fix.options, fix.spelling) == ((), (), (), (), ())
    assert (fix.entry, fix.claimed_rate) == (None, None)


@given(st.text())
def test_reading_any_text_ends_in_a_record_or_in_a_knowledge_error(text: str) -> None:
    for read in (read_entry, read_fix):
        with pytest.raises(KnowledgeError):
            read(text)


@given(data=st.data())
def test_no_damage_of_a_good_file_ends_in_another_error(data: st.DataObject) -> None:
    whole = data.draw(st.sampled_from([ENTRY_FILE, FIX_FILE]))
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, min(len(whole), start + 40)))
    text = whole[:start] + data.draw(st.text(max_size=8)) + whole[end:]
    for read in (read_entry, read_fix):
        try:
            read(text)
        except KnowledgeError as error:
            assert str(error).strip()  # noqa: PT017 - either end is right


class TestFacts:
    @pytest.mark.parametrize(
        "code", ["import nb_oomhelper\nnb_oomhelper.release()", "if 1:\n    nb_oomhelper . release(history=True)"]
    )
    def test_a_release(self, code: str) -> None:
        assert read_facts(code).releases

    @pytest.mark.parametrize(
        "code", ["# nb_oomhelper.release()", "x = 'nb_oomhelper.release()'", "nb_oomhelper.release("]
    )
    def test_what_only_reads_like_one(self, code: str) -> None:
        assert not read_facts(code).releases

    def test_names_that_it_binds(self) -> None:
        code = "$imports\nimport torch.nn\nfor i in x:\n    $name = i\n$statement\nwith y as z:\n$block\ndef f(): pass"
        assert read_facts(code).binds == {"torch", "i", "z", "f"}

    def test_shell_lines_do_nothing(self) -> None:
        assert read_facts("ps -fp $pid") == CodeFacts()


class TestRender:
    @pytest.mark.parametrize(
        ("installed", "argument"),
        [
            (None, "dtype"),
            ("4.36.0", "torch_dtype"),
            ("4.57.6.dev0", "torch_dtype"),
            ("5", "dtype"),
            ("5.0.0rc1", "dtype"),
            ("v5.1", "dtype"),
            ("5.23.0+local", "dtype"),
            ("10.0", "dtype"),
            ("main", "dtype"),
            ("", "dtype"),
        ],
    )
    def test_spelling_fits_the_installed_version(self, installed: str | None, argument: str) -> None:
        code = render(read_fix(FIX_FILE), {"name": "m"}, {"transformers": installed}.get)
        assert code == f"m.reload({argument}=1)"

    def test_lines_that_are_empty_go(self) -> None:
        statement = 'model = load(\n    "x",  # $5\n)'
        fields = {"statement": statement}
        code = render(FIXES["reload-half"], fields, installed_version)
        assert code == f"import nb_oomhelper\nnb_oomhelper.release()\n{statement}"
        code = render(FIXES["reload-half"], fields | {"imports": "import a\nimport b", "forget": "model = None"}, str)
        assert code.splitlines()[:4] == ["import a", "import b", "import nb_oomhelper", "model = None"]

    @pytest.mark.parametrize(
        ("fix", "field", "value"),
        [
            ("stop-other-process", "pid", "1; rm -rf ~"),
            ("stop-other-process", "pid", "-1"),
            ("stop-other-process", "pid", ""),
            ("stop-other-process", "pid", "٣"),
            ("gradient-checkpointing", "name", "x; y"),
            ("gradient-checkpointing", "name", "Out[1]"),
            ("gradient-checkpointing", "name", "lambda"),
            ("reload-offload", "statement", "model = load("),
            ("reload-offload", "statement", "load\0"),
            ("reload-offload", "forget", "model ="),
        ],
    )
    def test_refuses_what_would_change_the_code(self, fix: str, field: str, value: str) -> None:
        fields = {"statement": "m = load()", field: value}
        with pytest.raises(UsageError, match=f"fix {fix}: .* cannot be used as {field}"):
            render(FIXES[fix], fields, installed_version)

    @given(st.text().filter(lambda name: ", " not in name))  # which would be several
    def test_any_name_can_be_deleted(self, name: str) -> None:
        code = render(FIXES["delete-variable"], {"name": name}, installed_version)
        prefix = "import nb_oomhelper\nnb_oomhelper.release(names=["
        assert code.startswith(prefix)
        assert eval(code.removeprefix(prefix).removesuffix("])")) == name

    def test_missing_fields_are_named(self) -> None:
        with pytest.raises(UsageError, match="fix reload-offload needs statement"):
            render(FIXES["reload-offload"], {"forget": "x = None"}, installed_version)

    @given(older=st.lists(st.integers(0, 30), min_size=1, max_size=4), newer=st.lists(st.integers(0, 30), min_size=1))
    def test_versions_compare_as_numbers(self, older: list[int], newer: list[int]) -> None:
        width = max(len(older), len(newer))
        padded = [tuple(row + [0] * (width - len(row))) for row in (older, newer)]
        text = with_key(FIX_FILE, "since", f'"{".".join(map(str, newer))}"')
        versions: Mapping[str, str] = {"transformers": ".".join(map(str, older))}
        code = render(read_fix(text), {"name": "m"}, versions.get)
        assert ("torch_dtype=" in code) == (padded[0] < padded[1])


def test_fill_leaves_what_is_not_given() -> None:
    assert fill("Stop $pid of $name for $$5", {"pid": "4711"}) == "Stop 4711 of $name for $5"


def test_installed_version() -> None:
    assert installed_version("pytest") == pytest.__version__
    assert installed_version("no-such-package-anywhere") is None
    assert installed_version("") is None


def test_files_hold_nothing_that_is_not_read() -> None:
    """Each packaged file is read as a whole: no key of it is lost on the way to the record."""
    fields_of_files = set(Entry.__dataclass_fields__) - {"origin", "examples"} | {"example"}
    assert set(tomllib.loads(ENTRY_FILE)) == fields_of_files
