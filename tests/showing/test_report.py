"""A case in words: every figure in its sentence, and nothing from outside as markup."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any, get_args

import pytest

from nb_oomhelper.diagnosis.diagnose import diagnose
from nb_oomhelper.failure.detection import detect_text
from nb_oomhelper.knowledge.choosing import Choice
from nb_oomhelper.knowledge.toml_tables import Language
from nb_oomhelper.knowledge.versions import installed_version
from nb_oomhelper.memory.segments import segments
from nb_oomhelper.records.diagnosis import Cause, CauseKind, DeadEnd, DeadEndKind, Diagnosis
from nb_oomhelper.records.event import OomEvent
from nb_oomhelper.records.holdings import Holdings
from nb_oomhelper.records.memory import HostMemory, Measure
from nb_oomhelper.records.remedy import FixPlan, Outcome, Shortage, Step
from nb_oomhelper.showing.entry_page import entry_page
from nb_oomhelper.showing.fix_text import FixRow
from nb_oomhelper.showing.frontends import _diff, _html, _markup, _static, _text
from nb_oomhelper.showing.markup import code, plain
from nb_oomhelper.showing.outcome_text import fix_loses, fix_title, summary, tell
from nb_oomhelper.showing.report import Report, bar, write
from nb_oomhelper.showing.wording import say
from nb_oomhelper.source.repeats import Repeat
from tests.cases import (
    DEVICE,
    EVENT,
    GIB,
    HOSTILE,
    MIB,
    OUTCOMES,
    QUOTES,
    SCRIPT,
    SNAPSHOT,
    STARS,
    TICKS,
    catalog,
    rich_case,
)

pytestmark = pytest.mark.plain

LANGUAGES: tuple[Language, ...] = get_args(Language)
HOST_EVENT = replace(EVENT, backend="host", framework="numpy", device=None, phase="unknown", call=None)


def report(event: OomEvent = EVENT, language: Language = "en", **changes: Any) -> Report:
    """A report of the rich case, or of a case whose snapshot has these changes."""
    return write(rich_case(event, replace(SNAPSHOT, **changes)), catalog(), language)


def before_any_outcome(event: OomEvent = EVENT) -> Report:
    case = rich_case(event)
    case.outcomes = []
    return write(case, catalog(), "en")


def with_diagnosis(event: OomEvent = EVENT, **facts: Any) -> Report:
    case = rich_case(event)
    case.diagnosis = Diagnosis(**{"requested": None, "free": None, "capacity": None, "short": None, **facts})
    return write(case, catalog(), "en")


# -- whole -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_part_of_a_rich_case_is_there(language: Language) -> None:
    found = report(language=language)
    for field in fields(Report):
        assert getattr(found, field.name) or field.name in ("solved", "advice"), field.name
    rows = (*found.fixes, *found.not_enough)
    assert len(rows) == len(rich_case().plans)
    assert all(row.title and row.effect and row.label for row in rows)
    assert all(row.loses for row in rows if row.plan.applicability == "unsafe")
    assert len(found.outcomes) == 2
    assert not [text for text in flat(found) if "{" in text or "$" in text or "None" in text]


def test_the_languages_say_the_same_figures() -> None:
    """Sizes, percentages and numbers of lines and processes, whatever the words around them."""
    english, chinese = report(language="en"), report(language="zh")
    assert [(part.kind, part.size, part.width) for part in english.parts] == [
        (part.kind, part.size, part.width) for part in chinese.parts
    ]
    assert [(why.kind, why.size, why.share) for why in english.cause_rows] == [
        (why.kind, why.size, why.share) for why in chinese.cause_rows
    ]
    assert [row.plan for row in english.fixes] == [row.plan for row in chinese.fixes]
    assert english.title != chinese.title


def flat(value: object) -> list[str]:
    """All texts of a report but the code of its plans."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, tuple):
        return [text for one in value for text in flat(one)]
    names = [field.name for field in fields(value)] if hasattr(value, "__dataclass_fields__") else []  # type: ignore[arg-type]
    return [text for name in names if name != "plan" for text in flat(getattr(value, name))]


# -- names from outside ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [*HOSTILE, "****", "*" * 7, "``", "a** b **c", "`**`"])
def test_plain_holds_no_markup(text: str) -> None:
    assert "`" not in plain(text)
    assert "**" not in plain(text)
    assert code(text).count("`") == 2


def test_plain_leaves_other_text_alone() -> None:
    assert plain("a * b, 2 < 3 & 'x'") == "a * b, 2 < 3 & 'x'"


def test_a_hostile_name_adds_no_markup() -> None:
    """Every text has as many marks as in a report whose names are tame."""
    marks = [(text.count("`"), text.count("**")) for text in flat(report())]
    assert all(ticks % 2 == 0 and stars % 2 == 0 for ticks, stars in marks)
    joined = "\n".join(flat(report()))
    assert "***" not in joined
    assert "``" not in joined
    for name in (plain(STARS), plain(TICKS), SCRIPT):
        assert f"`{name}`" in joined


