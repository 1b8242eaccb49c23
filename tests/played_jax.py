"""A GPU of JAX's that is played: what its client and its allocator say, without a device."""

from __future__ import annotations

from types import SimpleNamespace

MIB = 1 << 20


class PlayedGpu:
    """A device as JAX's clients give it, with what its allocator says."""

    def __init__(self, number: int, platform: str = "gpu", version: str = "PJRT C API cuda 12080") -> None:
        self.id = 8 + number
        self.local_hardware_id = number
        self.platform = platform
        self.client = SimpleNamespace(platform_version=version, local_devices=lambda: [self])

    def memory_stats(self) -> dict[str, int] | None:
        if self.platform == "cpu":
            return None
        return {
            "bytes_in_use": 3 * MIB,
            "pool_bytes": 60 * MIB,
            "peak_bytes_in_use": 9 * MIB,
            "bytes_limit": 60 * MIB,
            "largest_free_block_bytes": 50 * MIB,
        }
