"""What is expected of a call before it is run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from nb_oomhelper.records.note import Note

Verdict = Literal["fits", "tight", "does_not", "unknown"]
Ended = Literal["returned", "raised", "deadline", "values"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """Bytes that are expected, and between which they are expected to lie."""

    low: int
    likely: int
    high: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """The peak that a call is expected to reach; nothing has been run on the device.

    Attributes:
        call: Its text; "" for a whole cell.
        device: "cuda:0", or "host".
        verdict: Whether it fits; "tight" where that is within the band, "unknown" where free memory is not known or
            the call could not be followed to its end and fits as far as it was.
        allocated: Bytes in live tensors at the peak, what is held already included.
        reserved: Bytes that the caching allocator then holds from the driver at most; None on the host, and where the
            allocator is of a kind that is not replayed.
        kinds: Of the likely peak: "parameters", "gradients", "optimizer", "activations", "temporaries", "kv_cache",
            "workspace", "other", of JAX's "arguments", "outputs", "temporaries", "code"; and bytes, the most first. Of
            what was there before only parameters, gradients, optimizer state and arguments are known; the rest of it
            is "held".
        place: The module that is running at the peak: "GPT2LMHeadModel.transformer.h.3.mlp", or "".
        held: Bytes in live tensors before the call.
        room: Bytes that the process can have reserved in all, those that it has included; None is unknown.
        ended: How the call ended on tensors without bytes: "returned"; "raised" an error; at the "deadline"; or at an
            operation that wants "values" which only the device could compute. Figures are up to there.
        error: One line about the end, or "".
        line: The user's line that was running then: "train.py:12", "cell:3", or "".
        notes: Why the band is as wide as it is, and what was assumed.
        batch: Rows of the batch among the call's arguments; None where they show none, or several.
        trains: Whether autograd goes backward in it.
        would_fit: The most rows that are expected to fit where so many may not; 0 is none, None is unknown.
        seconds: How long the forecast took.
    """

    call: str
    device: str
    verdict: Verdict
    allocated: Band
    reserved: Band | None
    kinds: tuple[tuple[str, int], ...]
    place: str
    held: int
    room: int | None
    ended: Ended
    error: str = ""
    line: str = ""
    notes: tuple[Note, ...] = ()
    batch: int | None = None
    trains: bool = False
    would_fit: int | None = None
    seconds: float = 0.0
