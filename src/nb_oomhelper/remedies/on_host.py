"""What code asks of a GPU, computed on the CPU with copies of the tensors there: `nb_oomhelper.on_host`.

PyTorch hands every operation to a mode. Ours gives it, in place of each tensor on a GPU, a copy on the host, of which
views share their memory as the tensors do; where a device is told, it is the CPU. What the code has changed in place is
put back when it ends, however it ends. Where it trains, the weights themselves lie on the host meanwhile, since
gradients go to them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from nb_oomhelper.errors import UsageError
from nb_oomhelper.memory.host import read_host
from nb_oomhelper.memory.room import host_free
from nb_oomhelper.remedies.host_copies import HostCopies
from nb_oomhelper.remedies.host_training import HostTraining
from nb_oomhelper.units import format_bytes

_MOVES = frozenset({"to", "cuda", "cpu"})
_NORMS = frozenset({"batch_norm", "instance_norm"})  # they change what they keep on the way, and nobody counts it
_LOOK_EACH = 256 << 20  # of results, after which it is seen whether the host still has room
_LEAST = 512 << 20  # that must be left: a machine without memory ends the kernel


@contextmanager
def on_host(*, train: bool = False) -> Iterator[None]:
    """Compute on the CPU, in host memory, what the code within asks of a GPU; results lie in host memory.

    Models and tensors stay where they are. Copies of those that are used are made, and what is changed in place is
    changed on the GPU when the code ends.

    Args:
        train: Gradients are computed, too. Without it none go back to tensors on the GPU. Models that the code makes,
            gradients, and what optimizers keep, are on the GPU in the end, where that has room.

    Raises:
        UsageError: PyTorch is not there.
        MemoryError: The host's memory is nearly full.
    """
    torch = sys.modules.get("torch")
    if torch is None:
        raise UsageError("on_host is about PyTorch's tensors, and it is not imported")
    training = HostTraining(torch) if train else None
    copies = HostCopies(torch, training)
    with ExitStack() as stack:
        stack.callback(copies.put_back)
        if training is not None:
            optimizers = sys.modules["torch.optim.optimizer"]
            stack.callback(optimizers.register_optimizer_step_pre_hook(copies.take_state).remove)
            stack.callback(optimizers.register_optimizer_step_post_hook(training.note).remove)
        stack.enter_context(torch.device("cpu"))
        stack.enter_context(_mode(torch, copies, train=train))
        yield


def _mode(torch: Any, copies: HostCopies, *, train: bool) -> Any:
    made = 0
    itself = [torch.device, torch._C._nn._parse_to, *([torch.Tensor.requires_grad_] if train else [])]

    class OnHost(torch.overrides.TorchFunctionMode):  # type: ignore[misc]
        def __torch_function__(
            self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
        ) -> Any:
            nonlocal made
            given = kwargs or {}
            name = getattr(function, "__name__", "")
            if name in ("__get__", "__set__"):
                return _attribute(torch, copies, function, args, given)
            if name in _MOVES and args and isinstance(args[0], torch.Tensor):
                result = _moved(torch, copies, function, name, args, given)
                copies.ask(args[0], result, _device_asked(torch, copies, name, (*args[1:], *given.values())))
            elif function in itself:  # what modules ask beforehand; and what is about the tensor itself
                result = function(*args, **given)
            elif name == "__deepcopy__":
                result = function(copies.of(args[0]), *args[1:])
                copies.ask_beside(args[0], result)
            else:
                result = copies.back(function(*copies.here(args), **_on_cpu(copies, given)))
                copies.ask(None, result, _device_asked(torch, copies, "to", (given.get("device"),)))
                if name == "clone":  # of a weight, as `copy.deepcopy(model)` makes
                    copies.ask_beside(args[0], result)
            if name in _NORMS:
                copies.note_changes(args)
            made += _size(torch, result)
            if made >= _LOOK_EACH:
                made = 0
                _see_room()
            return result

    return OnHost()


def _attribute(torch: Any, copies: HostCopies, function: Any, args: tuple[Any, ...], given: dict[str, Any]) -> Any:
    """What a tensor on the GPU is asked for about itself it tells; it only says that it is on the CPU."""
    name = getattr(function.__self__, "__name__", "")
    copies.take(args[0])
    if function.__name__ == "__get__" and name in ("device", "is_cuda"):
        return torch.device("cpu") if name == "device" else False
    if function.__name__ == "__set__" and name == "data":
        copies.forget(args[0], args[1])
    if function.__name__ == "__set__" and name == "grad":
        args = (args[0], copies.here(args[1]))
    return function(*args, **given)


def _moved(
    torch: Any, copies: HostCopies, function: Any, name: str, args: tuple[Any, ...], given: dict[str, Any]
) -> Any:
    """A tensor that is moved stays where it is; one that would be copied for it is."""
    tensor = args[0]
    copies.take(tensor)
    if name == "cpu" or (name == "cuda" and not tensor.is_cuda):
        return copies.of(tensor).clone()
    if name == "cuda":
        return tensor
    to = [one for one in (*args[1:], *given.values()) if isinstance(one, (str, torch.device, int))]
    away = any(torch.device(one).type == "cpu" for one in to if not isinstance(one, bool))
    rest = ["cpu" if type(one) is int else one for one in copies.here(args[1:])]
    result = function(copies.of(tensor), *rest, **_on_cpu(copies, given))
    if result is not copies.of(tensor):
        return result
    return tensor if tensor.is_cuda and not away else result.clone()


def _device_asked(torch: Any, copies: HostCopies, name: str, told: tuple[Any, ...]) -> Any:
    """The device to which a tensor was to be moved; None where none was told."""
    found = None if name == "to" else torch.device(name)
    for one in told:
        if isinstance(one, torch.Tensor):
            found = copies.device_of(one)
        elif isinstance(one, (str, torch.device, int)) and not isinstance(one, bool):
            found = torch.device("cuda", one) if isinstance(one, int) else torch.device(one)
    return found


def _on_cpu(copies: HostCopies, given: dict[str, Any]) -> dict[str, Any]:
    """Arguments by name, with no device but the CPU, and no source of random numbers of another."""
    found = {key: copies.here(one) for key, one in given.items()}
    if isinstance(found.get("device"), int):
        found["device"] = "cpu"
    if getattr(getattr(found.get("generator"), "device", None), "type", "cpu") != "cpu":
        del found["generator"]
    return found


def _size(torch: Any, result: Any) -> int:
    if isinstance(result, torch.Tensor):
        return int(result.nbytes) if result.layout is torch.strided else 0
    return sum(_size(torch, one) for one in result) if isinstance(result, (tuple, list)) else 0


def _see_room() -> None:
    free = host_free(read_host())
    if free is not None and free < _LEAST:
        raise MemoryError(f"on_host: {format_bytes(free)} of host memory are left")
