"""The places in the notebook where a smaller size makes the failed cell fit: each with the code that sets it there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from nb_oomhelper.knowledge.fix import Edit
from nb_oomhelper.remedies.cell_edits import Smaller, shrunk
from nb_oomhelper.remedies.definitions import Definition, lines_of, put_in_place
from nb_oomhelper.remedies.feeding import feeds
from nb_oomhelper.remedies.fitting import Fit
from nb_oomhelper.remedies.notebook import Notebook
from nb_oomhelper.remedies.on_the_way import is_read, last_line, only_counts
from nb_oomhelper.source.collecting import last_of, root_of
from nb_oomhelper.source.numbers import Shrink, is_meant
from nb_oomhelper.source.sizes import Known

_OF_WORKERS = 3  # times what all had made by then
_SMALL = 8  # settings that are changed at once: all that the cell may read


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeTarget:
    """One place, or several that are changed at once.

    Attributes:
        subject: The change in short: "batch_size 64 → 32".
        fields: The fields of the code that makes it.
        ratio: The new size as a part of the old one.
        steps: In how many parts the old size is done.
        before, after: The lines that differ, if there are any.
        cell: Number of the cell that they are in; None for the failed cell.
        obstacle: Why it can only be shown, or "".
        certain: Whether what the cell needs surely goes with it.
        targets: What the code changes, as paths.
    """

    subject: str
    fields: dict[str, str] = field(default_factory=dict)
    ratio: float
    steps: int
    before: str = ""
    after: str = ""
    cell: int | None = None
    obstacle: str = ""
    certain: bool = True
    targets: tuple[str, ...] = ()


def shrink_of(edit: Edit, fit: Fit) -> Shrink:
    """How the numbers of an edit change, for what fits.

    Args:
        edit: What is meant.
        fit: What fits.
    """
    share = fit.share**0.5 if edit.kind == "side" else fit.share
    if edit.kind == "workers" and fit.needs:  # each of them was in the midst of its own work, and has more to make
        share *= min(1.0, fit.needs / (_OF_WORKERS * max(1, fit.least)))
    requested = fit.requested if edit.kind == "length" and fit.needs is not None else 0
    return Shrink(share=share, requested=requested, multiple=edit.multiple, whole=fit.trains and edit.kind == "batch")


def in_cell(edit: Edit, fit: Fit, notebook: Notebook) -> Smaller | None:
    """Write the failed cell with the numbers of an edit made smaller; None where there are none in it.

    Args:
        edit: What is made smaller.
        fit: How much smaller it must be.
        notebook: What the failed cell uses.
    """
    cell = notebook.cell
    if cell is None:
        return None
    end = last_line(notebook.written) if notebook.written is not None else None  # what comes after is not to blame
    return shrunk(cell.source, edit, shrink_of(edit, fit), notebook.known, last=end)


def find_settings(edit: Edit, fit: Fit, notebook: Notebook) -> Iterator[SizeTarget]:
    """Find numbers of the user's in variables, dicts and attributes, all at once; not those that the cell sets anew.

    Args:
        edit: What is made smaller.
        fit: How much smaller it must be.
        notebook: What the failed cell uses.
    """
    by, lines, told, ratios, paths = shrink_of(edit, fit), [], [], [], list[str]()
    for path, number in notebook.numbers.items():
        if not is_meant(last_of(path), edit.shrink) or number < 2 or set_by_cell(path, notebook):
            continue
        if not _is_read(path, notebook):
            continue
        new = by.of(number)
        lines.append(f"{path} = {new}  # was {number}")
        told.append(f"{path} {number} → {new}")
        paths.append(path)
        ratios.append(new / number)
        for name in edit.accumulate:
            beside = f"{path.removesuffix(last_of(path))}{name}"
            if was := notebook.numbers.get(beside):
                steps = was * max(2, round(number / new))
                lines.append(f"{beside} = {steps}  # was {was}")
                told.append(f"{beside} {was} → {steps}")
                paths.append(beside)
    if 0 < len(ratios) <= _SMALL:
        ratio = max(ratios)
        yield SizeTarget(
            subject=", ".join(told),
            fields={"settings": "\n".join(lines)},
            ratio=ratio,
            steps=max(2, round(1 / ratio)),
            certain=is_certain(edit, paths, notebook) and notebook.used_before.isdisjoint(paths),
            targets=tuple(paths),
        )


def find_loaders(fit: Fit, notebook: Notebook) -> Iterator[SizeTarget]:
    """Find data loaders that the cell uses.

    Args:
        fit: How much smaller their batches must be.
        notebook: What the failed cell uses.
    """
    by = Shrink(share=fit.share, whole=fit.trains)
    for path, size in notebook.loaders.items():
        if size < 2 or not _is_read(path, notebook):
            continue
        new = by.of(size)
        yield SizeTarget(
            subject=f"{path} {size} → {new}",
            fields={"name": path, "half": str(new), "was": str(size)},
            ratio=new / size,
            steps=max(2, round(size / new)),
            obstacle=set_by_cell(path, notebook),
            targets=(path,),
        )


def find_trainers(fit: Fit, notebook: Notebook) -> Iterator[SizeTarget]:
    """Find trainers of transformers whose batch size and steps could be read.

    Args:
        fit: How much smaller their batches must be.
        notebook: What the failed cell uses.
    """
    by = Shrink(share=fit.share, whole=True)
    for name, (size, steps) in notebook.trainers.items():
        if size > 1 and steps:
            new, parts = by.of(size), min(by.parts, size)
            fields = {"half": str(new), "was": str(size), "steps": str(parts * steps), "before": str(steps)}
            yield SizeTarget(
                subject=f"{name} {size} → {new}",
                fields={"name": name, **fields},
                ratio=new / size,
                steps=parts,
                obstacle=set_by_cell(name, notebook),
                targets=(name,),
            )


def find_definitions(edit: Edit, fit: Fit, notebook: Notebook) -> Iterator[SizeTarget]:
    """Functions and classes of the notebook that the cell uses, with the numbers that are written in them.

    Only where they stand nowhere else: what the cell gives them goes before what they have by themselves.
    """
    if notebook.written is None or in_cell(edit, fit, notebook) or any(find_settings(edit, fit, notebook)):
        return
    found: list[tuple[Definition, Smaller, str]] = []
    for one in notebook.written.definitions:
        lines = lines_of(one)
        if lines is None or not one.called:
            continue
        smaller = shrunk(one.source, edit, shrink_of(edit, fit), Known(), first=lines[0], last=lines[1])
        written = None if smaller is None else put_in_place(smaller.source, [one], notebook.names)
        if smaller is not None and written is not None:
            found.append((one, smaller, written))
    if found:
        ratio = max(smaller.ratio for _, smaller, _ in found)
        yield SizeTarget(
            subject=", ".join(dict.fromkeys(smaller.told for _, smaller, _ in found)),
            certain=is_certain(edit, [name for _, smaller, _ in found for name in smaller.names], notebook),
            fields={"definition": "\n".join(written for _, _, written in found)},
            ratio=ratio,
            steps=max(2, round(1 / ratio)),
            before=found[0][1].before if len(found) == 1 else "",
            after=found[0][1].after if len(found) == 1 else "",
            cell=found[0][0].cell if len(found) == 1 else None,
            targets=tuple(name for one, _, _ in found for name in one.names),
        )


def is_certain(edit: Edit, paths: Iterable[str], notebook: Notebook) -> bool:
    """Tell whether what the cell needs goes with some sizes: a length may be no more than the number of steps.

    Args:
        edit: What is made smaller.
        paths: What the sizes are called: "max_len", "args.seq_len".
        notebook: What the failed cell uses.
    """
    written = notebook.written
    return edit.kind != "length" or written is None or not all(only_counts(last_of(one), written) for one in paths)


def _is_read(path: str, notebook: Notebook) -> bool:
    written = notebook.written
    if written is None:
        return True
    if path not in written.reads:  # several fixes ask for each
        written.reads[path] = is_read(path, written) and feeds(path, written)
    return written.reads[path]


def set_by_cell(path: str, notebook: Notebook) -> str:
    """Give the obstacle where the cell sets the name again that a path begins with: what is changed outside is lost.

    Args:
        path: What would be changed.
        notebook: What the failed cell uses.
    """
    root = root_of(path)
    trainer = root in notebook.trainers and root != path  # it has copies of its settings, and a fix of its own
    return "cell_sets" if trainer or (notebook.cell is not None and root in notebook.cell.sets) else ""
