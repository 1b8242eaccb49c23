"""`python -m benchmarks.forecast [--only STEP …] [--json FILE]`: forecasts beside the peaks of the real allocator.

Each step is forecast, then run, then forecast and run again, now that optimizer states and the allocator's cache are
there; in a process of its own, on the played CUDA device. Sizes are what PyTorch's own allocator tells.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.forecast_steps import STEPS

_BATCHES = (2, 8)
_FIRST, _WORST, _HELD = 2.0, 8.0, 95.0  # percent: the goals


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure every step in both batches; 0 where the goals are met."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.forecast")
    parser.add_argument("--only", nargs="+", choices=[*STEPS], default=[*STEPS], metavar="STEP")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all figures to this file")
    parser.add_argument("--inside", nargs=2, metavar=("STEP", "BATCH"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.inside:
        print(json.dumps(_measure(options.inside[0], int(options.inside[1]))))
        return 0
    rows: list[dict[str, Any]] = []
    for row in _all(options.only):
        print(_line(row), flush=True)
        rows.append(row)
    told = summary(rows)
    print(json.dumps(told, indent=1))
    if options.json is not None:
        record = {"date": datetime.now(UTC).isoformat(timespec="seconds"), "machine": machine.describe()}
        text = json.dumps(record | {"device": "played", "summary": told, "rows": rows}, indent=1, ensure_ascii=False)
        options.json.write_text(text + "\n", encoding="utf-8")
    return 0 if told["met"] else 1


def _all(names: Sequence[str]) -> Iterator[dict[str, Any]]:
    from tests import played_cuda

    for name in names:
        for batch in _BATCHES:
            with tempfile.TemporaryDirectory(prefix="forecast-") as folder:
                env = played_cuda.device(Path(folder), "16GiB")
                command = [str(played_cuda.PYTHON), "-m", "benchmarks.forecast", "--inside", name, str(batch)]
                done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, check=False)
            if done.returncode:
                raise RuntimeError(f"{name}: {done.stderr}")
            yield from json.loads(done.stdout.splitlines()[-1])


def _measure(name: str, batch: int) -> list[dict[str, Any]]:
    import torch

    step = STEPS[name](batch)
    return [_once(torch, step, {"step": name, "batch": batch, "time": word}) for word in ("first", "second")]


def _once(torch: Any, step: Any, row: dict[str, Any]) -> dict[str, Any]:
    """One forecast and one run. The played cuBLAS has one handle for all threads, where a real one has one each."""
    from nb_oomhelper.forecasting.allocator import read_settings
    from nb_oomhelper.forecasting.forecast import forecast_call, read_held
    from nb_oomhelper.forecasting.stand_ins import look_at_devices

    devices = dataclasses.replace(look_at_devices(torch, read_held(torch, read_settings(os.environ))), handles=1)
    found = forecast_call(step, row["step"], devices=devices)
    torch.cuda.reset_peak_memory_stats()
    begun = time.perf_counter()
    step()
    took = time.perf_counter() - begun
    peaks = {"allocated": torch.cuda.max_memory_allocated(), "reserved": torch.cuda.max_memory_reserved()}
    bands = {"allocated": found.allocated, "reserved": found.reserved}
    figures = {kind: dataclasses.asdict(one) | {"real": peaks[kind]} for kind, one in bands.items() if one is not None}
    return row | figures | {"ended": found.ended, "verdict": found.verdict, "seconds": found.seconds, "run": took}


def _errors(rows: Sequence[dict[str, Any]], kind: str) -> list[float]:
    """Percent by which each is off."""
    return [100 * (row[kind]["likely"] / row[kind]["real"] - 1) for row in rows]


def _holds(rows: Sequence[dict[str, Any]], kind: str) -> float:
    held: list[bool] = [row[kind]["low"] <= row[kind]["real"] <= row[kind]["high"] for row in rows]
    return 100.0 * sum(held) / len(held)


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Give mean and worst error and how often the band holds, in percent, and whether the goals are met.

    Args:
        rows: One a forecast: "allocated" and "reserved" with low, likely, high and real; "ended", "seconds".
    """
    told: dict[str, Any] = {"forecasts": len(rows), "not_to_the_end": sum(row["ended"] != "returned" for row in rows)}
    met = not told["not_to_the_end"]
    for kind in ("allocated", "reserved"):
        off = [abs(one) for one in _errors(rows, kind)]
        mean, worst, held = sum(off) / len(off), max(off), _holds(rows, kind)
        told[kind] = {"mean_error": round(mean, 3), "worst_error": round(worst, 3), "band_holds": round(held, 1)}
        met = met and mean <= _FIRST and worst <= _WORST and held >= _HELD
    return told | {"longest_seconds": round(max(row["seconds"] for row in rows), 2), "met": met}


def _line(row: dict[str, Any]) -> str:
    parts = [(kind, row[kind]["likely"] / 2**20, row[kind]["real"] / 2**20) for kind in ("allocated", "reserved")]
    figures = "; ".join(
        f"{kind} {told:.1f} for {real:.1f} MiB, {100 * (told / real - 1):+.2f} %" for kind, told, real in parts
    )
    return f"{row['step']}, batch {row['batch']}, {row['time']}: {figures} ({row['ended']}, {row['seconds']:.1f} s)"


if __name__ == "__main__":
    sys.exit(main())
