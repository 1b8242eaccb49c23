"""In the copy: run a call so that operations on the device give tensors without bytes, and are seen."""

from __future__ import annotations

import contextlib
import sys
import threading
import traceback
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from nb_oomhelper.failure.places import is_users
from nb_oomhelper.forecasting.beside_operations import (
    let_arrays_be_made,
    let_data_be_set,
    let_nothing_be_compiled,
    note_processes,
    that_has_run,
    threads_within,
)
from nb_oomhelper.forecasting.cell_run import CellRun
from nb_oomhelper.forecasting.inside import Inside
from nb_oomhelper.forecasting.known_values import KnownValues
from nb_oomhelper.forecasting.loops import Loops
from nb_oomhelper.forecasting.process_copy import DeadlineError, RetryError, late_errors_left
from nb_oomhelper.forecasting.stand_ins import Devices
from nb_oomhelper.forecasting.trace import Trace
from nb_oomhelper.forecasting.tracker import Tracker
from nb_oomhelper.introspection import living, with_subclasses


class ValueWantedError(BaseException):
    """The call wants a number that only the device could compute; no `except Exception` catches it."""


def follow(call: Callable[[], Any] | CellRun, torch: Any, device: str, devices: Devices) -> Trace:
    """Run a call on tensors without bytes.

    Args:
        call: Takes nothing; it may do anything. Or a cell.
        torch: The module.
        device: Type of the device that is followed: "cuda", "cpu".
        devices: What is known of CUDA's.

    Returns:
        What it allocates and frees there, as far as it came.

    Raises:
        RetryError: Autograd does not work in this copy.
    """
    _try_autograd(torch)
    run = _Run(torch, device, devices)
    loops = Loops(torch, run.trace, run.say)
    note_processes(run.trace)
    with run.modes(), _hooks(run.tracker, run.say) as kept:
        try:
            if isinstance(call, CellRun):
                call.run(run.trace, loops)
            else:
                kept.append(that_has_run(call()))
        except DeadlineError as error:
            _note_end(run.trace, "deadline", error)
            run.trace.error = ""
        except ValueWantedError as error:
            _note_end(run.trace, "values", error)
        except BaseException as error:
            _note_end(run.trace, "raised", error)
        _mark_parameters(torch, run.tracker)
        return run.tracker.end()


def _try_autograd(torch: Any) -> None:
    try:
        torch.ones(1, requires_grad=True).sum().backward()
    except RuntimeError as error:
        if "fork" in str(error):
            raise RetryError from None


