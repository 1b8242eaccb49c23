"""What was going on when memory ran out, by the names of the functions on the way."""

from __future__ import annotations

from collections.abc import Sequence

from nb_oomhelper.failure.places import Place, is_users
from nb_oomhelper.records.event import Phase, Stage

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
# The same in the user's own code, which calls them from within a training.
_EVALUATES = ("evaluate_", "eval_", "validate_", "val_", "valid_", "validation_")


def read_phase(places: Sequence[Place]) -> Phase:
    """Tell what was going on, by the innermost call whose name decides it; "unknown" where none does."""
    for place in reversed(places):
        own = is_users(place.file)
        function = place.function.lstrip("_") if own else place.function  # `_validate` of one's own trainer
        for phase, fragment, names in PHASES:
            if (function in names or place.function in names) and fragment in place.file:
                return phase
        if own and function.startswith(_EVALUATES):
            return "infer"
    for place in reversed(places):
        for phase, beginnings in PREFIXES:
            if place.function.startswith(beginnings):
                return phase
    return "unknown"


def read_stage(places: Sequence[Place]) -> Stage:
    """Tell how far a step of a training had come, in `backward()` or in the optimizer's `step()`; or another work."""
    for place in reversed(places):
        if place.function in ("backward", "_engine_run_backward"):
            return "backward"
        if "torch/optim/" in place.file and place.function in ("step", "_init_group"):
            return "optimizer"
        if "sklearn/" in place.file and place.function == "pairwise_distances_chunked":
            return "chunk"
    return ""
