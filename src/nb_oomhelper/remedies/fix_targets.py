"""What a fix can be done to where no load failed: the notebook's numbers, trainers and loaders, and the failed cell."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from nb_oomhelper.knowledge.fix import Fix
from nb_oomhelper.knowledge.versions import installed_version, release_of
from nb_oomhelper.records.event import OomEvent
from nb_oomhelper.records.holdings import Holdings
from nb_oomhelper.remedies.allocator_settings import merge_setting, takes_as_needed
from nb_oomhelper.remedies.cell_edits import edited, indented
from nb_oomhelper.remedies.cell_source import Cell
from nb_oomhelper.remedies.code_mistakes import evaluates, graph_kept
from nb_oomhelper.remedies.emptying import find_emptiable
from nb_oomhelper.remedies.fitting import Fit
from nb_oomhelper.remedies.mending import Mend
from nb_oomhelper.remedies.notebook import Notebook
from nb_oomhelper.remedies.on_the_way import strides, words_reached
from nb_oomhelper.remedies.size_targets import (
    SizeTarget,
    find_definitions,
    find_loaders,
    find_settings,
    find_trainers,
    in_cell,
    is_certain,
    set_by_cell,
)

_SIZES = ("number", "definition", "trainer", "data loader")
SUBJECTS = ("cell", *_SIZES, "adam", "allocator", "preallocation", "mistake", "container")
_RENAMED = (2, 9)  # PyTorch reads PYTORCH_ALLOC_CONF from here on, and the older name all the same, first
_PAGED = {"Adam": "PagedAdam8bit", "AdamW": "PagedAdamW8bit"}
_BITSANDBYTES = "bitsandbytes"
_HALF = Fit()


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
        size: The smaller size that it sets, or None.
        targets: What the code changes or lets go of, as paths.
    """

    subject: str
    fields: dict[str, str]
    obstacle: str = ""
    reruns: bool = False
    frees: int | None = None
    mend: Mend | None = None
    explains: int | None = None
    size: SizeTarget | None = None
    targets: tuple[str, ...] = ()


def find_targets(
    fix: Fix, event: OomEvent, held: Holdings, notebook: Notebook, fit: Fit | None = _HALF
) -> Iterator[FixTarget]:
    """Find what a fix of one of our `SUBJECTS` can be done to here.

    Where nobody knows what was going on, only what helps in training and in inference is offered.

    Args:
        fix: The fix.
        event: What failed, with its phase.
        held: Who keeps memory.
        notebook: What the failed cell uses.
        fit: What fits; None where a smaller size would not help.
    """
    if event.phase == "unknown" and fix.phases and not {"train", "infer"} <= set(fix.phases):
        return
    if fix.edit.shrink or (fix.subject in _SIZES and "half" in fix.needs):
        if fit is not None and not _is_pointless(fix, notebook.cell):
            yield from _sizes(fix, notebook, fit)
    elif fix.subject == "cell":
        yield from _cells(fix, event, notebook, held)
    elif fix.subject == "trainer":
        yield from _trainers(notebook)
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
    if fix.edit.add:
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


def _has_other_dtypes(fix: Fix, held: Holdings) -> bool:
    """Whether what failed cells keep is known to be of kinds that the fix does nothing about."""
    found = {dtype for index in held.of_failures() for dtype, _ in held.rows[index].dtypes}
    return bool(fix.edit.dtypes and found) and found.isdisjoint(fix.edit.dtypes)


def _is_pointless(fix: Fix, cell: Cell | None) -> bool:
    return cell is not None and bool(cell.words.intersection(fix.edit.unless))


def _can_help(fix: Fix, event: OomEvent) -> bool:
    """Whether a guess is worth it: what computes in 16 bits does nothing for an optimizer's state."""
    return not fix.guess or fix.phases != ("train",) or event.stage != "optimizer"


