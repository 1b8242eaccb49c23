"""What failed, as the message and the traceback tell it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from nb_oomhelper.records.memory import ProcessMemory

Phase = Literal["load", "train", "infer", "unknown"]
Stage = Literal["", "backward", "optimizer", "chunk"]
Certainty = Literal["sure", "probable"]
Remote = Literal[
    "ray", "ipyparallel", "dask", "dataloader worker", "process pool", "launcher", "command", "server", "java", "other"
]


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedCall:
    """The loader call of the user's that failed, as far as it could be read off the frames.

    Attributes:
        loader: How the user's code names it, e.g. "AutoModelForCausalLM.from_pretrained".
        module: The package that defines it, e.g. "transformers".
        model: The model's name or path as the user's code writes it (an expression), or None.
        target: The variable that the loaded model was to be, or None.
        row: Id of the loader in `loading/loaders.toml`.
        statement: The whole statement as the user wrote it, with its comments, not indented; None where not read.
        position: Where the call begins in it: line from 1, and column in UTF-8 bytes, as `ast` counts.
        value: The model's name or path as plain text, or None.
        obstacle: Why the statement cannot be written anew, as a key of its sentence; None where it can.
    """

    loader: str
    module: str
    model: str | None = None
    target: str | None = None
    row: str = ""
    statement: str | None = None
    position: tuple[int, int] | None = None
    value: str | None = None
    obstacle: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """Which other process ran out, as far as its error tells.

    Attributes:
        id: What it is called by its engine: an engine's number, a rank, an actor's id, a worker's number or address;
            of several all, "0, 2"; or None.
        host: Name or address of its machine, or None.
        pid: Its process there, or None.
        alive: Whether it goes on after the error; None where nobody can tell.
        each: What each that failed is called by its engine, and what no later one has: an ipyparallel engine's uuid, a
            Dask worker's PID or "". Empty where that is not told.
    """

    id: str | None = None
    host: str | None = None
    pid: int | None = None
    alive: bool | None = None
    each: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class OomEvent:
    """One out-of-memory error, as its exception tells it.

    Attributes:
        framework: "pytorch", "numpy", …
        backend: Where memory ran out: "cuda" or "host", whose memory we can read; or "hip", "xpu", "npu", "mps",
            "metal", "tpu", "vulkan", "opencl", …: then the message's figures are all that is known.
        device: The framework's ordinal (after CUDA_VISIBLE_DEVICES), or None.
        requested: Bytes of the allocation that failed.
        capacity, free, allocated, reserved, cached, limit: Bytes, as the message gives them.
        figures: What else the message gives, by name, in bytes: "other_allocations", "this_process", "program" (what a
            compiled program needs in all), …
        processes: Other processes that the message names, with their bytes.
        exception_type: Class name as a traceback prints it, without a module of builtins.
        message: The error's text, cut to 4,000 characters.
        phase: What was going on, read off the traceback's function names.
        stage: By the same: of a training "backward" or "optimizer"; "chunk" of distances that scikit-learn computes;
            "" is the forward pass, or anything else.
        certainty: "probable" where the same text also has causes that are not a lack of memory.
        format: Id of the message format that matched, e.g. "pt.cuda.capacity".
        function: Name of the innermost function of the user's that was running, or None.
        line: Line number in it, or None.
        call: The loader call that failed, or None.
        remote: What kind of process ran out, where it was not this one: "ray", "ipyparallel", "dask", "dataloader
            worker", "process pool", "launcher", "command" (as `!python` runs one), "server" (by its answer), "java"
            (a virtual machine, such as Spark's) or "other"; None for this process. `device` and the bytes are those
            there then.
        worker: Which one it was, where that is told.
    """

    framework: str
    backend: str
    exception_type: str
    message: str
    format: str
    device: int | None = None
    requested: int | None = None
    capacity: int | None = None
    free: int | None = None
    allocated: int | None = None
    reserved: int | None = None
    cached: int | None = None
    limit: int | None = None
    figures: tuple[tuple[str, int], ...] = ()
    processes: tuple[ProcessMemory, ...] = ()
    phase: Phase = "unknown"
    stage: Stage = ""
    certainty: Certainty = "sure"
    function: str | None = None
    line: int | None = None
    call: FailedCall | None = None
    remote: Remote | None = None
    worker: Worker | None = None

    def figure(self, name: str) -> int | None:
        """One of `figures`; None where the message has none of that name."""
        return dict(self.figures).get(name)
