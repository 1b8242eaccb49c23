"""Compile the played CUDA for an installed PyTorch: one library under the names of all that the wheel links to.

What our own C files do not have and PyTorch links to, or bitsandbytes where that lies beside it, becomes a function
that does nothing: it says that all went well for the libraries of mathematics, and that it failed for the others.
`PLAYED_TRACE=1` prints their names when called.
"""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests import nvml_stub

PROVEN = "2.14."  # the versions of PyTorch whose structures and kernels are played, as are those of CUDA 13
TOOLS = ("gcc", "nm", "readelf")

_HERE, _NVML = Path(__file__).parent, Path(nvml_stub.__file__).parent
_SOURCES = [*sorted(_HERE.glob("*.c")), _NVML / "libnvidia-ml.c"]
_FLAGS = ["-shared", "-fPIC", "-O1", "-pthread", "-Wall", "-Wextra"]
_PLAYED = re.compile(r"lib(cu|nv|nccl).*|NVSHMEM")  # libraries, and versions of symbols
_UNVERSIONED = re.compile(r"(cu|nccl|nvshmem)[a-zA-Z]")  # symbols without a version, by their prefix
_SUCCEEDS = re.compile(r"cublas|cusparse(?!Lt)|cusolver|cufft|cudnn|curand|cuda|__cuda|nvrtc|cu(?!File)[A-Z]")
_ASKED_BY_NAME = re.compile(rb"(?<=\0)nvml[A-Z]\w+(?=\0)")  # what PyTorch looks up in the driver's library at run time
_ALWAYS = {"libcuda.so.1", "libnvidia-ml.so.1"}
_NOT_SUPPORTED = 3  # NVML's code; for the other libraries any but 0 will do
_HEAD = """#include <stdio.h>
#include <stdlib.h>
static int answer(const char *name, int code) {
  static int trace = -1;
  if (trace < 0) trace = getenv("PLAYED_TRACE") != NULL;
  if (trace) fprintf(stderr, "played CUDA: %s\\n", name);
  return code;
}
#define STUB(name, code) __attribute__((weak, visibility("default"))) int name(void) { return answer(#name, code); }
"""


class UnplayableError(Exception):
    """CUDA cannot be played here, or not under this PyTorch; the text says why in one line."""


def build(torch: Path, folder: Path) -> Path:
    """Compile the played CUDA; a second or two.

    Args:
        torch: The package's folder, `site-packages/torch`; it is read, not imported.
        folder: Where the library and the links to it come; it must exist. For LD_LIBRARY_PATH.

    Returns:
        `folder`.

    Raises:
        UnplayableError: The machine or the wheel is not one that we can play for.
        subprocess.CalledProcessError: A tool failed; its messages are on standard error.
    """
    cudnn = check(torch)
    files = [*torch.glob("lib/lib*.so"), *torch.glob("_C*.so"), *torch.parent.glob("bitsandbytes/*_cuda13?.so")]
    symbols = _wanted(files)
    library, stubs, versions = folder / "libplayed.so", folder / "stubs.c", folder / "versions.map"
    stubs.write_text(_HEAD + "".join(map(_stub, sorted(set().union(*symbols.values())))), encoding="utf-8")
    groups = [
        f"{version} {{ global: {'; '.join(sorted(names))}; }};\n" for version, names in symbols.items() if version
    ]
    versions.write_text("".join(groups), encoding="utf-8")
    link = ["-o", str(library), f"-Wl,--version-script={versions}", "-ldl"]
    _run("gcc", *_FLAGS, f"-DCUDNN={cudnn}", f"-I{_NVML}", *_SOURCES, stubs, *link)
    for name in {name for name in _needed(files) if _PLAYED.match(name)} | _ALWAYS:
        (folder / name).symlink_to(library.name)  # the loader takes links to one file for one library
    return folder


def check(torch: Path) -> int:
    """See whether CUDA can be played for that PyTorch on this machine.

    Returns:
        The version of cuDNN that the wheel was built with, as cuDNN itself tells it: 92400 is 9.24.0.

    Raises:
        UnplayableError: It cannot.
    """
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise UnplayableError(
            f"CUDA is played on Linux on x86-64 alone; this is {platform.system()} on {platform.machine()}"
        )
    for tool in TOOLS:
        if shutil.which(tool) is None:
            raise UnplayableError(f"CUDA cannot be played without {tool}: install gcc and binutils")
    found = next(torch.parent.glob("torch-*.dist-info/METADATA"), None)
    if found is None:
        raise UnplayableError(f"There is no PyTorch in {torch.parent}: make cuda")
    text = found.read_text(encoding="utf-8")
    version = text.partition("\nVersion: ")[2].split("\n")[0]
    cudnn = re.search(r"nvidia-cudnn-cu13==(\d+)\.(\d+)\.(\d+)", text)
    if not version.startswith(PROVEN) or cudnn is None or not (torch / "lib" / "libtorch_cuda.so").exists():
        built = "a build for CUDA 13" if cudnn else "no build for CUDA 13"
        raise UnplayableError(f"CUDA is played for PyTorch {PROVEN}* built for CUDA 13; this is {version}, {built}")
    major, minor, patch = (int(word) for word in cudnn.groups())
    return major * 10000 + minor * 100 + patch


def _stub(name: str) -> str:
    return f"STUB({name}, {0 if _SUCCEEDS.match(name) else _NOT_SUPPORTED})\n"


def _wanted(files: list[Path]) -> dict[str, set[str]]:
    """What these files want of the played libraries: names by version, "" for those that have none."""
    found: dict[str, set[str]] = defaultdict(set)
    rows = [row for file in files for row in _symbols(file)]
    defined = {name for name, _, undefined in rows if not undefined}
    for name, version, undefined in rows:
        if undefined and name not in defined and (_PLAYED if version else _UNVERSIONED).match(version or name):
            found[version].add(name)
    for file in files:
        if "c10_cuda" in file.name:
            found[""] |= {name.decode() for name in _ASKED_BY_NAME.findall(file.read_bytes())}
    return found


def _symbols(file: Path) -> Iterator[tuple[str, str, bool]]:
    """Dynamic symbols of a library: name, version or "", and whether it is wanted from elsewhere."""
    for line in _run("nm", "-D", "--with-symbol-versions", file).splitlines():
        kind, name = line.split()[-2:]
        plain, _, version = name.partition("@")
        yield plain, version.lstrip("@"), kind in "Uw"


def _needed(files: Iterable[Path]) -> set[str]:
    """The names of the libraries that these files link to."""
    return {name for file in files for name in re.findall(r"\(NEEDED\).*\[(.*)\]", _run("readelf", "-d", file))}


def _run(*command: str | Path) -> str:
    """Run a tool; returns what it prints. Its errors go to ours."""
    return subprocess.run([str(word) for word in command], check=True, stdout=subprocess.PIPE, text=True).stdout
