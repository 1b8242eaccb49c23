"""The settings of the notebook's trainers and data loaders.

Objects are known by their class, and their settings read from the dicts that the interpreter keeps: no attribute of an
object of the user's is asked for, and nothing of the user's runs.
"""

from __future__ import annotations

from nb_oomhelper.introspection import class_dict, class_mro, class_name, instance_dict


def _is_a(kind: type, name: str, module: str) -> bool:
    where = class_dict(kind).get("__module__")
    return type(where) is str and where == module and class_name(kind) == name


def is_trainer(thing: object) -> bool:
    """Tell whether an object is a trainer of transformers, or of a class derived from it."""
    return any(_is_a(kind, "Trainer", "transformers.trainer") for kind in class_mro(type(thing)))


def trainer_steps(trainer: object) -> tuple[int, int]:
    """Read a trainer's batch size on each device, and the steps that it accumulates; 0 where not read."""
    settings = instance_dict(instance_dict(trainer).get("args"))
    found = [settings.get(name) for name in ("per_device_train_batch_size", "gradient_accumulation_steps")]
    size, steps = (value if type(value) is int else 0 for value in found)
    return size, steps


def loader_batch_size(thing: object) -> int:
    """Read the batch size of a data loader; 0 for anything else, and where its batches are made in another way."""
    if not _is_a(type(thing), "DataLoader", "torch.utils.data.dataloader"):
        return 0
    settings = instance_dict(thing)
    kind, size = settings.get("_dataset_kind"), settings.get("batch_size")
    if type(kind) is int and kind == 1:  # of an IterableDataset, which no sampler can be given
        return 0
    return size if type(size) is int else 0
