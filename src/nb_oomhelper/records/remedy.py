"""A fix for one notebook, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from nb_oomhelper.records.forecast import Forecast
from nb_oomhelper.records.memory import Measure
from nb_oomhelper.records.note import Note

Applicability = Literal["safe", "unsafe", "display_only"]
Verdict = Literal["runs", "may", "again"]  # best first
LoadOption = Literal["as_asked", "half", "device", "spread", "offload", "8bit", "4bit", "context", "host"]
StepKind = Literal[
    "frames",
    "elsewhere",
    "exception",
    "results",
    "variable",
    "collect",
    "cuda_cache",
    "cuda_shared",
    "pinned_cache",
    "cupy_pool",
    "cupy_pinned",
    "jax_compiled",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where a load puts a model's weights, in bytes; None is unknown.

    Attributes:
        gpu, host, disk: Bytes on the GPU, in host memory, and on disk.
        fits: Whether there is room for all that; None where nobody knows.
        device: The GPU's ordinal, or None.
        dtype: What floats are loaded as: a dtype's name, or "auto" for as they are stored.
        budget: The most that weights may take of each, as the text of accelerate's `max_memory`.
        why: Why the bytes are not known, or None.
    """

    gpu: int | None = None
    host: int | None = None
    disk: int | None = None
    fits: bool | None = None
    device: int | None = None
    dtype: str | None = None
    budget: str = "{}"
    why: Note | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortage:
    """What decides whether the failed cell runs.

    Attributes:
        needs: Bytes that the cell needs again, at least, or None.
        measured: Whether that is known from before and after, and not only from what is left.
        hidden: Bytes that it may need beside these: those that it may have made and given back unseen, and those that
            it makes anew while the old ones are there.
        room: Bytes that it can have once what it kept is released, or None.
        gaps: Bytes beside its needs that lie between its tensors, where no request fits.
        grows: A loop of the cell's keeps more with every step: no room is enough.
        impossible: More is asked for at once than there is.
        certain: Whether it surely was a lack of memory.
        host: Bytes that this process can still get of the host's memory; None where nobody knows.
        put_by: Bytes of the needs that are put by for an error, whatever the cell makes.
    """

    needs: int | None
    measured: bool
    room: int | None
    hidden: int = 0
    gaps: int = 0
    grows: bool = False
    impossible: bool = False
    certain: bool = True
    host: int | None = None
    put_by: int = 0

    def saved(self, left: int) -> int | None:
        """Give the bytes that the cell needs less, where it makes no more than some; None where that is nothing.

        Args:
            left: What it still makes.
        """
        saved = 0 if self.needs is None else self.needs - self.put_by - left
        return saved if saved > 0 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class FixPlan:
    """A fix made ready for this notebook.

    Attributes:
        number: Its number in the panel, from 1.
        fix: Id of the fix.
        code: Exactly what runs.
        applicability: "display_only" code is shown and copied, never run.
        predicted: Bytes it would free, at least; None where nobody knows.
        fits: Whether the failed request would fit then; None where nobody knows.
        whole_cell_fits: Whether the whole cell, unchanged, would; None where nobody knows.
        verdict: Whether the failed cell is expected to run then: it "runs", it "may" (nobody knows), or it will run out
            "again".
        shortage: What that was decided by, or None.
        room: Bytes that the cell can have then; None where that is not known.
        tried: It was run for an earlier error of the same cell, which then failed again.
        explains: For a cell with a mistake mended: bytes that the mistake kept; None where that is not known.
        in_cell: For the same: the failed cell itself keeps them.
        partly: For the same: something else goes on growing with every step.
        forgets: For the same: bytes of what the cell makes anew, and lets go of before.
        subject: The name, pid or model that it is about, or "".
        targets: What it changes or lets go of, as paths: it runs only while these are what they were.
        released_holders: The holders that it lets go: indexes of rows of the snapshot's holdings.
        outside: What it frees is another process's, and the driver has it back as it is.
        releases: It gives back what the failed cell keeps, and the caches of the frameworks.
        binds: Names that its own lines bind, and not the user's statement or cell.
        loads: It makes the failed request itself: if it runs, that has fitted.
        reruns: It runs the failed cell, changed: if it runs, the whole cell has fitted.
        placement: For a load: where its bytes would go; else None.
        once_loaded: For a load: its code once another one has loaded its name.
        makes_folder: For a load: it makes a temporary folder for weights.
        gone: Names that the cell binds, and that are not bound by it any more where it is changed.
        before, after: The user's lines, and what runs in their place; "" where no line is changed or none runs.
        changed_cell: Number of the cell that these lines are in; None for the failed cell, and where nobody knows.
        changed_line: The first of these lines in that cell, from 1; None where nobody knows.
        guess: Nothing tells beforehand whether it helps.
        partial: What comes out of the cell then is of a part of its data only.
        slow: It computes where that takes far longer.
        steps: For a smaller batch: in how many parts the old one is done; else 0.
        ratio: For the same: the new size as a part of the old one; else 0.
        foreseeable: A forecast can tell whether it fits: it runs the cell, of PyTorch's, with another size.
        forecast: That forecast, once somebody has asked for it.
        next_smaller: The same with a smaller size, to be offered where this one ran out of memory again; or None.
        obstacle: Why it is only shown, as a key of a sentence, or "".
    """

    number: int
    fix: str
    code: str
    applicability: Applicability
    predicted: int | None = None
    fits: bool | None = None
    whole_cell_fits: bool | None = None
    verdict: Verdict = "may"
    shortage: Shortage | None = None
    room: int | None = None
    tried: bool = False
    explains: int | None = None
    in_cell: bool = False
    partly: bool = False
    forgets: int = 0
    subject: str = ""
    targets: tuple[str, ...] = ()
    released_holders: frozenset[int] = frozenset()
    releases: bool = False
    outside: bool = False
    binds: frozenset[str] = frozenset()
    loads: bool = False
    reruns: bool = False
    placement: Placement | None = None
    once_loaded: str = ""
    makes_folder: bool = False
    gone: tuple[str, ...] = ()
    before: str = ""
    after: str = ""
    changed_cell: int | None = None
    changed_line: int | None = None
    guess: bool = False
    partial: bool = False
    slow: bool = False
    steps: int = 0
    ratio: float = 0.0
    foreseeable: bool = False
    forecast: Forecast | None = None
    next_smaller: FixPlan | None = None
    obstacle: str = ""


