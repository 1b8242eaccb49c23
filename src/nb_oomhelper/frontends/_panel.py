"""A case as an inline widget: live readout, fixes that run on a click, the entry.

Plain ipywidgets without any script of our own, so that it works wherever ipywidgets do.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from nb_oomhelper.case import Case
from nb_oomhelper.diagnose import segments
from nb_oomhelper.export import to_json
from nb_oomhelper.frontends import _html, _text
from nb_oomhelper.frontends._actions import Actions
from nb_oomhelper.model import MemorySnapshot
from nb_oomhelper.outcomes import fix_title, plain, tell
from nb_oomhelper.poll import Poll
from nb_oomhelper.report import FixRow, Report, bar, entry_page, write
from nb_oomhelper.wording import Language, say

_log = logging.getLogger(__name__)
_SPAN = 120  # seconds that the sparkline shows
_OTHER: dict[Language, Language] = {"en": "zh", "zh": "en"}
_LABEL: dict[Language, str] = {"en": "English", "zh": "中文"}
_VIEW = "application/vnd.jupyter.widget-view+json"


def available(shell: Any) -> bool:
    """Whether this shell has a kernel behind it and ipywidgets can be had."""
    return getattr(shell, "kernel", None) is not None and gap() is None


def gap() -> str | None:
    """Why there are no widgets, in one plain line; None where there are."""
    try:
        import ipywidgets  # noqa: F401
    except Exception as error:  # absent, broken, or no memory left to load it
        _log.debug("no ipywidgets", exc_info=True)
        return f"none: ipywidgets cannot be imported ({type(error).__name__}: {error}); panels have no buttons"
    return None


def show(case: Case, actions: Actions) -> Panel:
    """Show the case in one message that carries the widget, text/html and text/plain."""
    from IPython.display import display

    report = write(case, actions.catalog(), actions.language())
    panel = Panel(case, actions, report)
    bundle = {
        _VIEW: {"version_major": 2, "version_minor": 0, "model_id": panel.root.model_id},
        "text/html": _html.render(report),
        "text/plain": _text.render(report),
    }
    display(bundle, raw=True)
    try:
        panel.live()
    except RuntimeError:  # no room for one more thread: what is shown stays
        _log.debug("no live readout", exc_info=True)
    return panel


class Panel:
    """The widgets of one case, and what their clicks do."""

    def __init__(self, case: Case, actions: Actions, report: Report) -> None:
        import ipywidgets as widgets

        self._widgets = widgets
        self._case = case
        self._actions = actions
        self._language: Language = report.language
        self._running = False
        self._used: deque[int] = deque(maxlen=max(2, round(_SPAN / actions.refresh)))
        self._until = 0.0
        self._poll = Poll(self._tick, actions.refresh)
        self._result: list[str] = []
        self._again_result = ""
        self._shown = ""  # which form of the entry is open
        self._build(report)

    def live(self) -> None:
        """Begin the live readout."""
        self._until = time.monotonic() + 60 * self._actions.live
        self._poll.start()

    def close(self) -> None:
        """End the live readout; what is shown stays."""
        self._poll.stop()
        self._freeze()

    # what it is made of

    def _build(self, report: Report) -> None:
        widgets = self._widgets
        self._head, self._bar, self._why, self._ends, self._notes = (widgets.HTML() for _ in range(5))
        self._status = self._spoken()
        self._told = self._spoken()
        self._entry = widgets.HTML(layout=widgets.Layout(flex="1 1 400px"))
        self._output, self._page = widgets.Output(), widgets.Output()
        self._page.add_class("oomh-page")
        self._switch = self._button("", lambda: self._speak(_OTHER[self._language]))
        self._rows = [FixWidget(self, row) for row in report.fixes]
        self._again = self._button("", self._run_again)
        self._forms = [self._button(form, partial(self._open, form)) for form in ("Entry", "JSON", "Markdown")]
        self._fixes = widgets.HTML()
        top = widgets.HBox([self._head, self._switch])
        self._head.layout.flex = "1 1 auto"
        foot = widgets.HBox([self._entry, *(self._forms if self._case.match else [])])
        foot.add_class("oomh-foot")
        rows = [row.root for row in self._rows]
        self.root = widgets.VBox(
            [
                *(top, self._bar, self._status, self._why, self._fixes, *rows),
                *(self._told, self._output, self._again, self._ends, self._notes, foot, self._page),
            ]
        )
        self.root.add_class("oomh")
        self._again.layout = widgets.Layout(width="auto", align_self="flex-start", display="none")
        self._put(self._status, "")
        self._put(self._told, "")
        self._write(report)
        self._tell()
        self._draw(self._case.snapshot, say("live.still", self._language))

    def _spoken(self) -> Any:
        """A line that screen readers are told of."""
        line = self._widgets.HTML()
        line.add_class("oomh-status")
        return line

    def _button(self, label: str, click: Callable[[], None]) -> Any:
        button = self._widgets.Button(description=label)
        button.add_class("oomh-small")
        button.on_click(lambda _: self._guard(click))
        return button

    def _write(self, report: Report) -> None:
        """Put the report's words into the widgets."""
        language = report.language
        self._head.value = _html.style() + _html.head(report) + _html.headline(report)
        self._why.value = _html.whys(report)
        self._put(self._fixes, _html.section(say("section.fixes", language)) if report.fixes else "")
        for widget, row in zip(self._rows, report.fixes, strict=True):
            widget.write(row, language)
        self._put(self._ends, _html.dead_ends(report))
        self._put(self._notes, _html.notes(report.notes))
        self._entry.value = _html.entry(report)
        self._again.description = say("button.again", language)
        self._forms[0].description = say("button.entry", language)
        self._switch.description = _LABEL[_OTHER[language]]

    def _speak(self, language: Language) -> None:
        """Show everything in another language."""
        self._language = language
        self._write(write(self._case, self._actions.catalog(), language))
        self._tell()
        if self._shown:
            form, self._shown = self._shown, ""
            self._open(form)

    def _open(self, form: str) -> None:
        """Show the entry in a form, or close it if it is shown."""
        match = self._case.match
        if match is None or self._shown == form:
            self._shown, self._page.outputs = "", ()
            return
        self._shown = form
        text = to_json(match.entry) if form == "JSON" else entry_page(match.entry, self._language)
        data = {"text/plain": text}
        if form == "Entry":
            data["text/markdown"] = text
        self._page.outputs = ({"output_type": "display_data", "data": data, "metadata": {}},)

    # what a click does

    def start(self, widget: FixWidget) -> None:
        """Run a fix, now or as soon as the main thread is free."""
        if self._running or widget.done:
            return
        title = fix_title(widget.plan.fix, widget.plan.subject, self._case, self._actions.catalog(), self._language)
        self._begin(say("outcome.running", self._language, title=title))
        self._actions.on_main(partial(self._run, widget), self._waits)

    def _run(self, widget: FixWidget, finish: Callable[[], None]) -> None:
        with self._guarded(finish):
            self._output.outputs = ()
            with self._output:
                outcome = self._actions.run(self._case, widget.plan.number)
            widget.done = outcome.error is None
            self._again_result = ""
            self._write(write(self._case, self._actions.catalog(), self._language))
            self._tell()
            # a reload has done the cell's work in its own way: the cell would only undo it
            self._again.layout.display = "" if self._case.cell and not outcome.loaded else "none"
            self._end()
            finish()

    def _run_again(self) -> None:
        if not self._running:
            self._begin(say("outcome.again", self._language))
            self._actions.on_main(self._rerun, self._waits)

    def _rerun(self, finish: Callable[[], None]) -> None:
        with self._guarded(finish):
            self._output.outputs = ()
            self._output.__enter__()  # a cell that awaits goes on after this call

            def done(error: str | None) -> None:
                self._output.__exit__(None, None, None)
                self._reran(error)
                finish()

            self._actions.rerun(self._case, done)

    def _waits(self) -> None:
        self._say([say("live.busy", self._language)])

    def _reran(self, error: str | None) -> None:
        key = "outcome.again_done" if error is None else "outcome.again_failed"
        self._again_result = say(key, self._language, error=plain(error or ""))
        self._tell()
        self._end()

    def _begin(self, text: str) -> None:
        self._running = True
        self._say([text])
        for button in self._buttons():
            button.disabled = True

    def _end(self) -> None:
        self._running = False
        self._say([])
        for button in self._buttons():
            button.disabled = False
        for widget in self._rows:
            widget.settle()

    def _buttons(self) -> list[Any]:
        return [self._again, *(widget.run for widget in self._rows)]

    def _tell(self) -> None:
        """Show the last outcome, and how the cell fared after it."""
        lines: list[str] = []
        if self._case.outcomes:
            lines = tell(self._case.outcomes[-1], self._case, self._actions.catalog(), self._language)
        lines += [self._again_result] if self._again_result else []
        body = f'<div class="oomh-outcome" role="status">{_html.lines(lines)}</div>'
        self._put(self._told, _html.section(say("section.outcome", self._language)) + body if lines else "")

    def _guard(self, click: Callable[[], None]) -> None:
        """An error of ours becomes one line in the panel; the log has the rest."""
        with self._guarded(lambda: None):
            click()

    @contextmanager
    def _guarded(self, finish: Callable[[], None]) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            _log.debug("a click failed", exc_info=True)
            self._end()
            self._put(self._told, _html.notes([plain(f"{type(error).__name__}: {error}")]))
            finish()

    def _say(self, texts: list[str]) -> None:
        """Put a line under the bar; none takes no room."""
        self._put(self._status, _html.notes(texts))

    def _put(self, widget: Any, value: str) -> None:
        widget.value = value
        widget.layout.display = "" if value else "none"

    # the live readout

    def _tick(self) -> bool:
        if time.monotonic() > self._until:
            self._freeze()
            return False
        self._draw(
            self._actions.read(self._case), say("live.now", self._language, seconds=f"{self._actions.refresh:g}")
        )
        if not self._running:
            self._say([say("live.busy", self._language)] if self._actions.busy() else [])
        return True

    def _draw(self, snapshot: MemorySnapshot, caption: str) -> None:
        backend, requested = self._case.event.backend, self._case.diagnosis.requested
        parts = segments(snapshot, backend, requested)
        self._used.append(sum(part.size or 0 for part in parts if part.kind not in ("free", "short")))
        self._bar.value = _html.bar(bar(snapshot, backend, self._language, requested), caption, self._used)

    def _freeze(self) -> None:
        caption = say("live.ended", self._language, time=time.strftime("%H:%M:%S"))
        try:
            self._draw(self._actions.read(self._case), caption)
        except Exception:  # the last reading is only a courtesy
            _log.debug("no last reading", exc_info=True)


