"""How much all of a step needs, by what it had made when it failed."""

from __future__ import annotations

from nb_oomhelper.records.event import OomEvent
from nb_oomhelper.records.holdings import Holdings

# A step that fails needs more than it had made by then. How much more, follows from what PyTorch keeps. For the
# backward pass the output of each layer and of each activation function is kept, about as many as a model has weights
# and biases, and the request that failed is one of them; in deep networks most are smaller than the first, so that more
# than some dozens of the failed one do not come together; where half of those have come already, they do not get
# smaller, and all may come. At the least the gradients come on top, and where nobody
# knows the model, three layers that fail at the first need four times what they had. Once `backward()` runs, all
# outputs are there, and gradients of one or two are missing. Without a graph a layer's input and output live at a time,
# and the next layer's may be twice as large.
_FORWARD, _UNKNOWN_MODEL, _BACKWARD = 2.0, 4.0, 1.5
_OUTPUTS = 48
_WITHOUT_GRAPH = 2  # of the failed request, beside what there was
_OF_ARRAYS = 6  # the same for an expression of NumPy's, each of whose terms is an array


def whole_step(event: OomEvent, held: Holdings, made: int) -> int:
    """Estimate the bytes that all of a step needs.

    Args:
        event: What failed, with its phase and stage.
        held: Who keeps memory.
        made: Bytes of it that were made or asked for.
    """
    if event.stage == "backward":
        return int(made * _BACKWARD)
    requested = event.requested or 0
    graph = any(dict(held.rows[index].parts).get("graph") for index in held.of_kind("failed_cell"))
    if event.phase != "train" and not graph:
        return made + (_OF_ARRAYS if event.framework == "numpy" else _WITHOUT_GRAPH) * requested
    kept = [row.count for row in held.rows if row.kind == "variable" and row.role in ("model", "pretrained model")]
    if not kept:
        return int(made * _UNKNOWN_MODEL)
    most = max(kept) if made * 2 >= requested * _OUTPUTS else _OUTPUTS
    return max(int(made * _FORWARD), requested * (1 + min(most, max(kept))))
