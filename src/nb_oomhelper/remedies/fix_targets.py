"""What a fix can be done to where no load failed: the notebook's numbers, trainers and loaders, and the failed cell."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from nb_oomhelper.knowledge.fix import Fix
from nb_oomhelper.knowledge.versions import installed_version, release_of
from nb_oomhelper.records.event import OomEvent
from nb_oomhelper.records.holdings import Holdings
from nb_oomhelper.remedies.allocator_settings import merge_setting, takes_as_needed
from nb_oomhelper.remedies.cell_edits import edited, indented
from nb_oomhelper.remedies.cell_source import Cell
from nb_oomhelper.remedies.code_mistakes import evaluates, graph_kept
from nb_oomhelper.remedies.emptying import find_emptiable
from nb_oomhelper.remedies.mending import Mend
from nb_oomhelper.remedies.notebook import Notebook

SUBJECTS = ("cell", "number", "trainer", "data loader", "adam", "allocator", "preallocation", "mistake", "container")
_RENAMED = (2, 9)  # PyTorch reads PYTORCH_ALLOC_CONF from here on, and the older name all the same, first
_PAGED = {"Adam": "PagedAdam8bit", "AdamW": "PagedAdamW8bit"}
_BITSANDBYTES = "bitsandbytes"


@dataclass(frozen=True, slots=True, kw_only=True)
class FixTarget:
    """One thing that a fix can be done to.

    Attributes:
        subject: What the fix's texts call it.
        fields: The fields of its code.
        obstacle: Why it can only be shown, as a key of its sentence, or "".
        reruns: The code runs the failed cell.
        frees: Bytes that it frees; None where nobody knows.
        mend: The mistake that it mends, or None.
        explains: For the failed cell in another form: bytes that it then does not keep; None where nobody knows.
    """

    subject: str
    fields: dict[str, str]
    obstacle: str = ""
    reruns: bool = False
    frees: int | None = None
    mend: Mend | None = None
    explains: int | None = None


def find_targets(fix: Fix, event: OomEvent, held: Holdings, notebook: Notebook) -> Iterator[FixTarget]:
    """Find what a fix of one of our `SUBJECTS` can be done to here.

    Where nobody knows what was going on, only what helps in training and in inference is offered.

    Args:
        fix: The fix.
        event: What failed, with its phase.
        held: Who keeps memory.
        notebook: What the failed cell uses.
    """
    if event.phase == "unknown" and fix.phases and not {"train", "infer"} <= set(fix.phases):
        return
    if fix.subject == "cell":
        yield from _cells(fix, event, notebook, held)
    elif fix.subject == "number":
        yield from _numbers(fix, notebook)
    elif fix.subject == "mistake":
        yield from _mistakes(fix, notebook)
    elif fix.subject == "adam":
        yield from _optimizers(held)
    elif fix.subject == "container":
        yield from _containers(event, held, notebook)
    elif fix.subject in _WITHOUT_HOLDERS:
        yield from _WITHOUT_HOLDERS[fix.subject](notebook)


def _cells(fix: Fix, event: OomEvent, notebook: Notebook, held: Holdings) -> Iterator[FixTarget]:
    """The failed cell, changed or within a `with`."""
    cell = notebook.cell
    if cell is None or not _is_fitting(fix, event, cell, notebook, held):
        return
    package = fix.edit.package
    absent = bool(package) and installed_version(package) is None
    fields = {
        "install": f"# pip install {package}" if absent else "",
        "device": {"host": "cpu"}.get(event.backend, event.backend),
    }
    subject = ""
    if fix.edit.halve or fix.edit.add:
        changed = edited(cell, fix.edit)
        if changed is None:
            return
        fields["cell"], subject = changed
    else:
        block = indented(cell)
        if block is None:
            return
        fields["block"] = block
    yield FixTarget(
        subject=subject,
        fields=fields,
        obstacle=cell.obstacle or ("not_installed" if absent else ""),
        reruns=True,
        explains=graph_kept(held) if "no_grad" in fix.edit.mends else None,
    )


def _mistakes(fix: Fix, notebook: Notebook) -> Iterator[FixTarget]:
    for mend in notebook.mends:
        if mend.kind in fix.edit.mends:
            fields = {"name": mend.subject, "definition": mend.definition, "clear": mend.clear, "cell": mend.code}
            yield FixTarget(subject=mend.subject, fields=fields, reruns=True, mend=mend)


def _containers(event: OomEvent, held: Holdings, notebook: Notebook) -> Iterator[FixTarget]:
    """What the notebook's own code collects, and what a cache keeps; a release goes with it."""
    if notebook.written is not None:
        released = held.freed_by(held.of_failures())
        for path, statement, size in find_emptiable(notebook.written, held, event.backend):
            yield FixTarget(subject=path, fields={"name": path, "clear": statement}, frees=size + released)