class FixWidget:
    """One fix in the panel: its row, its code, and the question before something is lost."""

    def __init__(self, panel: Panel, row: FixRow) -> None:
        import ipywidgets as widgets

        self.plan = row.plan
        self.done = False
        self._panel = panel
        self._text = widgets.HTML(layout=widgets.Layout(flex="1 1 480px"))
        self._code = widgets.HTML()
        self._question = widgets.HTML(layout=widgets.Layout(flex="1 1 300px"))
        self.run = panel._button("", self._ask)
        self._show = panel._button("", self._toggle)
        self._sure = panel._button("", lambda: self._answer(True))
        self._cancel = panel._button("", lambda: self._answer(False))
        self._confirm = widgets.HBox([self._question, self._sure, self._cancel])
        self._confirm.add_class("oomh-confirm")
        self._sure.button_style = "warning"
        runs = row.plan.applicability != "display_only"
        buttons = widgets.HBox([self.run, self._show] if runs else [self._show])
        buttons.add_class("oomh-buttons")
        line = widgets.HBox([self._text, buttons])
        line.add_class("oomh-row")
        self.root = widgets.VBox([line, self._code, self._confirm])
        self.run.button_style = "primary" if row.plan.number == 1 else ""
        self._hide(self._confirm, True)
        self._hide(self._code, row.plan.number != 1)

    def write(self, row: FixRow, language: Language) -> None:
        """Put the row's words into its widgets."""
        self.plan = row.plan  # after a load, others lose what was loaded, and say so
        self._text.value = _html.fix(row)
        self._code.value = _html.change(row, language) + _html.code(row.plan.code)
        self._question.value = _html.rich(say("fix.loses", language, loses=row.loses))
        for button, key in ((self.run, "run"), (self._show, "code"), (self._sure, "sure"), (self._cancel, "cancel")):
            button.description = say(f"button.{key}", language)
        self.run.tooltip = say("button.run_help", language)
        self._show.tooltip = say("button.code_help", language)
        self.settle()

    def settle(self) -> None:
        """A fix that did its work cannot be run twice by a second click."""
        if self.done:
            self.run.disabled = True
            self.run.description = f"✓ {self.run.description.removeprefix('✓ ')}"

    def _ask(self) -> None:
        if self.plan.applicability == "unsafe":
            self._hide(self._confirm, False)
            self._hide(self._code, False)  # what is asked for is what is shown
        else:
            self._panel.start(self)

    def _answer(self, sure: bool) -> None:
        self._hide(self._confirm, True)
        if sure:
            self._panel.start(self)

    def _toggle(self) -> None:
        self._hide(self._code, self._code.layout.display != "none")

    def _hide(self, widget: Any, hidden: bool) -> None:
        widget.layout.display = "none" if hidden else ""