# -- the line under the title ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (
            {"requested": 2 * GIB, "free": GIB, "short": GIB},
            "The cell asked for **2.00 GiB**; **1.00 GiB** was free: **1.00 GiB** too little.",
        ),
        (
            {"requested": GIB, "free": GIB, "short": 0},
            "The cell asked for **1.00 GiB** and failed although **1.00 GiB** was free in total: "
            "not in one piece, or not at that moment.",
        ),
        ({"requested": GIB}, "The cell asked for **1.00 GiB**; how much was free is unknown."),
        ({"free": 0}, "The error does not say how much was asked for; **0 bytes** is free."),
        ({}, "The error does not say how much was asked for."),
        (
            {"requested": GIB, "load": 4 * GIB, "room": 3 * GIB},
            "The cell asked for **1.00 GiB**; how much was free is unknown."
            " The whole load takes **4.00 GiB**; even once the failed cell is released there is room for"
            " **3.00 GiB** only.",
        ),
        (
            {"requested": GIB, "load": 4 * GIB},
            "The cell asked for **1.00 GiB**; how much was free is unknown. The whole load takes **4.00 GiB**.",
        ),
        (
            {"requested": GIB, "load": 4 * GIB, "room": 5 * GIB},
            "The cell asked for **1.00 GiB**; how much was free is unknown."
            " The whole load takes **4.00 GiB**; once the failed cell is released there is room for **5.00 GiB**.",
        ),
    ],
)
def test_headline(facts: dict[str, Any], expected: str) -> None:
    assert with_diagnosis(**facts).headline == expected


@pytest.mark.parametrize(
    ("event", "host", "what"),
    [
        (EVENT, {}, "this process may have **7.00 GiB** in all (memory fraction)"),
        (HOST_EVENT, {}, "the whole machine has **64.0 GiB**"),
        (
            HOST_EVENT,
            {"address_space_limit": 6 * GIB, "virtual": 5 * GIB},
            "this process may have **6.00 GiB** in all (RLIMIT_AS)",
        ),
    ],
)
def test_a_request_that_is_larger_than_all_there_is_says_so(event: OomEvent, host: dict[str, Any], what: str) -> None:
    found = report(replace(event, requested=99 * GIB, call=None), host=replace(SNAPSHOT.host, **host))
    said = f"The cell asked for **99.0 GiB** at once, and {what}: freeing memory cannot make it fit."
    assert said in found.headline
    (why,) = [why.text for why in found.cause_rows if why.kind == "too_large"]
    assert ("device" in why) == ("device" in what)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "CUDA out of memory"),
        ({"backend": "host"}, "Host memory exhausted"),
        ({"backend": "mps"}, "Out of memory on MPS"),
        ({"certainty": "probable"}, "Probably out of memory"),
    ],
)
def test_title(changes: dict[str, Any], expected: str) -> None:
    assert report(replace(EVENT, **changes)).title == expected


@pytest.mark.parametrize(
    ("event", "host", "expected"),
    [
        (EVENT, {}, f"cuda:0 · NVIDIA {SCRIPT} · 8.00 GiB"),
        (replace(EVENT, device=None, backend="mps"), {}, f"mps · NVIDIA {SCRIPT} · 8.00 GiB"),
        (HOST_EVENT, {}, "host memory"),
        (
            HOST_EVENT,
            {"address_space_limit": 6 * GIB, "virtual": 5 * GIB},
            "limit of this process: 6.00 GiB (RLIMIT_AS)",
        ),
    ],
)
def test_place(event: OomEvent, host: dict[str, Any], expected: str) -> None:
    assert report(event, host=replace(SNAPSHOT.host, **host)).place == expected


def test_place_where_the_device_is_unknown() -> None:
    assert report(device=None, allocator=None).place == "cuda:0"


# -- why -------------------------------------------------------------------------------------------------------------


def test_causes() -> None:
    found = {(why.kind, why.text): (why.size, why.share) for why in report().cause_rows}
    assert found == {
        ("failed_cell", f"still held by the failed cell: `batch`, `outputs` (`{SCRIPT}`, line 12)"): ("2.00 GiB", 1.0),
        ("variable", f"your variable `{plain(STARS)}` (tensor)"): ("1.00 GiB", 0.5),
        ("variable", f"your variable `{plain(TICKS)}` (model)"): ("512 MiB", 0.25),
        ("variable", f"your variable `{SCRIPT}`"): ("128 MiB", 1 / 16),
        ("variable", f"shared by your variables `{SCRIPT}`, `{plain(QUOTES)}`"): ("64.0 MiB", 1 / 32),
        ("output_history", "displayed results: `Out[3]`"): ("256 MiB", 0.125),
        ("other_process", f"process 4711, `python'code' · {SCRIPT}.ipynb`"): ("1.00 GiB", 0.5),
        ("other_process", "process 4712, whose name cannot be seen from here"): ("4.00 MiB", 1 / 512),
        ("limit", "memory limit of this process (memory fraction)"): ("7.00 GiB", 1.0),
        (
            "rest",
            "held by this process outside its tensors: the CUDA context and libraries",
        ): ("508 MiB", 508 / 2048),
    }


