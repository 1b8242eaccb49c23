"""Build a model from its config alone, on torch's meta device: all shapes, no memory, nothing of the checkpoint run.

The one place that imports torch and transformers, and only on request.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nb_oomhelper.loading.checkpoint._config import TEXT
from nb_oomhelper.loading.checkpoint._files import UnreadableError, whole
from nb_oomhelper.loading.checkpoint._record import TensorSize, plain

_MOST = 4096  # layers or experts; each is a Python object, and building takes as long as there are many


def build_sizes(folder: Path, said: dict[str, Any]) -> tuple[TensorSize, ...]:
    """Build the model that a config.json describes, and measure what its checkpoint would hold.

    Args:
        folder: Where the config.json is.
        said: What is in it.

    Returns:
        Tensors of the state dict in the dtype that the config names; tied ones once.

    Raises:
        UnreadableError: transformers is not there, or cannot build the model by itself.
    """
    _check_modest(said)
    try:
        import torch
        import transformers

        config = transformers.AutoConfig.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
        with torch.device("meta"):
            model = _built(transformers, config)
        return _sizes(model)
    except Exception as error:  # whatever a library does not like about a config
        raise UnreadableError("checkpoint.not_built", error=f"{type(error).__name__}: {plain(error)}") from None


def fill_in(said: dict[str, Any]) -> dict[str, Any]:
    """Add to a config.json what transformers' own class of it takes where the file says nothing.

    Args:
        said: What is in it.

    Returns:
        The same where transformers is not there, or has no such class.
    """
    try:
        _check_modest(said)
        from transformers import CONFIG_MAPPING

        config = CONFIG_MAPPING[said["model_type"]].from_dict(dict(said)).get_text_config(decoder=True)
        told: dict[str, Any] = config.to_dict()
        if not told.get("layer_types") and told.get("sliding_window"):
            told["layer_types"] = ["sliding_attention"] * config.num_hidden_layers  # as DynamicCache has it
    except Exception:  # whatever a library does not like about a config
        return said
    own = next((part for name in TEXT if isinstance(part := said.get(name), dict)), said)
    return said | {TEXT[0]: told | own}


def _check_modest(said: dict[str, Any]) -> None:
    """Refuse what would take for ever, and what would fetch weights of its own."""
    if said.get("use_pretrained_backbone") is True:
        raise UnreadableError("checkpoint.needs_another")
    for part in (said, *(value for value in said.values() if isinstance(value, dict))):
        for name, value in part.items():
            if ("layer" in name or "expert" in name) and (whole(value) or 0) > _MOST and "size" not in name:
                raise UnreadableError("checkpoint.too_large_to_build", name=plain(name))


def _built(transformers: Any, config: Any) -> Any:
    for name in getattr(config, "architectures", None) or ():
        found = getattr(transformers, name, None)
        if isinstance(found, type) and issubclass(found, transformers.PreTrainedModel):
            build: Any = found
            return build._from_config(config)  # as AutoModel does: it takes the config's dtype
    return transformers.AutoModel.from_config(config, trust_remote_code=False)


def _sizes(model: Any) -> tuple[TensorSize, ...]:
    found: dict[int, TensorSize] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():  # with keep_vars tied ones are one object
        found.setdefault(
            id(tensor),
            TensorSize(
                name=name,
                dtype=str(tensor.dtype).removeprefix("torch."),
                shape=tuple(tensor.shape),
                size=tensor.numel() * tensor.element_size(),
            ),
        )
    return tuple(found.values())
