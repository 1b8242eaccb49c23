"""What of the notebook a fix can change where no load failed: its numbers, trainers, loaders, and the failed cell.

Objects are known by their class, and their settings read from the dicts that the interpreter keeps: no attribute of an
object of the user's is asked for, and nothing of the user's runs.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import CodeType, FunctionType, ModuleType

from nb_oomhelper.introspection import class_dict, class_mro, class_name, instance_dict
from nb_oomhelper.knowledge.fix import Fix
from nb_oomhelper.knowledge.versions import installed_version, release_of
from nb_oomhelper.records.event import OomEvent, Phase
from nb_oomhelper.records.holdings import Holdings
from nb_oomhelper.remedies.cell_edits import Cell, edited, globals_read, indented, phase_of, read_cell, words_of

_WORTH_SAYING = 1 << 20  # bytes of an autograd graph
_RENAMED = (2, 9)  # PyTorch reads PYTORCH_ALLOC_CONF from here on, and the older name all the same, first
_OLD_NAME, _NEW_NAME = "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF"
_GROWS = re.compile(r"expandable_segments\s*:\s*(\w+)")
_PAGED = {"Adam": "PagedAdam8bit", "AdamW": "PagedAdamW8bit"}
_RESULT = re.compile(r"_{1,3}|_\d+|_oh|Out")
_DECORATORS = 8  # around one function
_BITSANDBYTES = "bitsandbytes"


@dataclass(frozen=True, slots=True, kw_only=True)
class Notebook:
    """What the failed cell uses. Make it, plan with it, drop it; it refers to no object of the user's.

    Attributes:
        cell: The failed cell, or None where it cannot be read.
        numbers: Whole numbers by name.
        trainers: Batch size and accumulated steps of transformers trainers by name; 0 is unknown.
        loaders: Batch size of PyTorch's data loaders by name.
        names: The user's variables, but for modules under their own names: to import those again loses nothing.
        needed: Variables that the cell reads, or functions and classes of the notebook that it names; where the cell
            cannot be read, those whose names are words in it.
        reads_results: The cell reads displayed results: `_`, `Out`.
    """

    cell: Cell | None = None
    numbers: Mapping[str, int] = field(default_factory=dict)
    trainers: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    loaders: Mapping[str, int] = field(default_factory=dict)
    names: frozenset[str] = frozenset()
    needed: Container[str] = frozenset()
    reads_results: bool = False


class _Everything:
    def __contains__(self, name: object) -> bool:
        return True


UNREAD = Notebook(needed=_Everything(), reads_results=True)  # nobody could look: the cell may need whatever there is


@dataclass(frozen=True, slots=True, kw_only=True)
class FixTarget:
    """One thing that a fix can be done to.

    Attributes:
        subject: What the fix's texts call it.
        fields: The fields of its code.
        obstacle: Why it can only be shown, as a key of its sentence, or "".
        reruns: The code runs the failed cell.
    """

    subject: str
    fields: dict[str, str]
    obstacle: str = ""
    reruns: bool = False


def inspect_notebook(variables: Mapping[str, object], source: str) -> Notebook:
    """Find what the failed cell uses.

    Args:
        variables: The user's names and their objects.
        source: The failed cell's source.
    """
    cell, names = read_cell(source), overwritable(variables)
    needs = words_of(source) if cell is None else cell.needs
    needed, reads_results = _needed(needs, variables), any(_RESULT.fullmatch(name) for name in needs)
    if cell is None:
        return Notebook(names=names, needed=needed, reads_results=reads_results)
    used = {name: variables[name] for name in sorted(cell.used) if name in variables}
    return Notebook(
        cell=cell,
        numbers={name: thing for name, thing in used.items() if type(thing) is int},
        trainers={name: _steps(thing) for name, thing in used.items() if _is_trainer(thing)},
        loaders={name: size for name, thing in used.items() if (size := _loader_size(thing)) > 1},
        names=names,
        needed=needed,
        reads_results=reads_results,
    )


def overwritable(variables: Mapping[str, object]) -> frozenset[str]:
    """The variables that an import of their name would change."""
    return frozenset(name for name, thing in variables.items() if not _is_module(name, thing))


def _is_module(name: str, thing: object) -> bool:
    return type(thing) is ModuleType and sys.modules.get(name) is thing


def _needed(names: Iterable[str], variables: Mapping[str, object]) -> frozenset[str]:
    """The variables among some names, and those that these read in their turn."""
    todo, found = list(names), set()
    while todo:
        name = todo.pop()
        if name in variables and name not in found:
            found.add(name)
            todo.extend(read for code in _codes(variables[name]) for read in globals_read(code))
    return frozenset(found)


def _codes(thing: object) -> Iterator[CodeType]:
    """The code of a function of the notebook, or of the methods of a class of it, also by an object of that class."""
    if type(thing) is FunctionType:
        yield from _code(thing)
        return
    for kind in class_mro(thing if issubclass(type(thing), type) else type(thing)):  # type: ignore[arg-type]
        if _is_main(class_dict(kind).get("__module__")):
            for value in class_dict(kind).values():
                method = value.__func__ if type(value) is staticmethod or type(value) is classmethod else value
                yield from _code(method)


def _code(function: object) -> Iterator[CodeType]:
    """A function's code, and that of the one which a library's decorator has wrapped, if they are the notebook's."""
    for _ in range(_DECORATORS):
        if type(function) is FunctionType:
            if _is_main(function.__globals__.get("__name__")):
                yield function.__code__
            function = function.__dict__.get("__wrapped__")


def _is_main(module: object) -> bool:
    return type(module) is str and module == "__main__"


