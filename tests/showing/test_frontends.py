"""The ways of showing a case: what they draw is well-formed, escaped and whole."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args, get_type_hints

import pytest

from nb_oomhelper.case import Case
from nb_oomhelper.knowledge.toml_tables import Language
from nb_oomhelper.records.memory import MemorySnapshot, Segment
from nb_oomhelper.showing import frontends
from nb_oomhelper.showing.frontends import FRONTENDS, Actions, _diff, _html, _markup, _static, _style, _text
from nb_oomhelper.showing.markup import plain
from nb_oomhelper.showing.report import Part, Report, write
from nb_oomhelper.showing.wording import say
from tests.cases import EVENT, GIB, HOSTILE, QUOTES, SCRIPT, SNAPSHOT, STARS, TICKS, catalog, rich_case
from tests.page import Page

pytestmark = pytest.mark.plain

LANGUAGES: tuple[Language, ...] = get_args(Language)
NOT_FRONTENDS = {
    *("_widgets", "__init__", "_actions", "_clicks", "_entry_forms", "_foresee", "_readout", "_live"),
    *("_body", "_elsewhere", "_fix_list", "_diff", "_markup", "_static", "_style", "_terminal"),
}  # what they share, and %gpumem --live
SPARSE = Report(
    language="en",
    title="t",
    place="p",
    headline="h",
    parts=(),
    cause_rows=(),
    fixes=(),
    dead_ends=(),
    outcomes=(),
    entry="e",
    claims="",
    notes=(),
)


def unmarked(text: str) -> str:
    return text.replace("`", "").replace("**", "")


def everything(report: Report) -> Iterator[str]:
    """Every text of a report that is shown, without its marks."""
    yield from (report.title, report.place, report.headline, report.entry, report.claims)
    yield from (*report.dead_ends, *report.outcomes, *report.notes)
    for part in report.parts:
        yield from (part.label, part.size)
    for why in report.cause_rows:
        yield from (why.size, why.text)
    for row in (*report.fixes, *report.not_enough):
        yield from (row.title, row.effect, row.verdict, row.label, row.rates)


# -- HTML ------------------------------------------------------------------------------------------------------------


class TestHtml:
    @pytest.mark.parametrize("language", LANGUAGES)
    def test_a_rich_case(self, language: Language) -> None:
        report = write(rich_case(), catalog(), language)
        page = Page(_static.render(report))
        assert page.wrong == []
        assert ("div", {"class": "oomh oomh-static", "lang": language}) in page.elements
        for text in everything(report):
            assert unmarked(text) in page.text
        for row in report.fixes:
            assert row.plan.code.strip() in page.text
            assert unmarked(row.note) in page.text
        counts = {"why": len(report.cause_rows), "more": len(report.others), "dead_ends": len(report.dead_ends)}
        for key, count in counts.items():
            assert say(f"fold.{key}", language, count=count) in page.text
        assert say("live.still", language) in page.text

    def test_nothing_from_outside_becomes_an_element(self) -> None:
        page = Page(_static.render(write(rich_case(), catalog(), "en")))
        assert page.text.count(SCRIPT) > 5
        assert plain(STARS) in page.text
        assert plain(TICKS) in page.text
        assert QUOTES in page.text

    def test_a_bar_that_adds_up(self) -> None:
        report = write(rich_case(), catalog(), "en")
        page = Page(_html.bar(report.parts))
        widths = [
            float(match[1])
            for tag, attributes in page.elements
            if tag == "i" and (match := re.fullmatch(r"width:([\d.]+)%", attributes.get("style", "")))
        ]
        assert len(widths) == len(report.parts)
        assert sum(widths) == pytest.approx(100, abs=0.05)

    def test_the_bar_is_told_in_words(self) -> None:
        page = Page(_html.bar(write(rich_case(), catalog(), "en").parts))
        ((_, attributes),) = [element for element in page.elements if element[1].get("role") == "img"]
        assert attributes["aria-label"].startswith("allocated 5.00 GiB, cached 512 MiB")

    def test_a_report_without_anything(self) -> None:
        page = Page(_static.render(SPARSE))
        assert page.wrong == []
        assert say("section.nothing", "en") in page.text
        assert say("section.fixes", "en") not in page.text
        assert say("section.outcome", "en") not in page.text
        assert say("section.dead_ends", "en") not in page.text

    def test_shares_are_drawn_but_not_those_that_nobody_holds(self) -> None:
        report = write(rich_case(replace(EVENT, requested=9 * GIB)), catalog(), "en")
        page = Page(_html.cause_rows(report))
        drawn = {attributes["class"].split("-")[-1] for tag, attributes in page.elements if tag == "i"}
        kinds = {why.kind for why in report.cause_rows}
        assert {"limit", "too_large"} <= kinds
        assert drawn == kinds - {"limit", "too_large"}

    @pytest.mark.parametrize("text", [*HOSTILE, "", "`", "**", "`a", "**a", "`**`", "a`<b>`c", "**`a`**", "\0\u202e"])
    def test_rich_is_always_well_formed(self, text: str) -> None:
        for one in (text, f"`{text}`", f"**{text}**", f"{text} and `x` and **y**"):
            assert Page(_markup.rich(one)).wrong == []

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("`a` and **b**", "<code>a</code> and <b>b</b>"),
            ("**`a`**", "<b><code>a</code></b>"),
            ("`f(**a)` and `g(**b)`", "<code>f(**a)</code> and <code>g(**b)</code>"),
            ("<i>`<b>`", "&lt;i&gt;<code>&lt;b&gt;</code>"),
            ('"&"', "&quot;&amp;&quot;"),
        ],
    )
    def test_rich(self, text: str, expected: str) -> None:
        assert _markup.rich(text) == expected

    def test_code_is_shown_as_it_runs(self) -> None:
        code = "x = '<b>' # `a` **b**\n  y = 1"
        page = Page(_diff.code(f"\n{code}\n"))
        assert page.text == code
        assert page.elements == [("pre", {"class": "oomh-code", "tabindex": "0"})]  # reachable by the keyboard

    @pytest.mark.parametrize(
        ("used", "points"),
        [
            ([], None),
            ([5], None),
            ([0, 10], "0.0,14.0 100.0,2.0"),
            ([7, 7, 7], "0.0,14.0 50.0,14.0 100.0,14.0"),
            ([4, 0, 8], "0.0,8.0 50.0,14.0 100.0,2.0"),
        ],
    )
    def test_sparkline(self, used: list[int], points: str | None) -> None:
        page = Page(_html.sparkline(used))
        assert [attributes["points"] for tag, attributes in page.elements if tag == "polyline"] == (
            [] if points is None else [points]
        )
        assert page.wrong == []

    def test_no_bar_without_parts(self) -> None:
        assert Page(_html.bar((), f"when {SCRIPT}")).text == f"when {SCRIPT}"

    def test_the_style_needs_nothing_from_outside(self) -> None:
        style = _style.of_panel()
        assert "</style" not in style.removesuffix("</style>")
        assert not re.search(r"url\(|@import|expression\(", style)
        assert not re.search(r"/\*|\n|  ", style)  # what only its writers read stays out of notebooks
        for kind in get_args(get_type_hints(Segment)["kind"]):
            assert re.search(rf"\.oomh-{kind}\b", style), kind

    def test_colours_come_from_the_theme(self) -> None:
        """Every colour has a variable of JupyterLab's in front of it."""
        found = [one for one in re.split("[;{}]", _style.of_panel()) if re.search(r"#[0-9a-fA-F]{3,8}\b", one)]
        assert len(found) > 5
        assert [one for one in found if "var(--jp" not in one] == []

    def test_a_report_needs_the_rules_of_panels_for_nothing(self) -> None:
        """A saved notebook has the first sheet alone: what gives a class its looks must be there."""
        report = write(rich_case(), catalog(), "en")
        solved = replace(report, solved=True, tried="x")
        rules = set(re.findall(r"\.(oomh-[a-z_-]+)", _style.of_panel()))
        for one in (report, solved):
            style, shown = _static.render(one).split("</style>", 1)
            used = set(re.findall(r"oomh-[a-z_-]+", shown))
            ours = set(re.findall(r"\.(oomh-[a-z_-]+)", style))
            assert used & rules == ours
            assert {"oomh-why", "oomh-code", "oomh-folds"} <= ours

    def test_a_report_has_the_variables_that_its_rules_read(self) -> None:
        style = _static.render(write(rich_case(), catalog(), "en")).split("</style>")[0]
        assert set(re.findall(r"(--o-\w+):", style)) == set(re.findall(r"var\((--o-\w+)\)", style))