@pytest.mark.parametrize("kind", get_args(CauseKind))
@pytest.mark.parametrize("language", LANGUAGES)
def test_every_kind_of_cause_has_its_sentence(kind: CauseKind, language: Language) -> None:
    case = rich_case()
    cause = Cause(kind=kind, size=GIB, names=("x",), function="f", line=3, pid=7, limit="cgroup", role="model")
    case.diagnosis = replace(case.diagnosis, causes=(cause,))
    (why,) = write(case, catalog(), language).cause_rows
    assert why.size == "1.00 GiB"
    assert "{" not in why.text
    assert "None" not in why.text


def test_a_cause_of_unknown_size() -> None:
    case = rich_case()
    case.diagnosis = replace(case.diagnosis, causes=(Cause(kind="other_process", size=None, pid=3),))
    (why,) = write(case, catalog(), "en").cause_rows
    assert (why.size, why.share) == ("unknown", 0.0)


# -- fixes, dead ends, the entry -------------------------------------------------------------------------------------


def test_fixes() -> None:
    pytest.importorskip("accelerate")
    rows = {row.plan.fix + row.plan.subject: row for row in all_rows(before_any_outcome())}
    release = rows["release-failed-cell"]
    assert (release.title, release.effect, release.label) == (
        "Release the failed cell",
        "frees 2.00 GiB",
        "keeps everything",
    )
    assert release.verdict == "✗ runs out again: needs at least 4.00 GiB, 3.50 GiB can be had"
    assert release.rates == "here 2 of 3 cells ran"  # how it did for other cells is no promise for this one
    assert release.loses == ""
    offload = rows["reload-offloadllm"]
    assert (offload.effect, offload.verdict, offload.label) == (
        say("fix.places_unknown", "en"),
        "may be enough",
        say("fix.risk_loads", "en"),
    )
    assert offload.rates == "claimed 95 % (CUDA-OOM-001) · here 0 of 1 cell ran"
    assert "`llm`" in offload.loses
    deletion = rows["delete-variable" + STARS]
    assert deletion.title == "Delete `*bold*`"
    assert "`*bold*`" in deletion.loses
    assert "stop-other-process4712" not in rows  # nobody can see from here what it is
    assert rows["stop-other-process4711"].label == "copy"


def test_what_the_failed_cell_gives_is_told_apart() -> None:
    case = rich_case()
    alone = replace(RELEASE, predicted=2 * GIB)
    case.plans = (replace(alone, number=2, fix="delete-variable", subject="x", predicted=3 * GIB), alone)
    case.outcomes = []
    first, second = all_rows(write(case, catalog(), "en"))
    assert (first.effect, second.effect) == ("frees 1.00 GiB and the failed cell's 2.00 GiB", "frees 2.00 GiB")


def test_a_fix_that_was_run_promises_no_more() -> None:
    rows = {row.plan.fix: row for row in report().fixes}
    assert (rows["release-failed-cell"].effect, rows["release-failed-cell"].verdict) == (
        "✓ done",
        "",
    )


def all_rows(found: Report) -> list[FixRow]:
    return [*found.fixes, *found.not_enough]


NEEDY = Shortage(needs=4 * GIB, measured=True, room=GIB)
RELEASE = FixPlan(number=1, fix="release-failed-cell", code="x", applicability="safe", predicted=GIB, shortage=NEEDY)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"verdict": "runs"}, "✓ the cell should run then"),
        ({"verdict": "runs", "loads": True}, "✓ the model should fit then"),
        ({"room": 5 * GIB}, "may be enough: 4.00 GiB or more is needed"),
        ({"shortage": replace(NEEDY, room=None)}, "may be enough: how much is free is unknown"),
        ({"predicted": None}, "may be enough"),
        ({"reruns": True, "explains": GIB}, "may be enough, just barely"),
        ({"verdict": "again", "room": 2 * GIB}, "✗ runs out again: needs at least 4.00 GiB, 2.00 GiB can be had"),
        ({"verdict": "again"}, "✗ runs out again: needs at least 4.00 GiB, 1.00 GiB can be had"),
        (
            {"verdict": "again", "shortage": replace(NEEDY, grows=True)},
            "✗ runs out again: the cell keeps more with every step",
        ),
        (
            {"verdict": "again", "shortage": replace(NEEDY, impossible=True)},
            "✗ runs out again: more is asked for at once than there is",
        ),
        ({"verdict": "again", "tried": True}, "✗ tried already: the cell ran out again"),
    ],
)
def test_verdict_about_the_cell(changes: dict[str, Any], expected: str) -> None:
    case = rich_case()
    case.plans, case.outcomes = (replace(RELEASE, **changes),), []
    case.diagnosis = replace(case.diagnosis, rerun=4 * GIB)
    (row,) = all_rows(write(case, catalog(), "en"))
    assert row.verdict == expected
    assert ("✓" in row.verdict) == (row.plan.verdict == "runs") == ('<span class="oomh-ok">✓' in _html.fix(row))