def tell_phase(event: OomEvent, held: Holdings, notebook: Notebook) -> Phase:
    """What was going on: as the traceback tells, else as the cell does.

    A graph that the cell keeps is one that nobody needs, unless something in the notebook trains.
    """
    if event.phase != "unknown":
        return event.phase
    graph = sum(dict(held.rows[index].parts).get("graph", 0) for index in held.of_kind("failed_cell"))
    trains = any(row.role == "optimizer" for row in held.rows) or bool(notebook.trainers)
    return phase_of(notebook.cell, graph >= _WORTH_SAYING and not trains)


def find_targets(fix: Fix, event: OomEvent, held: Holdings, notebook: Notebook) -> Iterator[FixTarget]:
    """What a fix of one of our subjects can be done to here.

    Where nobody knows what was going on, only what helps in training and in inference is offered.
    """
    if event.phase == "unknown" and fix.phases and not {"train", "infer"} <= set(fix.phases):
        return
    if fix.subject == "cell":
        yield from _cells(fix, event, notebook.cell)
    elif fix.subject == "number":
        yield from _numbers(fix, notebook)
    elif fix.subject == "trainer":
        yield from _trainers(notebook)
    elif fix.subject == "data loader":
        for name, size in notebook.loaders.items():
            yield FixTarget(
                subject=name,
                fields={"name": name, "half": str(size // 2), "was": str(size)},
                obstacle=_set_by_cell(name, notebook),
            )
    elif fix.subject == "adam":
        yield from _optimizers(held)
    elif fix.subject == "allocator":
        yield from _allocator()
    elif fix.subject == "preallocation" and not _takes_as_needed(os.environ):
        yield FixTarget(subject="", fields={})


def _cells(fix: Fix, event: OomEvent, cell: Cell | None) -> Iterator[FixTarget]:
    """The failed cell, changed or within a `with`."""
    if cell is None or cell.words.intersection(fix.edit.unless):
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
        if block is None or _is_further_in(fix, event, cell):
            return
        fields["block"] = block
    yield FixTarget(
        subject=subject, fields=fields, obstacle=cell.obstacle or ("not_installed" if absent else ""), reruns=True
    )


def _is_further_in(fix: Fix, event: OomEvent, cell: Cell) -> bool:
    """Whether the cell calls what failed through something else, which may well train: an evaluation in its midst."""
    return fix.phases == ("infer",) and event.function is not None and event.function not in cell.words


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


def _install() -> str:
    return "" if installed_version(_BITSANDBYTES) else f"# pip install {_BITSANDBYTES}"


def _set_by_cell(name: str, notebook: Notebook) -> str:
    """What is changed outside of the cell is lost when the cell sets it again."""
    return "cell_sets" if notebook.cell is not None and name in notebook.cell.sets else ""


# -- objects of the user's -------------------------------------------------------------------------------------------


def _is_a(kind: type, name: str, module: str) -> bool:
    where = class_dict(kind).get("__module__")
    return type(where) is str and where == module and class_name(kind) == name


def _is_trainer(thing: object) -> bool:
    return any(_is_a(kind, "Trainer", "transformers.trainer") for kind in class_mro(type(thing)))


def _steps(trainer: object) -> tuple[int, int]:
    """A trainer's batch size on each device, and the steps that it accumulates; 0 where not read."""
    settings = instance_dict(instance_dict(trainer).get("args"))
    found = [settings.get(name) for name in ("per_device_train_batch_size", "gradient_accumulation_steps")]
    size, steps = (value if type(value) is int else 0 for value in found)
    return size, steps


def _loader_size(thing: object) -> int:
    """The batch size of a data loader; 0 for anything else, and where its batches are made in another way."""
    if not _is_a(type(thing), "DataLoader", "torch.utils.data.dataloader"):
        return 0
    settings = instance_dict(thing)
    kind, size = settings.get("_dataset_kind"), settings.get("batch_size")
    if type(kind) is int and kind == 1:  # of an IterableDataset, which no sampler can be given
        return 0
    return size if type(size) is int else 0


# -- PyTorch's allocator ---------------------------------------------------------------------------------------------


def _allocator() -> Iterator[FixTarget]:
    if sys.platform != "win32":  # there PyTorch does not know the option
        version = release_of(installed_version("torch") or "")
        merged = merge_setting(os.environ, version is not None and version >= _RENAMED)
        if merged is not None:
            variable, setting = merged
            yield FixTarget(subject="", fields={"variable": variable, "setting": setting})


def _takes_as_needed(environment: Mapping[str, str]) -> bool:
    """Whether JAX, started with this environment, does not take most of a GPU; by the words that it knows."""
    told = environment.get("XLA_PYTHON_CLIENT_PREALLOCATE")
    return told in ("false", "False", "0") or environment.get("XLA_PYTHON_CLIENT_ALLOCATOR", "").lower() == "platform"


def merge_setting(environment: Mapping[str, str], renamed: bool) -> tuple[str, str] | None:
    """The variable to set, and the user's setting of it with segments that grow; None where they grow already.

    Setting one option resets all the others, so those that are set stay in.

    Args:
        environment: The variables that are set.
        renamed: Whether PyTorch reads the new name, too.
    """
    variable = _NEW_NAME if renamed and not environment.get(_OLD_NAME) else _OLD_NAME
    setting = environment.get(variable, "").strip().rstrip(",")
    written = _GROWS.search(setting)
    if "cudaMallocAsync" in setting or (written and written[1] == "True"):  # CUDA's own allocator has no segments
        return None
    if written:
        return variable, f"{setting[: written.start()]}expandable_segments:True{setting[written.end() :]}"
    return variable, f"{setting},expandable_segments:True" if setting else "expandable_segments:True"
