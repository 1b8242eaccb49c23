"""IPython's, ipykernel's and ipywidgets' own tests, with nb_oomhelper in every shell and without: `make peers`.

It takes the source archive of each as it is installed here, runs its tests twice, and compares: no test may fail that
passes without us. A file that differs is run again by itself, since some tests fail by chance or after another. Names
on the command line choose among the three; the exit status is 1 where something fails only with us, there too.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tempfile
from importlib.metadata import version
from pathlib import Path
from xml.etree import ElementTree

PEERS = {"ipython": ["tests"], "ipykernel": ["tests"], "ipywidgets": ["ipywidgets"]}
# In every process that the tests start: a shell that has been made loads the extension, and says so in a file.
LOAD = """
import os, sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name != "IPython.core.interactiveshell":
            return None
        sys.meta_path.remove(self)
        import importlib.util
        spec = importlib.util.find_spec(name)
        run = spec.loader.exec_module
        def exec_module(module):
            run(module)
            make = module.InteractiveShell.__init__
            def __init__(self, *args, **kwargs):
                make(self, *args, **kwargs)
                self.extension_manager.load_extension("nb_oomhelper")
                with open(os.environ["PEERS_SHELLS"], "a") as file:
                    file.write(type(self).__name__ + "\\n")
            module.InteractiveShell.__init__ = __init__
        spec.loader.exec_module = exec_module
        return spec

sys.meta_path.insert(0, Finder())
"""
Results = dict[str, str]  # a test's name -> "passed", "failed", "skipped"


def fetch(name: str, folder: Path) -> Path:
    """Download the source archive of what is installed here."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps"]
    subprocess.run([*pip, "--no-binary", name, "--dest", folder, f"{name}=={version(name)}"], check=True)
    (archive,) = folder.glob(f"{name}-*.tar.gz")
    return archive


def run(archive: Path, tests: list[str], home: Path, loaded: bool) -> tuple[Results, int]:
    """Run tests in a fresh source folder, which they litter; what became of each, and how many shells had us."""
    home.mkdir(parents=True)
    with tarfile.open(archive) as file:
        file.extractall(home, filter="data")
    source = home / archive.name.removesuffix(".tar.gz")
    places = {"IPYTHONDIR": home / "ipython", "JUPYTER_CONFIG_DIR": home / "jupyter", "PEERS_SHELLS": home / "shells"}
    env = os.environ | {name: str(place) for name, place in places.items()}
    if loaded:
        (home / "sitecustomize.py").write_text(LOAD, "utf-8")
        env["PYTHONPATH"] = str(home)
    report = home / "report.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--timeout", "120", "--tb", "short"]
    command += ["-o", "asyncio_default_fixture_loop_scope=function"]  # unset, it is a warning, and so an error
    done = subprocess.run(
        [*command, f"--junitxml={report}", *tests], cwd=source, env=env, capture_output=True, text=True, check=False
    )
    if not report.exists():
        raise SystemExit(f"the tests of {source.name} did not run:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    shells = home / "shells"
    return read(report), len(shells.read_text().split()) if shells.exists() else 0


def read(report: Path) -> Results:
    """Read what became of each test from pytest's XML; an error beside a result counts as failed."""
    results: Results = {}
    for case in ElementTree.parse(report).iter("testcase"):
        name = f"{case.get('classname', '').replace('.', '/')}::{case.get('name')}"
        kinds = {child.tag for child in case}
        became = "failed" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed"
        results[name] = "failed" if "failed" in (became, results.get(name)) else became
    return results


def compare(name: str, folder: Path) -> list[str]:
    """Run one package's tests both ways; the tests that fail only with us, also alone."""
    archive = fetch(name, folder)
    plain, _ = run(archive, PEERS[name], folder / "plain", loaded=False)
    with_us, shells = run(archive, PEERS[name], folder / "loaded", loaded=True)
    if "passed" not in plain.values() or not shells:
        raise SystemExit(f"the tests of {name} prove nothing: {count(plain)} without us, {shells} shells with us")
    differ = only_with_us(plain, with_us)
    files = {test.partition("::")[0].partition("/Test")[0] + ".py" for test in differ}
    alone = [test for number, file in enumerate(sorted(files)) for test in again(archive, file, folder / str(number))]
    worse = [test for test in differ if test in alone]
    print(f"{name} {version(name)}: without us {count(plain)}; with us in {shells} shells {count(with_us)}")
    for test in differ:
        print(f"  only with us{'' if test in worse else ', and not where its file runs alone'}: {test}")
    return worse


def again(archive: Path, file: str, home: Path) -> list[str]:
    """Run one file both ways; the tests that fail only with us."""
    plain, _ = run(archive, [file], home / "plain", loaded=False)
    return only_with_us(plain, run(archive, [file], home / "loaded", loaded=True)[0])


def count(results: Results) -> str:
    """Say how many passed, failed and were skipped."""
    became = list(results.values())
    return ", ".join(f"{became.count(kind)} {kind}" for kind in ("passed", "failed", "skipped"))


def only_with_us(plain: Results, with_us: Results) -> list[str]:
    """List what failed with us and passed without."""
    return sorted(test for test, became in with_us.items() if became == "failed" and plain.get(test) != "failed")


def main(names: list[str]) -> int:
    """Compare each; 1 if something fails only with us."""
    worse = []
    with tempfile.TemporaryDirectory() as folder:
        for name in names or PEERS:
            (Path(folder) / name).mkdir()
            worse += compare(name, Path(folder) / name)
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
