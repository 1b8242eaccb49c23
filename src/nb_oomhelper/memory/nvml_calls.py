"""NVIDIA's NVML, asked so that nothing raises. The only door to `pynvml`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from nb_oomhelper.records.note import Note, note

# Return codes of nvml.h (nvmlReturn_t), as numbers because pynvml is not imported at import.
_UNINITIALIZED = 1
NOT_SUPPORTED = 3
NOT_FOUND = 6
FUNCTION_NOT_FOUND = 13
_REASONS = {  # keys of sentences
    1: "shut_down",
    3: "not_supported",
    4: "no_permission",
    9: "not_running",
    10: "timeout",
    12: "no_driver",
    13: "too_old",
    15: "lost",
    16: "must_reset",
    17: "blocked",
    18: "updated",
    20: "no_memory",
    23: "no_resources",
    25: "too_old",
    27: "not_ready",
    28: "not_found",
    999: "failed",
}
_NO_BINDING, _BAD_BINDING = note("nvml.no_binding"), note("nvml.bad_binding")


@dataclass(slots=True)
class Library:
    """pynvml, asked so that nothing raises."""

    pynvml: Any
    shut_down: bool = False

    def ask(self, name: str, *args: Any) -> tuple[Any, int | Note]:
        """Call one function of pynvml.

        Args:
            name: Of the function.
            *args: What it is given.

        Returns:
            Its result and 0, or None and the reason: NVML's return code, or a note where the failure was
            not NVML's own.
        """
        function = getattr(self.pynvml, name, None)
        if function is None:
            return None, FUNCTION_NOT_FOUND
        try:
            return function(*args), 0
        except Exception as error:  # NVMLError, but also decoding errors and ctypes' own: a foreign library's edge
            code = getattr(error, "value", None)
            if not isinstance(code, int):
                return None, note("nvml.nonsense", error=type(error).__name__)
            self.shut_down |= code == _UNINITIALIZED
            return None, code

    def ask_newest(self, names: Iterable[str], *args: Any) -> tuple[Any, int | Note]:
        """Call the first of these functions that the driver has: newer drivers keep older entry points.

        Args:
            names: The newest first.
            *args: As for `ask`.
        """
        answer: tuple[Any, int | Note] = None, FUNCTION_NOT_FOUND
        for name in names:
            answer = self.ask(name, *args)
            if answer[1] != FUNCTION_NOT_FOUND:
                break
        return answer


def load() -> Library | Note:
    """Import pynvml, or say why it cannot be had."""
    try:
        import pynvml
    except (Exception, SystemExit) as error:  # a broken installation may raise anything while it is imported
        return _NO_BINDING if isinstance(error, ImportError) and error.name == "pynvml" else _BAD_BINDING
    return Library(pynvml) if hasattr(pynvml, "nvmlInit") else _BAD_BINDING


def why_not(code: int | Note) -> Note:
    """Say why a call failed.

    Args:
        code: As `Library.ask` gives it; not 0.
    """
    if isinstance(code, Note):
        return code
    return note(f"nvml.{_REASONS[code]}") if code in _REASONS else note("nvml.error", code=code)
