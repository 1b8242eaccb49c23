"""Hatchling's hook for the wheel, which gets the knowledge as it was read, too: see knowledge/packaged.py."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class KeepRecords(BuildHookInterface):
    """Reads all packaged files, which also proves that they are whole."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the records to the wheel; not where it only leads to the sources, which change."""
        self.folder = tempfile.mkdtemp()
        if version == "editable":
            return
        sys.path.insert(0, str(Path(self.root) / "src"))
        from nb_oomhelper.knowledge.packaged import kept_as, pack

        for kind in ("entries", "fixes"):
            file = Path(self.folder) / kept_as(kind)
            file.write_bytes(pack(kind))
            build_data["force_include"][str(file)] = f"nb_oomhelper/knowledge/{file.name}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002
        """Clear up."""
        shutil.rmtree(self.folder, ignore_errors=True)