def test_what_would_not_be_enough_stands_by_itself() -> None:
    case = rich_case()
    again = replace(RELEASE, number=2, verdict="again")
    case.plans, case.outcomes = (replace(RELEASE, fix="detach-list", subject="x"), again), []
    found = write(case, catalog(), "en")
    assert [row.plan.number for row in found.fixes] == [1]
    assert [row.plan.number for row in found.not_enough] == [2]
    assert [row.plan.number for row in found.others] == [2]
    assert "<summary>1 more fix</summary>" in _static.render(found)
    alone = replace(found, fixes=(), first=None)  # more than none would be no more
    assert "<summary>What would not be enough (1)</summary>" in _static.render(alone)
    assert "What would not be enough (1)\n  2  Release the failed cell" in _text.render(found)


SHAPE = "Unable to allocate 1.34 GiB for an array with shape (30000, 20000) and data type int64"


@pytest.mark.parametrize(
    ("cell", "shortage", "said"),
    [
        ("a.merge(b)", {}, "600,000,000 rows: the key probably repeats"),
        ("a.pivot_table('x')", {}, "600,000,000 values, most of them empty"),
        ("np.zeros((n, m))", {}, "An array of shape 30,000 × 20,000 in int64 is too large"),
        ("step()", {}, "It needs at least **4.00 GiB**, and **2.00 GiB** can be had."),
        ("step()", {"grows": True}, "It keeps more with every step of its loop"),
    ],
)
def test_nothing_makes_the_cell_run(cell: str, shortage: dict[str, bool], said: str) -> None:
    case = rich_case(replace(HOST_EVENT, message=SHAPE))
    case.cell, case.outcomes = cell, []
    case.plans = (replace(RELEASE, verdict="again", room=2 * GIB, shortage=replace(NEEDY, **shortage)),)
    case.diagnosis = Diagnosis(requested=GIB, free=0, capacity=None, short=GIB, rerun=4 * GIB)
    found = write(case, catalog(), "en")
    assert found.headline.startswith("**Nothing here makes this cell run.**")
    assert said in found.headline
    case.plans = (replace(case.plans[0], verdict="may"),)
    assert "Nothing here" not in write(case, catalog(), "en").headline


def test_the_whole_cell_needs_more_than_the_request() -> None:
    found = with_diagnosis(requested=GIB, free=0, short=GIB, rerun=4 * GIB)
    assert "4.00 GiB" in found.verdict
    assert found.headline.endswith("**1.00 GiB** too little.")  # and does not say it a second time
    case = rich_case()
    case.plans, case.diagnosis = (), replace(case.diagnosis, requested=GIB, free=0, short=GIB, rerun=4 * GIB)
    assert write(case, catalog(), "en").headline.endswith("The cell needs at least **4.00 GiB** in all.")
    assert "in all" not in with_diagnosis(requested=GIB, free=0, short=GIB, rerun=GIB).headline


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({}, "your code"),
        ({"changed_line": 3}, "your code, line 3"),
        ({"changed_line": 3, "changed_cell": 7}, "your code, cell [7], line 3"),
    ],
)
def test_the_lines_that_a_mend_changes(changes: dict[str, Any], where: str) -> None:
    case = rich_case()
    case.plans = (replace(RELEASE, before="losses.append(loss)", after="losses.append(loss.item())", **changes),)
    found = write(case, catalog(), "en")
    markup = _diff.change(found.fixes[0], "en")
    assert f">{where}</div>" in markup
    assert "<ins>.item(" in markup
    if changes:
        assert "- losses.append(loss)\n       + losses.append(loss.item())" in _text.render(found)


def test_what_was_tried_before() -> None:
    assert report().tried == (
        "**Tried before:** Release the failed cell (freed 2.00 GiB). The cell ran out of memory again."
    )


def test_how_the_cell_fared() -> None:
    case = rich_case()
    ran = tell(replace(OUTCOMES[0], ran=True), case, catalog(), "en")
    assert ran[0] == "✓ The cell finished without an error."
    assert not [line for line in ran if "Predicted" in line or "enough" in line]
    failed = tell(replace(OUTCOMES[0], ran=False, cell_error="NameError: x"), case, catalog(), "en")
    assert failed[0] == "✗ The cell failed: NameError: x"
    assert failed[-1].startswith("Next to try: fix ")


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_sign_of_success_where_only_the_request_fits(language: Language) -> None:
    """That the failed request fits does not make the cell run; nor does that the least it needs is there."""
    case = rich_case(replace(EVENT, requested=GIB + MIB))
    case.plans = tuple(replace(plan, fits=True, whole_cell_fits=True) for plan in case.plans if plan.placement is None)
    case.outcomes = [replace(OUTCOMES[0], whole_cell_fits=True)]
    found = write(case, catalog(), language)
    undone = [row for row in found.fixes if row.verdict]
    assert undone
    assert not [row.verdict for row in undone if "✓" in row.verdict]
    assert "✓" not in found.outcomes[0]
    assert "✓" not in say("fix.measured", language, good=1, total=1)
    shown = [_html.fix(row) for row in undone if not row.plan.reruns and not row.plan.loads]
    assert not [markup for markup in shown if '<span class="oomh-ok">' in markup]


