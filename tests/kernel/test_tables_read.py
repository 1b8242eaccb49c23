"""A CSV file that does not fit into memory: the panel's fix runs, and gives what the whole file gives where it fits."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import StartKernel
from tests.kernel.cells import CASE, LOAD
from tests.kernel.conftest import needs
from tests.kernel.driver import Kernel

pytestmark = pytest.mark.kernel

ROOM = 200  # MiB
FILE = """
import resource
import numpy as np
import pandas as pd
def limit(room):
    size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + (room << 20) if room else -1, resource.RLIM_INFINITY))
def checked(*things):
    return [pd.util.hash_pandas_object(one.round(6)).tolist() + [str(one.dtypes)] for one in things]
rng = np.random.default_rng(4)
part = pd.DataFrame({"shop": rng.integers(0, 30, 10_000), "day": "2024-03-01", "name": 'a "quoted, name"'})
for i in range(60):
    part[f"f{i}"] = rng.normal(size=10_000).round(3)
part.loc[::7, "f3"] = np.nan
part["row"] = np.arange(10_000)
part.to_csv("table.csv", index=False)
text = part.to_csv(header=False, index=False)
with open("table.csv", "a") as file:
    for n in range(59):
        file.write(text)
del part, text
path = "table.csv"
"""
COLUMNS = """
df = pd.read_csv(path, dtype={"shop": "int32"}, parse_dates=["day"])
df["sum"] = df["f1"] + df["f3"].fillna(0)
means = df[df["row"] > 1000].groupby("shop")["sum"].agg(["mean", "count"])
per_day = df.groupby("day")["f2"].max()
"""
PARTS = """
df = pd.read_csv(path)
print(df.shape)
means = df.groupby("shop")[["f1", "f3", "row"]].mean()
means["n"] = df.groupby("shop").size()
few = df[df["f5"] > 3.5]
per_day = df.isna().sum()
"""


@pytest.fixture
def notebook(start_kernel: StartKernel, kernel_python: Path, tmp_path: Path) -> Kernel:
    """A kernel with a large file, and with little room."""
    kernel = start_kernel(kernel_python)
    needs(kernel, "pandas")
    kernel.execute(f"import os\nos.chdir({str(tmp_path)!r})")
    kernel.execute(FILE, timeout=120)
    kernel.execute(LOAD)
    kernel.poll(2.5)
    kernel.execute(f"limit({ROOM})")
    return kernel


@pytest.mark.parametrize(
    ("cell", "fix", "check"),
    [
        (COLUMNS, "read-columns", "checked(means, per_day.to_frame())"),
        (PARTS, "read-in-parts", "checked(means, few.drop(columns='name'), per_day.to_frame())"),
    ],
    ids=["columns", "parts"],
)
def test_the_cell_runs_with_the_same_result(notebook: Kernel, cell: str, fix: str, check: str) -> None:
    assert notebook.execute(cell, timeout=120).status == "error"
    numbers = dict(notebook.eval(f"[[plan.fix, plan.number] for plan in {CASE}.plans]"))
    assert next(iter(numbers)) == fix
    reply = notebook.execute("%oom fix 1 --yes", timeout=300)
    assert reply.status == "ok", reply
    cured = notebook.eval(check)
    notebook.execute("limit(0)")
    if fix == "read-in-parts":
        assert "(600000, 64)" in reply.stdout
    assert notebook.execute(cell, timeout=120).status == "ok"
    assert notebook.eval(check) == cured
