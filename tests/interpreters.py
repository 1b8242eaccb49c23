"""Print the Pythons here that nb_oomhelper runs on, one a line, the oldest first: "3.12 /path/to/python3.12".

The versions are those of the classifiers in pyproject.toml; looked at are PATH and pyenv. `--others` leaves out the
version that runs this, `--ends` all but the oldest and the newest; what is left out is told on stderr.
With CI=true it is an error if there is only one.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

PROBE = "import ensurepip, sqlite3, ssl, sys, venv; print('%d.%d' % sys.version_info[:2])"
ROOT = Path(__file__).parents[1]
Version = tuple[int, int]


def versions() -> list[Version]:
    """Return the versions that pyproject.toml names."""
    lines = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["classifiers"]
    named = [
        line.rpartition(" ")[2].split(".") for line in lines if line.startswith("Programming Language :: Python :: 3.")
    ]
    return sorted((int(parts[0]), int(parts[1])) for parts in named if len(parts) == 2)


def folders() -> Iterator[Path]:
    """Give the folders in which a Python may lie."""
    yield from map(Path, filter(None, os.environ.get("PATH", "").split(os.pathsep)))
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    yield from sorted(pyenv.glob("versions/3.*/bin"), reverse=True)


def find_targets(python: Path, version: Version) -> bool:
    """Tell whether it is what its name says, and can make environments: a shim of pyenv may be neither."""
    try:
        done = subprocess.run([python, "-c", PROBE], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.stdout.strip() == text(version)


def find() -> dict[Version, Path]:
    """Return the first Python of each version that works."""
    found = {}
    for version in versions():
        here = [sys.executable] if version == sys.version_info[:2] else []
        places = [*map(Path, here), *(folder / f"python{text(version)}" for folder in folders())]
        python = next((one for one in places if one.is_file() and find_targets(one, version)), None)
        if python is not None:
            found[version] = python
    return found


def text(version: Version) -> str:
    """Return it as it is written."""
    return f"{version[0]}.{version[1]}"


def main(flags: list[str]) -> int:
    """Print them; 1 if there should be more."""
    found = find()
    ends = "--ends" in flags and found
    chosen = sorted({min(found), max(found), sys.version_info[:2]} & found.keys() if ends else found)
    print(f"== Pythons here: {', '.join(map(text, found))}; tested: {', '.join(map(text, chosen))}", file=sys.stderr)
    if len(found) < 2 and os.environ.get("CI") == "true":
        print("== With CI=true there must be two at least", file=sys.stderr)
        return 1
    for version in chosen:
        if "--others" not in flags or version != sys.version_info[:2]:
            print(text(version), found[version])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
