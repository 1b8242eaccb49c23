"""In the copy: what is done with tensors past PyTorch's operations, and on other threads."""

from __future__ import annotations

import contextlib
import inspect
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

from nb_oomhelper.forecasting.trace import Trace


def let_data_be_set(torch: Any, fake: type, put: Callable[[Any, Any], None]) -> None:
    """`parameter.data = …`: a real tensor stays what it is, and stands for another one without bytes.

    Args:
        torch: The module.
        fake: The class of tensors without bytes.
        put: Lets a real tensor stand for another one.
    """
    known = torch._C.TensorBase.data

    def set_data(tensor: Any, value: Any) -> None:
        fits = isinstance(value, fake) and not isinstance(tensor, fake)
        if fits and (tensor.shape, tensor.dtype) == (value.shape, value.dtype):
            put(tensor, value)
        else:
            known.__set__(tensor, value)

    torch.Tensor.data = property(known.__get__, set_data)


def let_arrays_be_made(torch: Any, fake: type, values: Callable[[Any], Any]) -> None:
    """`tensor.numpy()` gives an array, whatever is in it.

    Args:
        torch: The module.
        fake: The class of tensors without bytes.
        values: Gives a real tensor on the host for one.
    """
    known = torch.Tensor.numpy

    def numpy(tensor: Any, **how: Any) -> Any:
        from torch.utils._python_dispatch import _disable_current_modes

        if not isinstance(tensor, fake):
            return known(tensor, **how)
        with _disable_current_modes():
            return known(values(tensor), **how)

    torch.Tensor.numpy = numpy


def let_nothing_be_compiled(torch: Any, tell: Callable[[str], None]) -> None:
    """`torch.compile` gives what it was given.

    Args:
        torch: The module.
        tell: Notes it.
    """

    def compiled(model: Any = None, **_: Any) -> Any:
        tell("compiled")
        return model if model is not None else lambda one: one

    torch.compile = compiled


def note_processes(trace: Trace) -> None:
    """Note where several processes work together."""
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        trace.notes.append(("distributed", ""))


def that_has_run(found: Any) -> Any:
    """Give what a call has given; a coroutine or a generator has done nothing yet.

    Raises:
        TypeError: It is one.
    """
    if inspect.iscoroutine(found) or inspect.isgenerator(found):
        raise TypeError(
            f"it gives a {type(found).__name__}, of which nothing has run yet: put what it does in a function"
        )
    return found


@contextlib.contextmanager
def threads_within(modes: Callable[[], tuple[Any, ...]]) -> Iterator[None]:
    """Let threads that are started do what they do within modes, which are each thread's own.

    Args:
        modes: Makes them, the outermost first.
    """
    from torch.utils._python_dispatch import _pop_mode, _push_mode

    run: Any = threading.Thread.run

    def run_within(thread: threading.Thread) -> None:
        entered = modes()
        for mode in entered:  # not by `with`: that would change what is not of this thread
            _push_mode(mode)
        try:
            run(thread)
        finally:
            for mode in reversed(entered):
                _pop_mode(mode._mode_key)

    within: Any = run_within
    threading.Thread.run = within  # type: ignore[method-assign]
    try:
        yield
    finally:
        threading.Thread.run = run  # type: ignore[method-assign]
