"""The built wheel, not the source tree: what is in it, and that it can be imported where only it is installed."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.plain

PACKAGE = ROOT / "src" / "nb_oomhelper"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel as a release is built: hatchling in an environment of its own."""
    folder = tmp_path_factory.mktemp("wheel")
    _run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, ROOT)
    (built,) = folder.glob("*.whl")
    return built


def test_wheel_holds_every_file(wheel: Path) -> None:
    inside = set(zipfile.ZipFile(wheel).namelist())
    sources = {path.relative_to(PACKAGE.parent) for path in PACKAGE.rglob("*") if path.is_file()}
    wanted = {path.as_posix() for path in sources if "__pycache__" not in path.parts}
    assert inside >= wanted
    assert {"nb_oomhelper/py.typed", "nb_oomhelper/showing/frontends/report.css"} <= inside
    assert any(name.startswith("nb_oomhelper/knowledge/entries/") for name in inside)
    assert any(name.startswith("nb_oomhelper/knowledge/fixes/") for name in inside)
    assert any(name.endswith("licenses/LICENSE") for name in inside)


def test_the_wheel_has_the_knowledge_as_it_was_read(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path)
    code = (
        "from nb_oomhelper.knowledge import packaged as found\n"
        "for kind in ('entries', 'fixes'):\n"
        "    texts = found._texts(kind)\n"
        "    assert found._kept(kind, texts) == found._read(kind, texts) == found.packaged(kind)\n"
        "    assert found._kept(kind, {**texts, 'new.toml': ''}) is None\n"
        "print(found.__file__)"
    )
    place = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True, check=True
    )
    assert Path(place.stdout.decode().strip()).is_relative_to(tmp_path)


def test_wheel_can_be_imported(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "env", with_pip=False)
    python = tmp_path / "env" / "bin" / "python"
    _run(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel)
    (site,) = (tmp_path / "env" / "lib").glob("python*/site-packages")
    # The dependencies of this environment, but not its editable install: a path named in a .pth file is not searched
    # for further .pth files.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    place = _run(python, "-I", "-c", "import nb_oomhelper; print(nb_oomhelper.__file__)")
    assert Path(place.strip()).is_relative_to(site)


def test_the_kernels_import_the_wheel_of_these_sources(kernel_python: Path) -> None:
    """`make env` builds and installs it again; who tries sources of his own puts them on PYTHONPATH."""
    code = "import importlib.util as found; print(found.find_spec('nb_oomhelper').submodule_search_locations[0])"
    place = Path(_run(kernel_python, "-c", code).strip())
    if place == PACKAGE and os.environ.get("PYTHONPATH"):
        pytest.skip("PYTHONPATH leads to the sources")
    assert place.parent.name == "site-packages"
    for path in PACKAGE.rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            assert (place / path.relative_to(PACKAGE)).read_bytes() == path.read_bytes(), f"{path.name}: make env"


def _run(*command: object) -> str:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