def decrease(before: int | None, after: int | None) -> int | None:
    """Tell by how much a figure fell.

    Args:
        before, after: The two readings in bytes; None is unknown.

    Returns:
        Bytes, negative where it rose; None where either reading is unknown.
    """
    return None if before is None or after is None else before - after


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of giving memory back, and by how much each figure fell over it; None where it was not read.

    Attributes:
        done: What was done, as a key of its sentence.
        count: Of how many things; None where it is not about several.
        name: The variable it is about, or None.
        error: Class name of the error that stopped it, or None.
        allocated: Bytes off the framework's figure; None on the host.
        device_used: Bytes off the driver's figure; None on the host.
        resident: Bytes off this process's host memory.
    """

    done: StepKind
    count: int | None = None
    name: str | None = None
    error: str | None = None
    allocated: int | None = None
    device_used: int | None = None
    resident: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a fix did, measured.

    Attributes:
        fix: Id of the fix.
        subject: What it was about, or "".
        before, after: The figures around it.
        freed: Bytes by which the event's own figure fell (allocated on a GPU, resident on the host);
            may be negative; None where it could not be read.
        requested: The request that had failed, or None.
        fits: Whether it would fit now; None where nobody knows.
        whole_cell_fits: Whether the whole cell, unchanged, would fit now; None where nobody knows.
        error: One line of the error that the code raised, or None.
        seconds: How long it took.
        predicted: What the plan had promised, or None.
        steps: What each step of the release did, in order.
        held: Who still keeps most, by name, with bytes; at most three.
        loaded: The fix has made the failed request itself, and it fitted.
        ran: Whether the failed cell, as it was or as changed, then ran to its end: by the fix, or by the next run of
            it; None where that is not known.
        cell_error: One line of the error that the cell, as it was, ended with; or None.
        planned, placed: For a load: where the weights were to go, and where they are.
        folder: For a load: the temporary folder that it has made for weights on disk, or None.
    """

    fix: str
    before: Measure
    after: Measure
    freed: int | None
    requested: int | None = None
    fits: bool | None = None
    whole_cell_fits: bool | None = None
    error: str | None = None
    seconds: float = 0.0
    subject: str = ""
    predicted: int | None = None
    steps: tuple[Step, ...] = ()
    held: tuple[tuple[str, int], ...] = ()
    loaded: bool = False
    ran: bool | None = None
    cell_error: str | None = None
    planned: Placement | None = None
    placed: Placement | None = None
    folder: str | None = None

    @property
    def helped(self) -> bool | None:
        """Whether the failed cell ran then, which no fix with an error brings about; None where that is not known."""
        if self.error is None:
            return self.ran
        return None if self.error.startswith("KeyboardInterrupt") else False  # who stops it tells nothing of it

    @property
    def open(self) -> bool:
        """Whether the next run of the failed cell, as it was, tells if this has helped."""
        return self.ran is None and self.error is None and not self.loaded
