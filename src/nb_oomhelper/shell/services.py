"""What is opened once for a shell: the knowledge, the history, the door to NVML; made ready, and ended again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from nb_oomhelper.memory.nvml import Driver
from nb_oomhelper.poll import WORKER
from nb_oomhelper.services import Services

if TYPE_CHECKING:
    from nb_oomhelper.knowledge.catalog import Catalog
    from nb_oomhelper.shell.settings import OOMHelper


def make_services(shell: Any, settings: OOMHelper) -> Services:
    """Make what cases are worked on with. Nothing is opened yet.

    Args:
        shell: The InteractiveShell.
        settings: Read anew each time that something depends on them.

    Returns:
        The services, to be passed on.
    """
    return Services(driver=Driver(), catalog=_Knowledge(settings), history=settings.history_file, shell=shell)


class _Knowledge:
    """The knowledge, with what is from outside; read once for a folder and what is trusted."""

    def __init__(self, settings: OOMHelper) -> None:
        self._settings = settings
        self._read: tuple[tuple[Path, int | None], Catalog] | None = None

    def __call__(self) -> Catalog:
        folder, trusted = self._settings.knowledge_folder(), self._settings.trust_file()
        key = folder, _changed(trusted)
        if self._read is None or self._read[0] != key:
            from nb_oomhelper.knowledge.catalog import load_catalog

            self._read = (key, load_catalog(folder, trusted))
        return self._read[1]


def _changed(file: Path) -> int | None:
    """When a file was last written, in nanoseconds; None where it is not there."""
    try:
        return file.stat().st_mtime_ns
    except OSError:
        return None


def warm(services: Services) -> None:
    """Import and start what an error needs, while there is room for it."""
    from nb_oomhelper.loading.loaders import load_rows
    from nb_oomhelper.shell import panels  # noqa: F401
    from nb_oomhelper.showing import frontends

    services.catalog()
    load_rows()
    frontends.warm(services.shell)
    if WORKER.start():
        services.driver.begin()


def end(services: Services) -> None:
    """Close what was opened, and end the thread that nobody else needs."""
    services.driver.close()  # by the thread that is ended next
    if not WORKER.repeating:  # another shell of this process may have a live panel
        WORKER.end()