# -- text ------------------------------------------------------------------------------------------------------------


class TestText:
    @pytest.mark.parametrize("language", LANGUAGES)
    def test_a_rich_case(self, language: Language) -> None:
        report = write(rich_case(), catalog(), language)
        text = _text.render(report)
        for one in everything(report):
            assert one.replace("**", "") in text
        for row in report.fixes:
            for line in row.plan.code.strip().splitlines():
                assert f"       | {line}".rstrip() in text
            assert not row.loses or say("fix.loses", language, loses=row.loses) in text
        for key in ("section.why", "section.fixes", "section.outcome", "section.dead_ends", "note.terminal"):
            assert say(key, language) in text
        assert not [line for line in text.splitlines() if "**" in line and not line.startswith("       | ")]

    def test_the_bar(self) -> None:
        parts = (
            Part(kind="allocated", label="allocated", size="1.00 GiB", width=50.0),
            Part(kind="other", label="other processes", size="512 MiB", width=25.0),
            Part(kind="short", label="short", size="512 MiB", width=25.0),
        )
        drawn, legend = _text.render(replace(SPARSE, parts=parts)).split("\n\n")[1].splitlines()
        assert drawn == "[" + "#" * 30 + "o" * 15 + "!" * 15 + "]"
        assert legend == "# allocated 1.00 GiB  o other processes 512 MiB  ! short 512 MiB"

    def test_a_report_without_anything(self) -> None:
        assert _text.render(SPARSE) == "t · p\nh\n\ne"  # nothing to run

    def test_stars_in_code_stay(self) -> None:
        shown = _text.render(replace(SPARSE, headline="**2 GiB** in `f(**a)` and `g(**b)`"))
        assert "2 GiB in `f(**a)` and `g(**b)`" in shown


