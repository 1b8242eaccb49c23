"""What code asks of a GPU, computed on the CPU with copies of the tensors there: `nb_oomhelper.on_host`.

PyTorch hands every operation to a mode. Ours gives it, in place of each tensor on a GPU, a copy on the host, of which
views share their memory as the tensors do; where a device is told, it is the CPU. What the code has changed in place is
put back when it ends, however it ends.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from nb_oomhelper.errors import UsageError
from nb_oomhelper.memory.host import read_host
from nb_oomhelper.memory.room import host_free
from nb_oomhelper.remedies.host_copies import HostCopies
from nb_oomhelper.units import format_bytes

_MOVES = frozenset({"to", "cuda", "cpu"})
_NORMS = frozenset({"batch_norm", "instance_norm"})  # they change what they keep on the way, and nobody counts it
_LOOK_EACH = 256 << 20  # of results, after which it is seen whether the host still has room
_LEAST = 512 << 20  # that must be left: a machine without memory ends the kernel


@contextmanager
def on_host() -> Iterator[None]:
    """Compute on the CPU, in host memory, what the code within asks of a GPU; results lie in host memory.

    Models and tensors stay where they are. Copies of those that are used are made, and what is changed in place is
    changed on the GPU when the code ends. No gradients go back to tensors on the GPU.

    Raises:
        UsageError: PyTorch is not there.
        MemoryError: The host's memory is nearly full.
    """
    torch = sys.modules.get("torch")
    if torch is None:
        raise UsageError("on_host is about PyTorch's tensors, and it is not imported")
    copies = HostCopies(torch)
    try:
        with torch.device("cpu"), _mode(torch, copies):
            yield
    finally:
        copies.put_back()


def _mode(torch: Any, copies: HostCopies) -> Any:
    made = 0

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
            else:
                result = copies.back(function(*copies.here(args), **_on_cpu(copies, given)))
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
    if function.__name__ == "__get__" and name in ("device", "is_cuda"):
        return torch.device("cpu") if name == "device" else False
    if function.__name__ == "__set__" and name == "data":
        copies.forget(args[0])
    return function(*args, **given)


def _moved(
    torch: Any, copies: HostCopies, function: Any, name: str, args: tuple[Any, ...], given: dict[str, Any]
) -> Any:
    """A tensor that is moved stays where it is; one that would be copied for it is."""
    tensor = args[0]
    if name == "cpu" or (name == "cuda" and not tensor.is_cuda):
        return copies.of(tensor).clone()
    if name == "cuda":
        return tensor
    to = [one for one in (*args[1:], *given.values()) if isinstance(one, (str, torch.device, int))]
    away = any(torch.device(one).type == "cpu" for one in to if not isinstance(one, bool))
    result = function(*copies.here(args), **_on_cpu(copies, given))
    if result is not copies.of(tensor):
        return result
    return tensor if tensor.is_cuda and not away else result.clone()


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