class _Run:
    """One run: the modes, and what each operation does."""

    def __init__(self, torch: Any, device: str, devices: Devices) -> None:
        fakes = sys.modules["torch._subclasses.fake_tensor"]
        self._torch, self._device = torch, device
        self._fake: Any = fakes.FakeTensor
        self._unknown = (fakes.DataDependentOutputException,)
        self._dynamic = (fakes.DynamicOutputShapeException,)
        self._unsupported = (fakes.UnsupportedOperatorException,)
        self._mode = fakes.FakeTensorMode(allow_non_fake_inputs=True)
        self.tracker = Tracker(torch, device)
        self.trace = self.tracker.trace
        self._inside = Inside(torch, self.tracker, devices, self.say)
        self._known = KnownValues(torch, fakes.FakeTensor, _tensors, host=device == "cpu")
        self._kept: dict[int, tuple[Any, Any]] = {}

    @contextlib.contextmanager
    def modes(self) -> Iterator[None]:
        """Let all operations pass through here."""
        from torch.utils._python_dispatch import TorchDispatchMode

        run, one_at_a_time = self, threading.RLock()

        class Mode(TorchDispatchMode):  # type: ignore[misc,unused-ignore]
            def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
                with one_at_a_time:  # of several threads
                    return run.operate(func, args, kwargs or {})

        self.tracker.begin(_living_tensors(self._torch))
        let_data_be_set(self._torch, self._fake, self._put)
        let_arrays_be_made(self._torch, self._fake, self._values)
        let_nothing_be_compiled(self._torch, self.say)
        with late_errors_left(self.trace), self._mode, Mode(), threads_within(lambda: (self._mode, Mode())):
            yield

    def _put(self, tensor: Any, value: Any) -> None:
        """From now on a real tensor stands for that one without bytes."""
        if value.untyped_storage()._cdata != self._mode.from_tensor(tensor).untyped_storage()._cdata:
            self.tracker.gone(tensor)
            self._mode.fake_tensor_converter.set_tensor_memo(tensor, value)
            self._kept[id(tensor)] = (weakref.ref(tensor, partial(self._forget, id(tensor))), value)

    def _values(self, tensor: Any) -> Any:
        """What is known of its values, else zeros."""
        value = self._real(self._known.of, (tensor,), {})
        if value is None:
            self.say("assumed_zero")
            value = self._real(self._torch.zeros, (tensor.shape,), {"dtype": tensor.dtype})
        return value

    def _forget(self, name: int, _: Any) -> None:
        self._kept.pop(name, None)

    def operate(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Do one operation: for real on the host, without bytes on the device."""
        name = func.name()
        if name == "prim::device":
            return self._device_of(args[0])
        if name.startswith("profiler::"):
            return self._real(func, args, kwargs)
        if name in ("aten::pin_memory", "aten::_pin_memory"):
            return args[0]
        if name == "aten::is_pinned":
            return False
        given = list(_tensors((args, kwargs)))
        if self._on_host(given, kwargs):
            return self._real(func, args, kwargs)
        self.tracker.modules.look()
        for one in given:
            self._convert(one)
        short = name.removeprefix("aten::").partition(".")[0]
        given_back = self._without_bytes(func, args, kwargs)
        self.tracker.see(_tensors(given_back))
        self._real(self._known.work_out, (func, args, kwargs, given_back), {})
        self._inside.after(short, args, kwargs, given_back)
        return given_back

    def _convert(self, tensor: Any) -> None:
        """Have the form without bytes of a real tensor; it stays, as long as the tensor, for views to share."""
        if isinstance(tensor, self._fake) or (id(tensor) in self._kept and self._kept[id(tensor)][0]() is tensor):
            return
        name, fake = id(tensor), self._mode.from_tensor(tensor)
        self.tracker.same(tensor, fake)
        self._kept[name] = (weakref.ref(tensor, partial(self._forget, name)), fake)

    def _on_host(self, given: list[Any], kwargs: Any) -> bool:
        """Whether an operation has to do with real tensors of the host alone; never where that is what is followed."""
        if self._device == "cpu" or any(isinstance(one, self._fake) or one.device.type != "cpu" for one in given):
            return False
        device = kwargs.get("device")
        return device is None or self._torch.device(device).type == "cpu"

    def _device_of(self, tensor: Any) -> Any:
        if isinstance(tensor, self._fake):
            return tensor.fake_device
        return self._real(lambda one: one.device, (tensor,), {})

    def _real(self, func: Any, args: Any, kwargs: Any) -> Any:
        from torch.utils._python_dispatch import _disable_current_modes

        with _disable_current_modes():
            return func(*args, **kwargs)

    def _without_bytes(self, func: Any, args: Any, kwargs: Any) -> Any:
        try:
            return func(*args, **kwargs)
        except self._unknown:
            return self._assume(func, args)
        except self._dynamic as error:
            raise ValueWantedError(f"{func.name()}: the size of its result") from error
        except self._unsupported as error:
            raise ValueWantedError(f"{func.name()}: no form without bytes") from error

    def _assume(self, func: Any, args: Any) -> Any:
        """A value in place of one that the device would have to compute: not true, and 0.0; a whole number is none."""
        name, given = func.name(), next(iter(_tensors(args)), None)
        known = [self._real(self._known.of, (one,), {}) for one in _tensors(args)]
        if known and all(one is not None for one in known):
            return self._real(func, (*known, *args[len(known) :]), {})
        if name == "aten::equal" or (given is not None and given.dtype is self._torch.bool):
            self.say("assumed_false")
            return False
        if given is not None and given.dtype.is_floating_point:
            self.say("assumed_zero")
            return 0.0
        raise ValueWantedError(f"{name}: a number")

    def say(self, key: str) -> None:
        """Note what could not be known, and where it was first."""
        if key not in {known for known, _ in self.trace.notes}:
            self.trace.notes.append((key, _line_of(sys._getframe())))


def _living_tensors(torch: Any) -> list[Any]:
    return list(living(with_subclasses([torch.Tensor])) or ())


@contextlib.contextmanager
def _hooks(tracker: Tracker, tell: Callable[[str], None]) -> Iterator[list[Any]]:
    """PyTorch's hooks for all modules and all optimizers; the list keeps what the call gives until it was looked at."""
    modules, found = sys.modules["torch.nn.modules.module"], []
    optimizers = sys.modules.get("torch.optim.optimizer")

    def enter(module: Any, args: Any) -> None:  # noqa: ARG001
        if type(module).__name__ == "OptimizedModule":
            tell("compiled")
        tracker.modules.enter(module)

    def leave(module: Any, args: Any, given: Any) -> None:  # noqa: ARG001
        tracker.modules.leave(module)
        cache = getattr(given, "past_key_values", None)
        if cache is not None:
            tracker.mark(_cached(cache), "kv_cache")

    def before(optimizer: Any, *_: Any) -> None:
        parameters = [one for group in optimizer.param_groups for one in group["params"]]
        tracker.mark((one.grad for one in parameters), "gradients")

    def after(optimizer: Any, *_: Any) -> None:
        tracker.mark(_tensors(list(optimizer.state.values())), "optimizer")

    found = [modules.register_module_forward_pre_hook(enter)]
    found.append(modules.register_module_forward_hook(leave, always_call=True))
    if optimizers is not None:
        found.append(optimizers.register_optimizer_step_pre_hook(before))
        found.append(optimizers.register_optimizer_step_post_hook(after))
    kept: list[Any] = []
    try:
        yield kept
    finally:
        for hook in found:
            hook.remove()


def _mark_parameters(torch: Any, tracker: Tracker) -> None:
    for tensor in _living_tensors(torch):
        if isinstance(tensor, torch.nn.Parameter):
            tracker.mark([tensor], "parameters")
            tracker.mark([tensor.grad], "gradients")
    optimizers: list[Any] = living(with_subclasses([torch.optim.Optimizer])) or []
    for one in optimizers:
        tracker.mark(_tensors(list(one.state.values())), "optimizer")


def _cached(cache: Any) -> Iterator[Any]:
    """The tensors of a key-value cache: tuples, lists, or transformers' objects with layers."""
    layers = getattr(cache, "layers", None)
    for layer in layers if layers is not None else ():
        yield from _tensors([getattr(layer, "keys", None), getattr(layer, "values", None)])
    for name in ("self_attention_cache", "cross_attention_cache"):
        if hasattr(cache, name):
            yield from _cached(getattr(cache, name))
    yield from _tensors(cache)


def _tensors(found: Any) -> Iterator[Any]:
    tensor = sys.modules["torch"].Tensor
    stack: list[Any] = [found]
    while stack:
        one = stack.pop()
        if isinstance(one, tensor):
            yield one
        elif isinstance(one, list | tuple):
            stack += one
        elif isinstance(one, dict):
            stack += one.values()


def _note_end(trace: Trace, how: str, error: BaseException) -> None:
    trace.ended = how
    trace.error = " ".join("".join(traceback.format_exception_only(error)).split())[:300]
    if how == "values":
        trace.error = str(error)
    frames = [link for link, _ in traceback.walk_tb(error.__traceback__)]
    own = [frame for frame in frames if _is_own(frame)]
    lines = [one for one in traceback.walk_tb(error.__traceback__) if one[0] in own]
    trace.line = _place(lines[-1][0].f_code.co_filename, lines[-1][1]) if lines else ""


def _line_of(frame: FrameType | None) -> str:
    while frame is not None:
        if _is_own(frame):
            return _place(frame.f_code.co_filename, frame.f_lineno)
        frame = frame.f_back
    return ""


def _is_own(frame: FrameType) -> bool:
    """Whether a line is the user's."""
    return is_users(frame.f_code.co_filename.replace("\\", "/"))


def _place(file: str, line: int) -> str:
    name = "cell" if "ipykernel" in file or file.startswith("<") else Path(file).name
    return f"{name}:{line}"
