"""A cell that asks too much of a GPU, run on the CPU: where the host's memory has room for it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import replace

from nb_oomhelper.records.event import OomEvent
from nb_oomhelper.records.holdings import Holdings
from nb_oomhelper.records.remedy import Shortage
from nb_oomhelper.remedies.in_one_go import evaluates_with_graph
from nb_oomhelper.remedies.may_move import models_in
from nb_oomhelper.remedies.on_the_way import gathers, words_reached
from nb_oomhelper.remedies.places import Mistake, Place, failed_cell
from nb_oomhelper.remedies.written import Written
from nb_oomhelper.source.collecting import comprehends_at
from nb_oomhelper.source.within import put_within

_WITHIN, _WITHIN_TRAINED = "with nb_oomhelper.on_host():", "with nb_oomhelper.on_host(train=True):"
# What is compiled, or runs beside, asks no mode; and functions that go back through graphs by themselves.
_UNLESS = frozenset(
    {"jacobian", "hessian", "vjp", "jvp", "functorch", "vmap", "jacrev", "jacfwd", "compile", "jit", "CUDAGraph"}
    | {"triton", "DataParallel", "DistributedDataParallel", "Thread", "ThreadPoolExecutor", "multiprocessing"}
    | {"from_pretrained", "on_host"}
)
_GO_BACK = frozenset({"backward", "autograd"})
_TRAINS = _GO_BACK | frozenset({"zero_grad", "requires_grad_", "requires_grad", "grad"})  # copies have no graph
# Where it trains: what is called or computed again while it goes back, or by code for the GPU alone, asks no mode.
_NOT_TRAINED = frozenset(
    {"register_hook", "register_full_backward_hook", "register_post_accumulate_grad_hook", "Function"}
    | {"checkpoint", "checkpoint_sequential", "gradient_checkpointing_enable", "save_on_cpu", "saved_tensors_hooks"}
    | {"capturable", "bnb", "bitsandbytes", "deepspeed", "FullyShardedDataParallel", "fully_shard"}
    | {"Accelerator", "accelerator", "Trainer"}
)
_LIBRARIES = frozenset(
    {"PreTrainedModel", "DiffusionPipeline", "ScriptModule", "OptimizedModule"}
    | {"DataParallel", "DistributedDataParallel"}
)
_EVALUATES = frozenset({"no_grad", "inference_mode", "eval", "detach"})  # without a word of it, the next cell may train
_MARGIN = 2  # times what the cell needs at least, and a copy of all that is on the GPU
_TRAINED = 4  # times what is there, where its gradients come to it, and two moments of them


def find_cpu_instead(
    written: Written, event: OomEvent, held: Holdings, shortage: Shortage, places: list[Place]
) -> Iterator[Mistake]:
    """Find whether the failed cell can run on the CPU.

    Args:
        written: What the notebook's code says.
        event: What failed, with its phase.
        held: Who keeps what.
        shortage: What the cell needs, and what room the host has.
        places: Where it may be written: the cell itself is run within a mode.
    """
    cell = failed_cell(places)
    if cell is None or event.backend != "cuda" or event.phase == "load" or event.call is not None:
        return
    if shortage.needs is None or shortage.host is None:
        return
    there, says = sum(size for _, size in held.shares), _says(written)
    train = event.phase == "train" or bool(says & _GO_BACK)
    fit = _can_train(written, says) if train else _only_evaluates(written, event, places, says)
    needs = shortage.needs * _MARGIN + there * (_TRAINED if train else 1)
    loads = {"torch", "load"} <= says  # what it puts onto a GPU by itself
    if not fit or loads or shortage.host < needs or not (there or "torch" in says):  # it is of no tensor here
        return
    plain = not any(kept.owners & _LIBRARIES for kept in written.kept.values())
    if edits := put_within(cell.text, cell.body, _WITHIN_TRAINED if train else _WITHIN):
        yield Mistake(
            kind="train_on_host" if train else "on_host",
            subject="on_host",
            place=cell,
            edits=edits,
            explains=shortage.needs if plain else None,
            in_cell=True,
            partly=gathers(written, places, event.backend, ()) or comprehends_at(written.cell.tree, cell.line),
        )


def _can_train(written: Written, says: set[str]) -> bool:
    """Whether the cell makes the graphs itself that it goes back through, and nothing asks for a GPU by another way."""
    backward = [one for one in ast.walk(written.cell.tree) if isinstance(one, ast.Attribute) and one.attr == "backward"]
    if any(isinstance(one.value, ast.Name) and one.value.id not in written.cell.sets for one in backward):
        return False
    return bool(says & _GO_BACK) and not says & (_UNLESS | _NOT_TRAINED)


def _only_evaluates(written: Written, event: OomEvent, places: list[Place], says: set[str]) -> bool:
    if says & (_UNLESS | _TRAINS) or (written.autograd and not evaluates_with_graph(written, event, places)):
        return False
    unknown = written.autograd is None and event.phase != "infer"
    return not (unknown and models_in(written) & says and not says & _EVALUATES)


def _says(written: Written) -> set[str]:
    """The words of the code before the error, and of all that the cell would go on to."""
    return words_reached(written) | words_reached(replace(written, steps=()))