def test_a_claim_stands_beside_the_fix_that_the_matching_entry_recommends_alone() -> None:
    case, known = rich_case(), catalog()
    assert case.match is not None
    claimed = {row.plan.fix for row in write(case, known, "en").fixes if "claimed" in row.rates}
    assert claimed
    assert claimed <= {row.fix for row in case.match.entry.workarounds}
    case.choice = Choice(best=replace(case.match, relation="related"))
    assert not [row for row in write(case, known, "en").fixes if "claimed" in row.rates]
    case.choice = Choice()
    assert not [row for row in write(case, known, "en").fixes if "claimed" in row.rates]


def test_whose_fix_it_is() -> None:
    known = catalog()
    origin = Path(f"/tmp/{SCRIPT}{TICKS}/fixes/\u202ea.toml")
    mine = tuple(replace(fix, origin=origin) if fix.id == "delete-variable" else fix for fix in known.fixes)
    found = write(rich_case(), replace(known, fixes=mine), "en")
    told = {row.plan.fix: row.origin for row in found.fixes}
    assert told.pop("delete-variable") == f"from `\\u202ea.toml` in `/tmp/{SCRIPT}'code'/fixes`"
    assert not any(told.values())
    row = next(row for row in found.fixes if row.origin)
    assert "<script>" not in _html.fix(row)
    assert "from <code>\\u202ea.toml</code> in <code>/tmp/&lt;script&gt;" in _html.fix(row)
    assert "(from `\\u202ea.toml` in" in _text.render(found)


HIDDEN = "\u202eevil\u2066\x1b[31m\x00\x9b\ud800\u2028"


def test_what_hides_in_a_text_is_written_out() -> None:
    assert plain(HIDDEN) == r"\u202eevil\u2066\x1b[31m\x00\x9b\ud800\u2028"
    assert plain("数据 👩\u200d💻 é\tx") == "数据 👩\u200d💻 é\tx"
    assert _markup.rich(f"`{HIDDEN}`") == r"<code>\u202eevil\u2066\x1b[31m\x00\x9b\ud800\u2028</code>"
    assert _diff.code(f"a = '{HIDDEN}'\nb").count("\n") == 1
    case = rich_case(replace(EVENT, function=HIDDEN), replace(SNAPSHOT, device=replace(DEVICE, name=HIDDEN)))
    found = write(case, catalog(), "en")
    for shown in (_static.render(found), _text.render(found)):
        assert r"\u202eevil" in shown
        shown.encode()
        assert not set(shown) & (set(HIDDEN) - set("evil[31m"))


# -- what fails ------------------------------------------------------------------------------------------------------


def test_a_part_that_fails_costs_only_itself() -> None:
    whole, case = report(), rich_case()
    case.plans = (*case.plans, replace(case.plans[0], fix="no-such-fix"))
    odd = Cause(kind="no-such-kind", size=1)  # type: ignore[arg-type]
    case.diagnosis = replace(case.diagnosis, causes=(odd, *case.diagnosis.causes))
    worth = Step(done="no-such-step", resident=GIB)  # type: ignore[arg-type]
    case.outcomes = [replace(OUTCOMES[0], steps=(worth,)), *case.outcomes]
    found = write(case, catalog(), "en")
    assert [row.title for row in found.fixes] == [row.title for row in whole.fixes]
    assert (found.cause_rows, found.outcomes, found.dead_ends) == (whole.cause_rows, whole.outcomes, whole.dead_ends)
    assert (found.entry, found.parts, found.notes) == (whole.entry, whole.parts, whole.notes)


def test_a_language_that_fails_falls_back_to_english() -> None:
    found, english = write(rich_case(), catalog(), "xx"), report()  # type: ignore[arg-type]
    for name in ("title", "headline", "parts", "cause_rows", "dead_ends", "outcomes", "entry", "notes"):
        assert getattr(found, name) == getattr(english, name), name


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("empty_cache", "empty_cache_host"),
        ("empty_cache", "empty_cache_short"),
        ("gc_collect", "gc_collect_pinned"),
        ("smaller_batch", "smaller_batch_loading"),
        ("smaller_batch", "smaller_batch_pinned"),
        ("restart_unchanged", "restart_too_large"),
        ("restart_unchanged", "restart_not_needed"),
    ],
)
def test_every_dead_end_has_its_sentence(kind: DeadEndKind, reason: str, language: Language) -> None:
    case = rich_case()
    case.diagnosis = replace(case.diagnosis, dead_ends=(DeadEnd(kind=kind, frees=MIB, reason=reason),))
    (text,) = write(case, catalog(), language).dead_ends
    assert "{" not in text
    assert "None" not in text
    assert "unknown" not in text


