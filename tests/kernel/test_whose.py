"""Whose code runs, and whose memory it was: told in a real kernel."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kernel.cells import LOAD, NO_ROOM, SETUP, Panel, shown
from tests.kernel.conftest import needs
from tests.kernel.driver import Kernel

pytestmark = pytest.mark.kernel

RELEASE = (Path(__file__).parents[2] / "src/nb_oomhelper/knowledge/fixes/release-failed-cell.toml").read_text("utf-8")
PACKAGED = "nb_oomhelper.release()"
OWN = "import pathlib; pathlib.Path('OWNED').write_text('x')"


def bring(kernel: Kernel, folder: Path | str) -> None:
    """Put a file that has the id of the packaged release into a folder, as somebody else's notebook may bring one."""
    assert PACKAGED in RELEASE
    text = RELEASE.partition("[[example]]")[0].replace(PACKAGED, OWN)
    assert (
        kernel.execute(
            f"import pathlib; d = pathlib.Path({str(folder)!r}) / 'fixes'; d.mkdir(parents=True, exist_ok=True)\n"
            f"(d / 'a.toml').write_text({text!r})"
        ).status
        == "ok"
    )


def test_nothing_of_the_working_folder_runs(kernel: Kernel) -> None:
    bring(kernel, "kb")
    for cell in (LOAD, "%config OOMHelper.knowledge_dir = 'kb'", "%config OOMHelper.auto_release = True", SETUP):
        assert kernel.execute(cell).status == "ok"
    panel = Panel(kernel, kernel.execute(NO_ROOM))
    assert not kernel.eval("__import__('os').path.exists('OWNED')")
    assert "Release the failed cell: freed" in panel.text  # the packaged one, as it was asked for
    status = kernel.execute("%oom status").stdout
    assert "left out: knowledge_dir: 'kb' is refused: it must be an absolute path, or begin with ~" in status
    assert "replaced" not in status


def test_an_own_fix_is_only_shown_until_its_content_is_trusted(kernel: Kernel, tmp_path: Path) -> None:
    own = tmp_path / "own"
    bring(kernel, own)
    trust = f"%oom trust {str(own)!r}"
    for cell in (LOAD, f"%config OOMHelper.knowledge_dir = {str(own)!r}", SETUP):
        assert kernel.execute(cell).status == "ok"
    file = own / "fixes" / "a.toml"
    assert kernel.execute("%oom trust").stdout == f"only shown: {file}\n"

    def number() -> str:
        """The fix's number in a new panel."""
        text = Panel(kernel, kernel.execute(NO_ROOM)).bundle["text/plain"]
        (row,) = [line for line in text.splitlines() if "Release the failed cell" in line and "a.toml" in line]
        return str(row.split()[0])

    assert "is only shown: copy its code" in kernel.execute(f"%oom fix {number()}").stdout
    assert f"{file}\ntrusted: 1." in kernel.execute(trust).stdout
    kernel.execute(f"with open({str(file)!r}, 'a') as f: f.write('# changed')")
    kernel.execute("%config OOMHelper.knowledge_dir = ''")
    kernel.execute("%oom trust")  # what is read for another folder takes the place of what was read
    kernel.execute(f"%config OOMHelper.knowledge_dir = {str(own)!r}")
    assert kernel.execute("%oom trust").stdout == f"only shown: {file}\n"
    assert "is only shown: copy its code" in kernel.execute(f"%oom fix {number()}").stdout
    assert not kernel.eval("__import__('os').path.exists('OWNED')")
    kernel.execute(trust)
    assert kernel.execute("%oom trust").stdout == f"trusted: {file}\n"
    kernel.execute(f"%oom fix {number()}")
    assert kernel.eval("__import__('os').path.exists('OWNED')")
    assert kernel.execute(f"{trust} --revoke").stdout == "trusted no longer: 1\n"
    assert "is only shown: copy its code" in kernel.execute(f"%oom fix {number()}").stdout


def test_an_own_fix_in_a_packaged_ones_place_is_named_and_waits_for_a_click(kernel: Kernel, tmp_path: Path) -> None:
    own = tmp_path / "<b>own"
    bring(kernel, own)
    for cell in (
        LOAD,
        f"%config OOMHelper.knowledge_dir = {str(own)!r}",
        f"%oom trust {str(own)!r}",
        "%config OOMHelper.auto_release = True",
        SETUP,
    ):
        assert kernel.execute(cell).status == "ok"
    panel = Panel(kernel, kernel.execute(NO_ROOM))
    assert not kernel.eval("__import__('os').path.exists('OWNED')")
    panel.unfold()
    assert f"from a.toml in {own / 'fixes'}" in panel.text
    assert f"from `a.toml` in `{own / 'fixes'}`" in panel.bundle["text/plain"]
    assert "&lt;b&gt;own" in panel.bundle["text/html"]
    assert "<b>own" not in panel.bundle["text/html"]
    status = kernel.execute("%oom status").stdout
    assert f"replaced: fix release-failed-cell by {own / 'fixes' / 'a.toml'}" in status
    panel.only()
    assert kernel.eval("__import__('os').path.exists('OWNED')")


WORKERS = {
    "a worker of a process pool": """
import multiprocessing
with multiprocessing.get_context("fork").Pool(1) as pool:
    pool.apply(huge)
""",
    "worker 0 of a DataLoader": """
import torch
class Items(torch.utils.data.Dataset):
    def __len__(self):
        return 1
    def __getitem__(self, index):
        return huge()
kept = numpy.ones(64 << 20, numpy.uint8)
list(torch.utils.data.DataLoader(Items(), num_workers=1))
""",
}


@pytest.mark.parametrize("who", WORKERS)
def test_another_processes_error(kernel: Kernel, who: str) -> None:
    if "DataLoader" in who:
        needs(kernel, "torch")
    for cell in (LOAD, "%config OOMHelper.auto_release = True", SETUP):
        assert kernel.execute(cell).status == "ok"
    reply = kernel.execute(WORKERS[who])
    assert reply.status == "error"
    assert len(shown(reply)) == 1
    panel = Panel(kernel, reply)
    assert panel.text.splitlines()[0].startswith(f"Out of memory in another process: {who}")
    assert panel.bundle["text/plain"].startswith(f"Out of memory in another process: {who}\n")
    assert "Only the fix" not in panel.buttons
    for word in ("kept", "free", "Release", "machine has", "live"):
        assert word not in panel.text.replace("nothing to release", ""), word
    assert "there is no fix 1" in kernel.execute("%oom fix 1").stdout
    kernel.poll(1.5)
    assert "oomh-bar" not in "".join(str(state.get("value", "")).partition("</style>")[2] for state in panel.visible())
