"""A case as an inline widget: live readout, fixes that run on a click, the entry.

Plain ipywidgets without any script of our own, so that it works wherever ipywidgets do.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from nb_oomhelper.address_space import is_scarce
from nb_oomhelper.case import Case
from nb_oomhelper.knowledge.export import entry_page, to_json
from nb_oomhelper.knowledge.toml_tables import Language
from nb_oomhelper.memory.segments import segments
from nb_oomhelper.poll import WORKER, Repeat
from nb_oomhelper.records.memory import MemorySnapshot
from nb_oomhelper.records.remedy import Outcome
from nb_oomhelper.showing.frontends import _html, _text
from nb_oomhelper.showing.frontends._actions import Actions
from nb_oomhelper.showing.frontends._widgets import FixWidget, family
from nb_oomhelper.showing.outcome_text import fix_title, plain, tell
from nb_oomhelper.showing.report import Report, bar, write
from nb_oomhelper.showing.wording import say

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
    view = {_VIEW: {"version_major": 2, "version_minor": 0, "model_id": panel.root.model_id}}
    display(view | picture(report), raw=True, display_id=panel.display_id)
    panel.follow()
    return panel


def picture(report: Report) -> dict[str, str]:
    """A report without widgets, as a display bundle."""
    return {"text/html": _html.render(report), "text/plain": _text.render(report)}


class Panel:
    """The widgets of one case, and what their clicks do."""

    def __init__(self, case: Case, actions: Actions, report: Report) -> None:
        import ipywidgets as widgets

        self.display_id = uuid.uuid4().hex
        self._widgets = widgets
        self._case = case
        self._actions = actions
        self._language: Language = report.language
        self._running = False
        self._used: deque[int] = deque(maxlen=max(2, round(_SPAN / actions.refresh)))
        self._until = 0.0
        self._last = case.snapshot  # as it was read last
        self._repeat: Repeat | None = None
        self._drawing = threading.Lock()
        self._again_result = ""
        self._shown = ""  # which form of the entry is open
        self._build(report)

    @property
    def live(self) -> bool:
        """Whether it follows the memory."""
        return self._repeat is not None and self._repeat.active

    def follow(self) -> None:
        """Begin the live readout, where it is this process's memory that ran out, and there is a thread for it."""
        if self._case.event.remote is not None:
            return
        self._until = time.monotonic() + 60 * self._actions.live
        self._repeat = WORKER.every(self._actions.refresh, self._tick, self._freeze)

    def close(self) -> None:
        """End the live readout; what is shown stays. Nothing is read for it: whoever hangs there must not hang us."""
        if self.live and self._repeat is not None:
            self._repeat.stop()
            self._freeze()

    def retire(self) -> None:
        """Put a picture in the panel's place, and give its widgets back."""
        from IPython.display import update_display

        self.close()
        if is_scarce():  # it takes dozens of messages
            return
        report = write(self._case, self._actions.catalog(), self._language)
        update_display(picture(report), raw=True, display_id=self.display_id)
        for widget in family([self.root, *self._buttons()]):  # a fix that is only shown has a button all the same
            widget.close()

    # what it is made of

    def _build(self, report: Report) -> None:
        widgets = self._widgets
        self._head, self._bar, self._why, self._ends, self._notes = (widgets.HTML() for _ in range(5))
        self._status = self._live_region()
        self._told = self._live_region()
        self._entry = widgets.HTML(layout=widgets.Layout(flex="1 1 400px"))
        self._output, self._page = widgets.Output(), widgets.Output()
        self._page.add_class("oomh-page")
        self._switch = self._button("", lambda: self._speak(_OTHER[self._language]))
        self._rows = [FixWidget(row, self._button, self.start) for row in report.fixes]
        self._again = self._button("", self._run_again)
        forms = ("Entry", "JSON", "Markdown") if self._case.match else ()
        self._forms = [self._button(form, partial(self._open, form)) for form in forms]
        self._fixes = widgets.HTML()
        top = widgets.HBox([self._head, self._switch])
        self._head.layout.flex = "1 1 auto"
        foot = widgets.HBox([self._entry, *self._forms])
        foot.add_class("oomh-foot")
        rows = [row.root for row in self._rows]
        self.root = widgets.VBox(
            [
                *(top, self._bar, self._status, self._why, self._fixes, *rows),
                *(self._told, self._output, self._again, self._ends, self._notes, foot, self._page),
            ]
        )
        self.root.add_class("oomh")
        self._again.layout.width, self._again.layout.align_self = "auto", "flex-start"
        self._again.layout.display = "none"
        self._put(self._status, "")
        self._put(self._told, "")
        self._write(report)
        self._tell()
        self._draw(self._case.snapshot, say("live.still", self._language))

    def _live_region(self) -> Any:
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
        self._why.value = _html.cause_rows(report)
        self._put(self._fixes, _html.section(say("section.fixes", language)) if report.fixes else "")
        rows = {row.plan.number: row for row in report.fixes}
        for widget in self._rows:
            if widget.plan.number in rows:  # one that cannot be put into words stays as it was
                widget.write(rows[widget.plan.number], language)
        self._put(self._ends, _html.dead_ends(report))
        self._put(self._notes, _html.notes(report.notes))
        self._entry.value = _html.entry(report)
        self._again.description = say("button.again", language)
        for form in self._forms[:1]:
            form.description = say("button.entry", language)
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
        with self._guarded(lambda: None):
            self._begin(say("outcome.running", self._language, title=title))
            self._actions.on_main(partial(self._run, widget), self._waits)

    def _run(self, widget: FixWidget, finish: Callable[[], None]) -> None:
        with self._guarded(finish):
            self._output.outputs = ()
            outcome = self._run_inside(widget.plan.number)
            widget.done = outcome.error is None
            self._again_result = ""
            self._write(write(self._case, self._actions.catalog(), self._language))
            self._tell()
            # a reload has done the cell's work in its own way: the cell would only undo it
            self._again.layout.display = "" if self._case.cell and not outcome.loaded else "none"
            self._end()
            finish()

    def _run_inside(self, number: int) -> Outcome:
        """Run a fix with its output in the panel. An Output shows an error that leaves it, and swallows it."""
        problem: BaseException | None = None
        outcome = None
        with self._output:
            try:
                outcome = self._actions.run(self._case, number)
            except BaseException as error:
                problem = error
        try:
            if outcome is None:
                raise problem or RuntimeError("the fix has no outcome")
            return outcome
        finally:
            del problem  # it has this frame

    def _run_again(self) -> None:
        if not self._running:
            with self._guarded(lambda: None):
                self._begin(say("outcome.again", self._language))
                self._actions.on_main(self._rerun, self._waits)

    def _rerun(self, finish: Callable[[], None]) -> None:
        with self._guarded(finish):
            self._output.outputs = ()
            self._output.__enter__()  # a cell that awaits goes on after this call

            def done(error: str | None) -> None:
                try:
                    self._output.__exit__(None, None, None)
                    self._reran(error)
                finally:
                    finish()

            try:
                self._actions.rerun(self._case, done)
            except BaseException:
                self._output.__exit__(None, None, None)
                raise

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
        with self._guarded(lambda: None, runs=False):
            click()

    @contextmanager
    def _guarded(self, finish: Callable[[], None], runs: bool = True) -> Iterator[None]:
        try:
            yield
        except BaseException as error:  # an interrupt, too: the panel must not say "Running" for ever
            _log.debug("a click failed", exc_info=True)
            try:
                if runs:
                    self._end()
                self._put(self._told, _html.notes([plain(f"{type(error).__name__}: {error}".removesuffix(": "))]))
            finally:  # another thread waits for it
                finish()
            if not isinstance(error, Exception | KeyboardInterrupt):
                raise

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
        snapshot = self._actions.read(self._case)
        with self._drawing:
            if not self.live:  # it was closed while memory was read
                return False
            self._last = snapshot
            self._draw(snapshot, say("live.now", self._language, seconds=f"{self._actions.refresh:g}"))
            if not self._running:
                self._say([say("live.busy", self._language)] if self._actions.busy() else [])
        return True

    def _draw(self, snapshot: MemorySnapshot, caption: str) -> None:
        if self._case.event.remote is not None:
            return
        backend, requested = self._case.event.backend, self._case.diagnosis.requested
        parts = segments(snapshot, backend, requested)
        self._used.append(sum(part.size or 0 for part in parts if part.kind not in ("free", "barred", "short")))
        self._bar.value = _html.bar(bar(snapshot, backend, self._language, requested), caption, self._used)

    def _freeze(self) -> None:
        """Say that the last reading is the last one, and of when it is."""
        if not self._drawing.acquire(timeout=1.0):  # somebody draws and does not come back
            return
        try:
            at = time.strftime("%H:%M:%S", time.localtime(self._last.taken_at))
            self._draw(self._last, say("live.ended", self._language, time=at))
            self._say([])
        finally:
            self._drawing.release()