def test_dead_ends_with_what_the_entry_claims() -> None:
    assert report().dead_ends == (
        "`torch.cuda.empty_cache()` alone: would free 512 MiB of the 1.00 GiB missing"
        " · claimed to fail 80 % (CUDA-OOM-001)",
        "`gc.collect()`: cannot free the 2.00 GiB of the failed cell, the traceback still refers to it",
        "a smaller batch: the error came while a model was loading, where no batch is involved"
        " · claimed to fail 95 % (CUDA-OOM-001)",
        "restarting the kernel: not needed, the memory can be released without losing your variables"
        " · claimed to fail 60 % (CUDA-OOM-001)",
    )


def test_what_an_entry_claims_of_something_else_is_not_repeated() -> None:
    found = report(replace(EVENT, backend="hip"))
    assert not [text for text in found.dead_ends if "claimed" in text]
    assert found.entry.startswith("See also: **CUDA-OOM-001** ")  # what is known of CUDA is only likely of HIP
    assert found.entry.endswith("(written for: a CUDA device)")


@pytest.mark.parametrize(
    ("differs", "expected"), [(("backend", "phase"), " (written for: a CUDA device, loading a model)"), (("hint",), "")]
)
def test_an_entry_that_may_be_about_it(differs: tuple[str, ...], expected: str) -> None:
    case = rich_case()
    assert case.match is not None
    case.choice = Choice(best=replace(case.match, relation="related", differs=differs))
    title = "A Hugging Face model does not fit on the GPU while it is loaded"
    assert write(case, catalog(), "en").entry == f"See also: **CUDA-OOM-001** {title}{expected}"


def test_entry() -> None:
    found = report()
    assert found.entry == "**CUDA-OOM-001** A Hugging Face model does not fit on the GPU while it is loaded"
    assert "fix rate 88 % · confidence 90 % · evidence: 1 · first seen 2023-12-01" in found.claims
    assert "AI-generated, 1 evidence; no measurement is cited" in found.claims  # no rate without its source


def test_no_entry() -> None:
    found = report(HOST_EVENT, holdings=Holdings())
    assert found.entry == (
        "No entry of the knowledge base is about this error. What was read of it: error class"
        " `torch.OutOfMemoryError`; framework `numpy`; what ran out: host memory; message format `pt.cuda.capacity`;"
        " requested: 2.00 GiB; free: 32.0 GiB; not told: the phase."
    )
    assert found.claims == ""
    unnamed = report(replace(HOST_EVENT, exception_type=""), holdings=Holdings()).entry  # in a text that is explained
    assert "What was read of it: framework `numpy`" in unnamed
    assert "not told: the error's class, the phase." in unnamed


def test_what_the_cell_does_twice_is_said_before_it_runs_again() -> None:
    case = rich_case()
    shown = replace(RELEASE, applicability="display_only")
    case.plans = (RELEASE, replace(RELEASE, fix="delete-variable", applicability="unsafe", subject="queue"), shown)
    case.outcomes, case.repeats = [], (Repeat("taken", "queue"), Repeat("input"))
    safe, unsafe, copied = write(case, catalog(), "en").fixes
    assert safe.loses == ""
    assert safe.note.endswith("What it has already taken out of `queue` is gone. The cell asks for its input again.")
    assert unsafe.loses.endswith(" The cell asks for its input again.")
    assert "taken out" not in unsafe.loses  # it is deleted
    assert unsafe.loses in fix_loses(unsafe.plan, case, catalog(), "en")
    assert "again" not in copied.note


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({}, "it holds on to **2.00 GiB** that it does not need"),
        ({"fix": "float32"}, "with float32 it takes **2.00 GiB** less"),  # that array was never made
        ({"steps": 8}, "**This cell can run** after one fix."),  # a smaller batch: nothing was kept in vain
        ({"partial": True}, "**This cell can run** with a part of what it works on or keeps."),
    ],
)
def test_why_the_cell_can_run(facts: dict[str, Any], said: str) -> None:
    case = rich_case()
    case.plans = (replace(RELEASE, reruns=True, verdict="runs", explains=2 * GIB, **facts),)
    case.outcomes = []
    assert said in write(case, catalog(), "en").verdict


def test_a_click_asks_where_more_is_lost_than_what_the_cell_computes_anew() -> None:
    case = rich_case()
    changed = replace(RELEASE, fix="append-detached", applicability="unsafe", subject="losses", reruns=True)
    case.plans = (RELEASE, changed, replace(changed, fix="old-first"), replace(changed, fix="delete-variable"))
    case.outcomes, case.repeats = [], ()
    assert [row.asks for row in write(case, catalog(), "en").fixes] == [False, False, True, True]
    case.repeats = (Repeat("input"),)
    assert [row.asks for row in write(case, catalog(), "en").fixes] == [False, True, True, True]