# -- which one -------------------------------------------------------------------------------------------------------


def actions(language: Language = "en") -> Actions:
    def refuse(*_: object) -> Any:
        raise AssertionError("nothing was clicked")

    def read(_case: Case) -> MemorySnapshot:
        return SNAPSHOT

    return Actions(
        catalog=catalog,
        language=lambda: language,
        run=refuse,
        rerun=refuse,
        forecast=refuse,
        read=read,
        on_main=refuse,
        busy=lambda: False,
        refresh=1.0,
        live=0.0,
        ask=refuse,
    )


class TestChoice:
    def test_every_file_is_in_the_tuple(self) -> None:
        files = {file.stem for file in Path(frontends.__file__).parent.glob("*.py")} - NOT_FRONTENDS
        assert {type(one).__name__.lower() for one in FRONTENDS} == files
        assert len(FRONTENDS) == len(files)

    def test_a_terminal_gets_text(self, capsys: pytest.CaptureFixture[str]) -> None:
        case = rich_case()
        assert [one.available(SimpleNamespace()) for one in FRONTENDS] == [False, False, True]
        assert frontends.show(case, actions("zh"), SimpleNamespace()) is None
        assert capsys.readouterr().out == _text.render(write(case, catalog(), "zh")) + "\n"

    def test_where_one_fails_the_next_takes_over(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        tried: list[str] = []

        class Broken:
            def available(self, _shell: object) -> bool:
                tried.append("available")
                return True

            def show(self, *_: object) -> None:
                tried.append("show")
                raise MemoryError

        class Unsure:
            def available(self, _shell: object) -> bool:
                tried.append("unsure")
                raise ImportError

        monkeypatch.setattr(frontends, "FRONTENDS", (Broken(), Unsure(), FRONTENDS[-1]))
        frontends.show(rich_case(), actions(), SimpleNamespace())
        assert tried == ["available", "show", "unsure"]
        assert "CUDA out of memory" in capsys.readouterr().out

        monkeypatch.setattr(frontends, "FRONTENDS", (Broken(), Unsure()))
        with pytest.raises(ImportError):
            frontends.show(rich_case(), actions(), SimpleNamespace())

    def test_without_a_kernel_there_is_nothing_live(self) -> None:
        driver: Any = None
        assert frontends.show_live(driver, actions(), SimpleNamespace()) is None