def _is_fitting(fix: Fix, event: OomEvent, cell: Cell, notebook: Notebook, held: Holdings) -> bool:
    """Whether the cell does not do already what a fix is for, or something that it must not be done to."""
    written = notebook.written
    if "no_grad" in fix.edit.mends and written is not None and written.autograd is not None:
        return evaluates(written, held, fix.edit.unless)
    # What is between the cell and what failed may well train: an evaluation in its midst.
    further_in = fix.phases == ("infer",) and event.function is not None and event.function not in cell.words
    return not further_in and not cell.words.intersection(fix.edit.unless)


def _numbers(fix: Fix, notebook: Notebook) -> Iterator[FixTarget]:
    """Numbers of the user's that are called a batch size; not those that the cell itself sets anew."""
    for name, number in notebook.numbers.items():
        if name.lower() in fix.edit.halve and number > 1 and not _set_by_cell(name, notebook):
            yield FixTarget(subject=name, fields={"name": name, "half": str(number // 2), "was": str(number)})


def _trainers(notebook: Notebook) -> Iterator[FixTarget]:
    for name, (size, steps) in notebook.trainers.items():
        fields = {"name": name, "install": _install()}
        if size > 1 and steps:
            fields |= {"half": str(size // 2), "was": str(size), "steps": str(2 * steps), "before": str(steps)}
        yield FixTarget(subject=name, fields=fields, obstacle=_set_by_cell(name, notebook))


def _optimizers(held: Holdings) -> Iterator[FixTarget]:
    """Adam and AdamW: they keep two numbers for each parameter."""
    for row in held.rows:
        paged = _PAGED.get(row.type_name or "")
        if row.kind == "variable" and row.role == "optimizer" and paged:
            yield FixTarget(subject=row.name, fields={"name": row.name, "paged": paged, "install": _install()})


def _loaders(notebook: Notebook) -> Iterator[FixTarget]:
    for name, size in notebook.loaders.items():
        fields = {"name": name, "half": str(size // 2), "was": str(size)}
        yield FixTarget(subject=name, fields=fields, obstacle=_set_by_cell(name, notebook))


def _install() -> str:
    return "" if installed_version(_BITSANDBYTES) else f"# pip install {_BITSANDBYTES}"


def _set_by_cell(name: str, notebook: Notebook) -> str:
    """What is changed outside of the cell is lost when the cell sets it again."""
    return "cell_sets" if notebook.cell is not None and name in notebook.cell.sets else ""


def _allocator(_: Notebook) -> Iterator[FixTarget]:
    if sys.platform != "win32":  # there PyTorch does not know the option
        version = release_of(installed_version("torch") or "")
        merged = merge_setting(os.environ, version is not None and version >= _RENAMED)
        if merged is not None:
            variable, setting = merged
            yield FixTarget(subject="", fields={"variable": variable, "setting": setting})


def _preallocation(_: Notebook) -> Iterator[FixTarget]:
    if not takes_as_needed(os.environ):
        yield FixTarget(subject="", fields={})


_WITHOUT_HOLDERS: dict[str, Callable[[Notebook], Iterator[FixTarget]]] = {
    "trainer": _trainers,
    "data loader": _loaders,
    "allocator": _allocator,
    "preallocation": _preallocation,
}
