"""`%%gpumem`: which mistakes a cell's code shows before it runs, and how much memory it took, in words."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType

from nb_oomhelper.failure.detection import detect
from nb_oomhelper.holders.scope import scope_of
from nb_oomhelper.knowledge.toml_tables import Language
from nb_oomhelper.memory.allocators import allocators_by_gpu, refusals_of
from nb_oomhelper.memory.peaks import Peak, Peaks
from nb_oomhelper.remedies.foreseen import foresee
from nb_oomhelper.shell.core import Core
from nb_oomhelper.showing.foreseen_text import tell
from nb_oomhelper.showing.memory_table import say_caught, say_peak


def tell_mistakes(cell: str, core: Core, write: Callable[[str], None]) -> None:
    """Tell of mistakes that the code of a cell shows, a line each; nothing of it is run.

    Args:
        cell: Its source.
        core: The extension.
        write: Takes what is told.
    """
    where = scope_of(core.services.shell)
    for line in tell(foresee(where.variables, cell, where.inputs), core.settings.pick_language()):
        write(line)


class Meter:
    """Measures what happens between its start and its stop.

    Attributes:
        seen: What was measured, once it has stopped.
    """

    def __init__(self) -> None:
        self._peaks = Peaks()
        self.seen: list[Peak] = []

    def __enter__(self) -> Meter:
        self._refused = refusals_of(allocators_by_gpu())
        self._peaks.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._peaks.end()

    def stop(self, language: Language, error: BaseException | None = None) -> list[str]:
        """End the measuring and say what was seen, one line a GPU and one for the host.

        Args:
            language: "en" or "zh".
            error: What the cell ends with.
        """
        self.seen = self._peaks.stop()
        *gpus, host = [say_peak(one, language) for one in self.seen]
        caught = refusals_of(allocators_by_gpu()).since(self._refused, _is_refusal(error))
        return [*gpus, *say_caught(caught, language), host]


def _is_refusal(error: BaseException | None) -> int:
    """1 for an error that an allocator has counted, and the cell has not caught."""
    event = detect(error) if error is not None else None
    return int(event is not None and event.remote is None and event.backend != "host")
