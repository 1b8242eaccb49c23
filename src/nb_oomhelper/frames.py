"""What a traceback tells about the user's code: the phase, the function and the line.

Only names, files and line numbers are read off the traceback: no frame is kept and no local is looked
at. On Python 3.11 and 3.12 reading `f_locals` would make a copy of the locals that pins their memory
(python/cpython#113939).
"""

from __future__ import annotations

import re
import sysconfig
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import CodeType

from nb_oomhelper.introspection import cause_of, context_of, members_of, traceback_of
from nb_oomhelper.records.event import Phase

# Function names that decide the phase. The innermost frame that has one wins: an evaluation inside a
# training loop is "infer", loading the best checkpoint at its end is "load". A name that is too common
# counts only in files whose path has the fragment; "" is any file.
PHASES: tuple[tuple[Phase, str, frozenset[str]], ...] = (
    # PyTorch's own
    ("train", "", frozenset({"backward", "_engine_run_backward"})),
    ("train", "torch/optim/", frozenset({"step"})),
    ("load", "torch/nn/modules/module.py", frozenset({"to", "cuda", "cpu", "half", "float", "bfloat16", "_apply"})),
    ("load", "torch/serialization.py", frozenset({"load"})),
    ("load", "safetensors/", frozenset({"load_file", "load", "load_model", "get_tensor"})),
    (
        "load",
        "",
        frozenset({"load_state_dict", "load_checkpoint", "load_model", "load_weights", "load_from_checkpoint"}),
    ),
    # transformers, accelerate, diffusers, peft
    ("load", "", frozenset({"from_pretrained", "from_single_file", "from_config", "dispatch_model"})),
    (
        "load",
        "",
        frozenset({"load_checkpoint_in_model", "load_checkpoint_and_dispatch", "set_module_tensor_to_device"}),
    ),
    ("load", "", frozenset({"_load_pretrained_model", "caching_allocator_warmup", "load_adapter"})),
    ("train", "", frozenset({"training_step", "_inner_training_loop", "train", "fit"})),
    ("infer", "", frozenset({"evaluate", "evaluation_loop", "prediction_step", "predict", "generate"})),
    ("infer", "transformers/pipelines/", frozenset({"__call__", "forward", "run_single", "run_multi"})),
    ("infer", "diffusers/pipelines/", frozenset({"__call__"})),
    ("infer", "sentence_transformers/", frozenset({"encode"})),
    # Lightning, Keras, scikit-learn, fastai
    ("train", "", frozenset({"optimizer_step", "fit_generator", "fit_one_cycle", "fit_transform", "train_on_batch"})),
    ("infer", "", frozenset({"validation_step", "test_step", "predict_step", "predict_proba", "predict_on_batch"})),
    # what people call their own functions
    ("train", "", frozenset({"train_step", "train_epoch", "train_one_epoch", "train_loop", "training_loop"})),
    ("train", "", frozenset({"train_model", "finetune", "fine_tune", "do_train"})),
    (
        "infer",
        "",
        frozenset({"infer", "inference", "run_inference", "validate", "eval_step", "eval_loop", "transcribe"}),
    ),
)
# Beginnings of names, asked only where no name above was met.
PREFIXES: tuple[tuple[Phase, tuple[str, ...]], ...] = (
    ("load", ("load_model", "load_pretrained", "load_pipeline", "load_weights")),
    ("train", ("train_", "training_", "finetune_", "fine_tune_")),
    ("infer", ("infer_", "inference_", "predict_", "evaluate_", "eval_", "validate_", "generate_")),
)

_PLACES = 2_000  # innermost calls that are kept of one traceback; a runaway recursion has more
_EXCEPTIONS = 200
# IPython, ipykernel, Colab, Databricks, marimo; then %time and %timeit, which compile the user's line.
_CELL = re.compile(
    r"<(?:ipython-input|cell|command)|/ipykernel_\d+/|/ipython-input-|__marimo__cell|<timed |<magic-timeit>"
)
_LIBRARY = re.compile(r"/(?:site|dist)-packages/|<")


@dataclass(frozen=True, slots=True)
class Place:
    """One call on the way to the error.

    Attributes:
        function: Name of the function, "<module>" at the top level of a file or cell.
        file: As the code object names it, with forward slashes.
        line: The line that was running.
    """

    function: str
    file: str
    line: int | None


def raised_with(error: BaseException) -> list[tuple[BaseException, int]]:
    """Follow causes, contexts and groups, also those that `raise … from None` hides from the user.

    Returns:
        Each exception once, with the place in this list of the one that led to it (-1 for the first);
        outermost first, at most 200. Drop it soon: it keeps the exceptions.
    """
    found: list[tuple[BaseException, int]] = [(error, -1)]
    seen = {id(error)}
    for place, (outer, _) in enumerate(found):  # grows as it goes
        for inner in _inner(outer):
            if id(inner) not in seen and len(found) < _EXCEPTIONS:
                seen.add(id(inner))
                found.append((inner, place))
    return found


def _inner(error: BaseException) -> list[BaseException]:
    members = members_of(error) if issubclass(type(error), BaseExceptionGroup) else ()
    return [one for one in (cause_of(error), context_of(error), *members) if one is not None]


def read_places(error: BaseException) -> list[Place]:
    """The calls in an exception's traceback, outermost first, as names and numbers."""
    places: deque[Place] = deque(maxlen=_PLACES)
    link = traceback_of(error)
    while link is not None:
        code = link.tb_frame.f_code
        function = "<module>" if at_top(code) else code.co_name
        places.append(Place(function, code.co_filename.replace("\\", "/"), link.tb_lineno))
        link = link.tb_next
    return list(places)


def read_phase(places: Sequence[Place]) -> Phase:
    """What was going on, by the innermost call whose name decides it; "unknown" where none does."""
    for place in reversed(places):
        for phase, fragment, names in PHASES:
            if place.function in names and fragment in place.file:
                return phase
    for place in reversed(places):
        for phase, beginnings in PREFIXES:
            if place.function.startswith(beginnings):
                return phase
    return "unknown"


def user_location(places: Sequence[Place]) -> tuple[str | None, int | None]:
    """The innermost call in the user's own code.

    A function in a notebook cell comes first, then a file of the user's (a script under `%run`, a module
    beside the notebook), then the top level of a cell.

    Returns:
        Function name, None at the top level; and the line in its cell or file. (None, None) where all of
        the code is a library's.
    """
    cells = [place for place in places if _CELL.search(place.file)]
    own = [place for place in cells if not place.function.startswith("<")]
    files = [place for place in places if not _CELL.search(place.file) and not _is_library(place.file)]
    for group in (own, files, cells):
        if group:
            last = group[-1]
            return (None if last.function == "<module>" else last.function), last.line
    return None, None


def at_top(code: CodeType) -> bool:
    """Whether code is that of a whole file or cell. IPython 7 calls the latter's "<cell line: 1>"."""
    return code.co_name == "<module>" or code.co_name.startswith("<cell line:")


def is_users(file: str) -> bool:
    """Whether a code object's file, with forward slashes, is a cell or a file of the user's."""
    return _CELL.search(file) is not None or not _is_library(file)


def _is_library(file: str) -> bool:
    """Installed packages, the standard library, code that has no file, and this package."""
    return _LIBRARY.search(file) is not None or file.startswith(_library_folders())


@cache
def _library_folders() -> tuple[str, ...]:
    paths: Iterable[str] = (sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"), str(Path(__file__).parent))
    return tuple(path.replace("\\", "/").rstrip("/") + "/" for path in paths if path)