@pytest.mark.parametrize(
    ("before", "after", "shown"),
    [
        ("kept.append(x)", "kept.append(x.item())", ["<code>kept.append(x)</code> → <code>kept.append(x<ins>.item()"]),
        ("return a", "del b\nreturn a", ["<code>+ <ins>del b</ins></code>"]),
        ("a = 1\nb\nc", "a = 2\nb\ndel b\nc", ["<code>a = <del>1</del></code>", "<code>+ <ins>del b</ins></code>"]),
        ("a\nb", "b", []),  # a line that goes
        ("a", "a\nb\nc\nd", []),
        ("a", "a\n" + "b" * 200, []),
        ("", "", []),
    ],
)
def test_a_short_change_stands_beside_its_button(before: str, after: str, shown: list[str]) -> None:
    case = rich_case()
    plan = replace(RELEASE, fix="let-go", applicability="unsafe", subject="b", reruns=True, before=before, after=after)
    case.plans, case.outcomes = (plan,), []
    (row,) = write(case, catalog(), "en").fixes
    lines = _diff.short_change(row).split("<br>")[1:]
    assert len(lines) == len(shown)
    assert all(part in line for part, line in zip(shown, lines, strict=True))


def test_a_search_without_room_is_not_told_as_a_lack_of_time() -> None:
    found = replace(SNAPSHOT.holdings, complete=False, searched=2, total=5, seconds=0.2)
    assert any("stopped after 0.2 s" in one for one in report(holdings=found).notes)
    (told,) = (one for one in report(holdings=replace(found, no_room=True)).notes if "search for holders" in one)
    assert told.startswith("The search for holders lacked memory; it got through 2 of 5 names")


def test_notes() -> None:
    found = report(replace(EVENT, certainty="probable")).notes
    assert found[0].startswith("The search for holders stopped after 0.3 s at 6 of 9 names")
    assert "CUDA_LAUNCH_BLOCKING=1" in found[1]
    assert found[2].startswith("The model's size is unknown: there is no such file")
    assert found[3:] == (
        "GPU memory is unknown: 'code'",
        f"could not read name: {SCRIPT}",
        f"Left out: entries/{SCRIPT}.toml: code: is missing 'code'",
    )


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_entrys_page_has_what_is_installed(language: Language) -> None:
    case = rich_case()
    assert case.match is not None
    page = entry_page(case.match.entry, language)
    assert page.startswith("# CUDA-OOM-001 · ")
    for row in case.match.entry.versions:
        here = installed_version(row.package) or ("not installed" if language == "en" else "未安装")
        assert here in page


# -- outcomes --------------------------------------------------------------------------------------------------------


def test_outcomes() -> None:
    good, bad = report().outcomes
    assert good == (
        "Release the failed cell: freed 2.00 GiB (5.00 GiB → 3.00 GiB allocated) in 0.2 s. Predicted: 2.00 GiB."
        " The driver's figure for the device: 7.00 GiB → 5.00 GiB."
        " That is enough for the failed request of 2.00 GiB now: 3.00 GiB is free."
        " ✗ Unchanged, the cell needs at least 4.00 GiB: make it smaller before you run it again."
    )
    assert bad.startswith(
        f"The code raised an error: NameError: {SCRIPT} *bold* 'code' Delete `*bold*`: done in < 0.1 s;"
    )
    assert "✗ Not enough yet for the failed request of 2.00 GiB: 1.00 GiB is free." in bad


def test_an_outcome_on_the_host() -> None:
    before = Measure(backend="host", resident=3 * GIB, free=GIB)
    outcome = Outcome(
        fix="release-failed-cell",
        before=before,
        after=replace(before, resident=4 * GIB),
        freed=-GIB,
        whole_cell_fits=True,
    )
    lines = tell(outcome, rich_case(), catalog(), "en")
    assert lines == [
        "Release the failed cell: 1.00 GiB more is held than before (3.00 GiB → 4.00 GiB resident) after < 0.1 s.",
        "Unchanged, the cell needs at least 4.00 GiB, which is free now; "
        "whether that is enough shows only when it runs.",
    ]
    assert tell(replace(outcome, ran=True), rich_case(), catalog(), "en")[1] == (
        "Release the failed cell: done in < 0.1 s. "
        "With what the cell has made, 1.00 GiB more is held than before (3.00 GiB → 4.00 GiB resident)."
    )


STEPS = (
    Step(done="frames", count=3, allocated=0, device_used=0, resident=0),
    Step(done="variable", name="**x**", allocated=0, device_used=0, resident=0),
    Step(done="collect", allocated=2 * GIB, device_used=0, resident=0),
    Step(done="cuda_cache", allocated=0, device_used=3 * GIB, resident=0),
    Step(done="cuda_shared", error="RuntimeError"),
)


