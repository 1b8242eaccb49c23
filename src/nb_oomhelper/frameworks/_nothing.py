"""The answers of a framework that has nothing of the kind: no allocator to ask, no devices, no caches.

A framework's file imports those that are true of it, each `as` itself: a type checker counts it as the file's own then.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence

from nb_oomhelper.records.event import OomEvent
from nb_oomhelper.records.memory import AllocatorMemory, CachedBlocks
from nb_oomhelper.records.remedy import StepKind


def recognize(text: str, exception_type: str) -> OomEvent | None:  # noqa: ARG001
    """Read no message: it has none of its own about a lack of memory.

    Args:
        text: The message.
        exception_type: The class that brought it.
    """
    return None


def allocator(backend: str, device: int | None) -> AllocatorMemory | None:  # noqa: ARG001
    """It does not tell how much it has allocated.

    Args:
        backend: "cuda", "host", …
        device: The framework's ordinal; None is its current one.
    """
    return None


def cached_blocks(backend: str, device: int | None) -> CachedBlocks | None:  # noqa: ARG001
    """It has no cache of blocks, or does not tell.

    Args:
        backend: "cuda", "host", …
        device: The framework's ordinal; None is its current one.
    """
    return None


def private_pools(backend: str, device: int | None) -> int:  # noqa: ARG001
    """It has no pools that no array need show, or does not tell.

    Args:
        backend: "cuda", "host", …
        device: The framework's ordinal; None is its current one.
    """
    return 0


def pinned() -> int | None:
    """It pins nothing, or does not tell how much."""
    return None


def device_uuids() -> dict[int, str | None]:
    """It knows no devices."""
    return {}


def storages(objects: Iterable[object]) -> Iterator[tuple[int, Hashable, str, int | None, int]]:  # noqa: ARG001
    """Its objects are not counted."""
    return iter(())


def beyond(objects: Sequence[object], nodes: dict[int, object]) -> Iterable[tuple[object, str]]:  # noqa: ARG001
    """The garbage collector sees what its objects refer to.

    Args:
        objects: Any objects.
        nodes: Graph nodes that were met, by id; what the search keeps alive.
    """
    return ()


def label(obj: object) -> str | None:  # noqa: ARG001
    """Its objects are not counted."""
    return None


def role(obj: object) -> str | None:  # noqa: ARG001
    """Its objects have no role."""
    return None


def array_classes() -> tuple[type, ...]:
    """Its objects are not counted."""
    return ()


def caches(*, deep: bool) -> list[tuple[StepKind, Callable[[], object]]]:  # noqa: ARG001
    """It has no cache worth emptying."""
    return []