def _sizes(fix: Fix, notebook: Notebook, fit: Fit) -> Iterator[FixTarget]:
    """The failed cell with a smaller size, wherever that stands."""
    cell, edit = notebook.cell, fix.edit
    obstacle = "" if cell is None else cell.obstacle
    if edit.kind == "batch" and notebook.written is not None:
        edit = replace(edit, shrink=(*edit.shrink, *strides(notebook.written)))
    if fix.subject == "cell":
        smaller = in_cell(edit, fit, notebook)
        if smaller is not None:
            size = SizeTarget(
                subject=smaller.told,
                fields={"cell": smaller.source},
                ratio=smaller.ratio,
                steps=smaller.parts,
                before=smaller.before,
                after=smaller.after,
                obstacle=obstacle,
                certain=is_certain(edit, smaller.names, notebook),
            )
            yield _sized(fix, size, fit, reruns=True)
        return
    again = cell.source.strip("\n") if cell is not None and not obstacle else ""
    found = {
        "number": lambda: find_settings(edit, fit, notebook),
        "definition": lambda: find_definitions(edit, fit, notebook),
        "trainer": lambda: find_trainers(fit, notebook),
        "data loader": lambda: find_loaders(fit, notebook),
    }[fix.subject]()
    for size in found:
        size.fields["cell"] = again
        yield _sized(fix, size, fit, reruns=bool(again) and not size.obstacle)


def _sized(fix: Fix, size: SizeTarget, fit: Fit, *, reruns: bool) -> FixTarget:
    part = size.ratio**2 if fix.edit.kind == "side" else size.ratio
    return FixTarget(
        subject=size.subject,
        fields=size.fields,
        obstacle=size.obstacle,
        reruns=reruns,
        explains=fit.saved(part) if size.certain else None,
        size=size,
        targets=size.targets,
    )


def _mistakes(fix: Fix, notebook: Notebook) -> Iterator[FixTarget]:
    for mend in notebook.mends:
        if mend.kind in fix.edit.mends:
            fields = {"name": mend.subject, "definition": mend.definition, "clear": mend.clear, "cell": mend.code}
            yield FixTarget(subject=mend.subject, fields=fields, reruns=True, mend=mend, targets=mend.targets)


def _containers(event: OomEvent, held: Holdings, notebook: Notebook) -> Iterator[FixTarget]:
    """What the notebook's own code collects, and what a cache keeps; a release goes with it."""
    if notebook.written is not None:
        released = held.freed_by(held.of_failures())
        for path, statement, size in find_emptiable(notebook.written, held, event.backend):
            fields = {"name": path, "clear": statement}
            yield FixTarget(subject=path, fields=fields, frees=size + released, targets=(path,))


def _is_fitting(fix: Fix, event: OomEvent, cell: Cell, notebook: Notebook, held: Holdings) -> bool:
    """Whether the cell does not do already what a fix is for, or something that it must not be done to."""
    written = notebook.written
    if "no_grad" in fix.edit.mends and written is not None and written.autograd is not None:
        return evaluates(written, held, fix.edit.unless)
    if fix.edit.unless_reached and written is not None and words_reached(written) & {*fix.edit.unless_reached}:
        return False
    # What is between the cell and what failed may well train: an evaluation in its midst.
    further_in = fix.phases == ("infer",) and event.function is not None and event.function not in cell.words
    return (
        not further_in and not _is_pointless(fix, cell) and _can_help(fix, event) and not _has_other_dtypes(fix, held)
    )


def _trainers(notebook: Notebook) -> Iterator[FixTarget]:
    for name in notebook.trainers:
        fields = {"name": name, "install": _install()}
        yield FixTarget(subject=name, fields=fields, obstacle=set_by_cell(name, notebook), targets=(name,))


def _optimizers(held: Holdings) -> Iterator[FixTarget]:
    """Adam and AdamW: they keep two numbers for each parameter."""
    for row in held.rows:
        paged = _PAGED.get(row.type_name or "")
        if row.kind == "variable" and row.role == "optimizer" and paged:
            fields = {"name": row.name, "paged": paged, "install": _install()}
            yield FixTarget(subject=row.name, fields=fields, targets=(row.name,))


def _install() -> str:
    return "" if installed_version(_BITSANDBYTES) else f"# pip install {_BITSANDBYTES}"


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
    "allocator": _allocator,
    "preallocation": _preallocation,
}
