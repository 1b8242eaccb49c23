"""In the copy: what answers in place of the device and of the notebook. Nothing here may run in the user's process."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from nb_oomhelper.frameworks._pytorch_allocator import workspace_size, workspaces
from nb_oomhelper.session import current_shell

_CUDA = "_cuda_"
_WORKSPACE = 8_519_680  # bytes, ":4096:2:16:8"; 32 MiB since Hopper


@dataclass(frozen=True, slots=True)
class Devices:
    """What a copy may know of the CUDA devices, which it must not ask.

    Attributes:
        count: How many there are.
        current: Which one is current.
        capability: Of that one, such as (9, 0).
        properties: Of each, as PyTorch gives them; empty where CUDA was not started.
        processors, threads: Of the current one: how many multiprocessors, and threads on each.
        workspace: Bytes that PyTorch gives cuBLAS to work in, for each thread that multiplies.
        handles: How many threads have a handle of cuBLAS's of their own: the notebook's and autograd's.
        workspaces: Whether that of the backward pass is there (True), and that of the forward pass (False).
    """

    count: int
    current: int = 0
    capability: tuple[int, int] = (8, 0)
    properties: tuple[Any, ...] = ()
    processors: int = 108
    threads: int = 2048
    workspace: int = _WORKSPACE
    handles: int = 2
    workspaces: tuple[bool, ...] = ()


def look_at_devices(torch: Any, segments: Iterable[dict[str, Any]] = ()) -> Devices:
    """Ask for what the copy needs to know, without starting CUDA.

    Args:
        torch: The module.
        segments: The allocator's on the current device, as `read_segments` gives them.
    """
    count = torch.cuda.device_count()
    if not torch.cuda.is_initialized():
        return Devices(max(1, count))
    current = torch.cuda.current_device()
    known = tuple(torch.cuda.get_device_properties(number) for number in range(count))
    size = workspace_size(torch) or _WORKSPACE
    return Devices(
        count=count,
        current=current,
        capability=torch.cuda.get_device_capability(current),
        properties=known,
        processors=known[current].multi_processor_count,
        threads=getattr(known[current], "max_threads_per_multi_processor", 2048),
        workspace=size,
        workspaces=(False, True)[: len(workspaces(segments, size))],
    )


def stand_in(torch: Any, devices: Devices) -> None:
    """Put our answers in the place of PyTorch's calls to the device, and switch compilation off.

    Args:
        torch: The module.
        devices: What the answers go by.
    """
    if "torch._dynamo" in sys.modules:
        torch.compiler.set_stance("force_eager")
    _write_nothing(torch)
    answers = _answers(devices)
    for name in dir(torch._C):
        one = getattr(torch._C, name)
        if name.startswith(_CUDA) and callable(one) and not isinstance(one, type):
            setattr(torch._C, name, answers.get(name.removeprefix(_CUDA), _nothing()))
    _replace(torch.cuda, _public(torch, devices))
    fakes = sys.modules["torch._subclasses.fake_tensor"]
    fakes.__dict__["init_gpu_context"] = _nothing()  # takes memory of the device
    fakes.FakeTensorMode.avoid_device_init = property(lambda _: True)  # nor is it told which device is current
    torch.set_num_threads(1)  # a fork has none of OpenMP's threads
    torch.autograd.set_multithreading_enabled(False)  # nor of autograd's


def _write_nothing(torch: Any) -> None:
    """Weights have no bytes that could be written, and a file of them is the user's."""
    torch.save = _nothing()
    for name in ("safetensors.torch", "transformers.modeling_utils"):
        module = sys.modules.get(name)
        for function in ("save_file", "save_model", "safe_save_file"):
            if hasattr(module, function):
                setattr(module, function, _nothing())


def hush() -> None:
    """Let nothing of the copy's reach the notebook: no display, no widget, no answer to a request."""
    random.seed(int.from_bytes(os.urandom(8), "little"))
    shell = current_shell()
    session = getattr(getattr(shell, "kernel", None), "session", None)
    if session is not None:
        session.send = _nothing()
    publisher = getattr(shell, "display_pub", None)
    if publisher is not None:
        publisher.publish = _nothing()


def _answers(devices: Devices) -> dict[str, Callable[..., Any]]:
    current = devices.current
    return {
        "getDevice": lambda *_: current,
        "exchangeDevice": lambda *_: current,
        "maybeExchangeDevice": lambda *_: current,
        "getDeviceCount": lambda *_: devices.count,
        "hasPrimaryContext": lambda *_: True,
        "isInBadFork": lambda *_: False,
        "memoryStats": lambda *_: {},
        "getCurrentStream": lambda *_: (0, current, 1),
        "getDefaultStream": lambda *_: (0, current, 1),
        "isHistoryEnabled": lambda *_: False,
    }


def _public(torch: Any, devices: Devices) -> dict[str, Callable[..., Any]]:
    def properties(device: Any = None) -> Any:
        number = device if isinstance(device, int) else getattr(torch.device(device or 0), "index", None)
        return devices.properties[devices.current if number is None else number]

    found: dict[str, Callable[..., Any]] = {
        "_lazy_init": _nothing(),
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "device_count": lambda: devices.count,
        "current_device": lambda: devices.current,
        "get_device_capability": lambda *_: devices.capability,
        "is_bf16_supported": lambda *_, **__: devices.capability >= (8, 0),
        "get_rng_state": lambda *_: torch.empty(16, dtype=torch.uint8, device="cpu"),
        "get_rng_state_all": lambda: [torch.empty(16, dtype=torch.uint8, device="cpu")] * devices.count,
        "set_rng_state": _nothing(),
        "set_rng_state_all": _nothing(),
        "manual_seed": _nothing(),
        "manual_seed_all": _nothing(),
        "synchronize": _nothing(),
    }
    return found | ({"get_device_properties": properties} if devices.properties else {})


def _replace(module: Any, answers: dict[str, Callable[..., Any]]) -> None:
    for name, answer in answers.items():
        if hasattr(module, name):
            setattr(module, name, answer)


def _nothing() -> Callable[..., None]:
    """A function that does nothing; each is its own, since torch._dynamo has a table of them."""
    return lambda *_, **__: None