def test_what_each_step_freed_with_the_two_figures_apart() -> None:
    before = Measure(backend="cuda", allocated=3 * GIB, device_used=5 * GIB)
    after = Measure(backend="cuda", allocated=GIB, device_used=2 * GIB)
    outcome = Outcome(fix="release", before=before, after=after, freed=2 * GIB, steps=STEPS, held=(("y", GIB),))
    assert summary(outcome, "en") == [
        "release(): freed 2.00 GiB (3.00 GiB → 1.00 GiB allocated) in < 0.1 s.",
        "The driver's figure for the device: 5.00 GiB → 2.00 GiB.",
        "- local names of 3 finished frames cleared (allocator nothing, driver nothing)",
        "- variable `*x*` deleted (allocator nothing, driver nothing)",
        "- garbage collected (allocator 2.00 GiB, driver nothing)",
        "- PyTorch's CUDA cache emptied (allocator nothing, driver 3.00 GiB)",
        "- CUDA memory shared with other processes could not be released: RuntimeError",
        "Still held: `y` 1.00 GiB.",
    ]
    assert "已回收垃圾对象（分配器 2.00 GiB，驱动无变化）" in summary(outcome, "zh")[4]
    told = tell(replace(outcome, fix="release-failed-cell"), rich_case(), catalog(), "en")  # only what it is about
    assert told[-1] == (
        "Step by step: garbage collected (allocator 2.00 GiB, driver nothing); PyTorch's CUDA cache emptied"
        " (allocator nothing, driver 3.00 GiB);"
        " CUDA memory shared with other processes could not be released: RuntimeError."
    )


def test_steps_on_the_host_and_outside_of_any_reading() -> None:
    before = Measure(backend="host", resident=3 * GIB)
    steps = (Step(done="collect", resident=2 * GIB), Step(done="exception"))
    outcome = Outcome(fix="release", before=before, after=replace(before, resident=GIB), freed=2 * GIB, steps=steps)
    assert summary(outcome, "en")[1:] == [
        "- garbage collected (2.00 GiB)",
        "- exception dropped: `%tb` and `%debug` have nothing to show (unknown)",
    ]


def test_words_of_one_fix() -> None:
    case = rich_case()
    plan = next(one for one in case.plans if one.fix == "delete-variable")
    assert fix_title(plan.fix, plan.subject, case, catalog(), "zh") == "删除变量 `*bold*`"
    assert fix_loses(plan, case, catalog(), "en").startswith(
        "What it costs: `*bold*` and everything that only it holds."
    )


# -- the bar ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("requested", [None, GIB // 2, 2 * GIB, 100 * GIB])
@pytest.mark.parametrize("backend", ["cuda", "host"])
def test_widths_add_up_to_the_whole(backend: str, requested: int | None) -> None:
    parts = bar(segments(SNAPSHOT, backend, requested), "en")
    assert sum(part.width for part in parts) == pytest.approx(100)
    assert all(0 <= part.width <= 100 for part in parts)
    assert ("short" in {part.kind for part in parts}) == ((requested or 0) > (GIB if backend == "cuda" else 32 * GIB))


def test_what_is_unknown_is_not_drawn() -> None:
    parts = bar(segments(replace(SNAPSHOT, device=None), "cuda"), "en")
    assert [part.kind for part in parts] == ["allocated", "cached"]
    assert bar(segments(replace(SNAPSHOT, host=HostMemory()), "host"), "en") == ()
    nothing = HostMemory(capacity=0, available=0, this_process=0)
    assert sum(part.width for part in bar(segments(replace(SNAPSHOT, host=nothing), "host"), "en")) == 0


LONG = {
    "letters": "a" * 200,
    "marks": "e" + "\u0301" * 199,
    "characters": "变量" * 100,
    "several": ", ".join(f"a_name_of_the_users_{n}" for n in range(60)),
}


@pytest.mark.parametrize("name", LONG.values(), ids=LONG)
def test_a_long_name_is_shown_in_part(name: str) -> None:
    assert SNAPSHOT.device is not None
    holdings = replace(SNAPSHOT.holdings, rows=(replace(SNAPSHOT.holdings.rows[0], name=name),))
    one = name.partition(",")[0]
    snapshot = replace(SNAPSHOT, holdings=holdings, device=replace(SNAPSHOT.device, name=one * 9))
    found = write(rich_case(replace(EVENT, function=one), snapshot), catalog(), "en")
    (held,) = [row.text for row in found.cause_rows if row.kind == "failed_cell"]
    assert max(len(held), len(found.place)) < 400
    assert "\u0301" * 4 not in held + found.place


def test_names_that_fit_stay_whole() -> None:
    assert code("model, optimizer, " + "x" * 60) == "`model, optimizer, " + "x" * 60 + "`"
    assert code("/" + "folder/" * 20, whole=True) == "`/" + "folder/" * 20 + "`"
    assert code("x" * 30 + "y" * 31) == "`" + "x" * 29 + "…" + "y" * 29 + "`"


# -- size ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "CUDA out of memory. Tried to allocate 2.00 GiB. " + "x" * (1 << 20),
        "<b>" * (1 << 19) + "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 8.00 GiB",
        "Unable to allocate 2.00 GiB for an array with shape (268435456,) and data type int64" + "`" * (1 << 20),
    ],
    ids=["behind", "before", "numpy"],
)
def test_a_message_of_a_mebibyte_makes_no_large_report(text: str) -> None:
    event = detect_text(text, "MemoryError" if text.startswith("Unable") else "torch.OutOfMemoryError")
    assert event is not None
    assert event.requested == 2 * GIB
    case = rich_case(event)
    assert case.diagnosis == diagnose(event, SNAPSHOT)
    found = write(case, catalog(), "en")
    assert len(_static.render(found)) < 60_000
    assert len(_text.render(found)) < 20_000
