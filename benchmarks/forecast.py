"""`python -m benchmarks.forecast [--only STEP …] [--json FILE]`: forecasts beside the peaks of the real allocator.

Each step is forecast, then run, then forecast and run again, now that optimizer states and the allocator's cache are
there; in a process of its own, on the played CUDA device. Sizes are what PyTorch's own allocator tells. Then the device
is made smaller and larger than that, by a limit of the allocator's: what is forecast there, and whether the step runs.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.forecast_steps import make, recipes

_BATCHES = (2, 8)
_FIRST, _WORST, _HELD = 2.0, 8.0, 95.0  # percent: the goals
_LIMITS = {2: (0.85, 0.99, 1.05), 8: (0.95, 1.01, 1.2)}  # of the peak that was measured
_DEVICE = 40 << 30
_EXTRA = {"GPT-2, 8-bit AdamW": "bitsandbytes", "U-Net of diffusers, AdamW": "diffusers", "Llama with LoRA": "peft"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure every step in both batches; 0 where the goals are met."""
    names = [*recipes()]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.forecast")
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="STEP")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all figures to this file")
    parser.add_argument("--peers", metavar="PYTHON", help="an interpreter that has torch-preflight: its figures beside")
    parser.add_argument("--inside", nargs=2, metavar=("STEP", "BATCH"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.inside:
        print(json.dumps(_measure(options.inside[0], int(options.inside[1]))))
        return 0
    rows: list[dict[str, Any]] = []
    left_out: dict[str, str] = {}
    told: dict[str, Any] = {"met": False}
    for name in options.only:
        for row in _of_step(name, options.peers, left_out):
            print(_line(row), flush=True)
            rows.append(row)
        told = (summary(rows) if rows else told) | {"left_out": left_out}
        if options.json is not None:  # after each step, for it takes half an hour
            _write(options.json, told, rows)
    print(json.dumps(told, indent=1))
    return 0 if told["met"] else 1


def _write(file: Path, told: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    record = {"date": datetime.now(UTC).isoformat(timespec="seconds"), "machine": machine.describe()}
    text = json.dumps(record | {"device": "played", "summary": told, "rows": rows}, indent=1, ensure_ascii=False)
    file.write_text(text + "\n", encoding="utf-8")


def _of_step(name: str, peers: str | None, left_out: dict[str, str]) -> Iterator[dict[str, Any]]:
    from tests import played_cuda

    for batch in _BATCHES:
        with tempfile.TemporaryDirectory(prefix="forecast-") as folder:
            env = played_cuda.device(Path(folder), f"{_DEVICE >> 30}GiB")
            command = [str(played_cuda.PYTHON), "-m", "benchmarks.forecast", "--inside", name, str(batch)]
            done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=900, check=False)
        if done.returncode:
            left_out[name] = (done.stderr.strip().splitlines() or ["no answer"])[-1]
            return
        others = _ask_peers(peers, name, batch) if peers else {}
        for row in json.loads(done.stdout.splitlines()[-1]):
            yield row | ({"peers": others} if row["time"] == "second" and others else {})


def _ask_peers(python: str, name: str, batch: int) -> dict[str, Any]:
    command = [python, "-m", "benchmarks.forecast_peers", name, str(batch)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else {}
    return told


def _measure(name: str, batch: int) -> list[dict[str, Any]]:
    import torch

    wanted = _EXTRA.get(name)
    if wanted is not None and importlib.util.find_spec(wanted) is None:
        raise SystemExit(f"{wanted} is not installed")
    step = make(recipes()[name], batch)
    rows = [_once(torch, step, {"step": name, "batch": batch, "time": word}) for word in ("first", "second")]
    rows[-1]["limits"] = [_limited(torch, step, int(rows[-1]["reserved"]["real"] * share)) for share in _LIMITS[batch]]
    return rows


def _forecast(torch: Any, step: Any) -> Any:
    """The played cuBLAS has one handle for all threads, where a real one has one each."""
    from nb_oomhelper.forecasting.allocator import read_settings
    from nb_oomhelper.forecasting.forecast import forecast_call, read_held
    from nb_oomhelper.forecasting.stand_ins import look_at_devices

    devices = dataclasses.replace(look_at_devices(torch, read_held(torch, read_settings(os.environ))), handles=1)
    return forecast_call(step, "step", devices=devices)


def _once(torch: Any, step: Any, row: dict[str, Any]) -> dict[str, Any]:
    """One forecast and one run."""
    found = _forecast(torch, step)
    copy = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss - resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    torch.cuda.reset_peak_memory_stats()
    begun = time.perf_counter()
    step()
    took = time.perf_counter() - begun
    peaks = {"allocated": torch.cuda.max_memory_allocated(), "reserved": torch.cuda.max_memory_reserved()}
    bands = {"allocated": found.allocated, "reserved": found.reserved}
    figures = {kind: dataclasses.asdict(one) | {"real": peaks[kind]} for kind, one in bands.items() if one is not None}
    ends = {"ended": found.ended, "error": found.error, "notes": [one.key for one in found.notes]}
    return row | figures | ends | {"seconds": found.seconds, "run": took, "copy": max(0, copy) << 10}


def _limited(torch: Any, step: Any, limit: int) -> dict[str, Any]:
    """What is forecast where PyTorch may take no more than that, and whether the step runs then."""
    torch.cuda.set_per_process_memory_fraction(limit / torch.cuda.mem_get_info()[1])
    torch.cuda.empty_cache()
    verdict = _forecast(torch, step).verdict
    try:
        step()
    except torch.OutOfMemoryError:
        ran = False
    else:
        ran = True
    return {"limit": limit, "verdict": verdict, "ran": ran}


def _errors(rows: Sequence[dict[str, Any]], kind: str) -> list[float]:
    """Percent by which each is off."""
    return [100 * (row[kind]["likely"] / row[kind]["real"] - 1) for row in rows]


def _holds(rows: Sequence[dict[str, Any]], kind: str) -> float:
    held: list[bool] = [row[kind]["low"] <= row[kind]["real"] <= row[kind]["high"] for row in rows]
    return 100.0 * sum(held) / len(held)


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Give mean and worst error and how often the band holds, in percent, and whether the goals are met.

    Args:
        rows: One a forecast: "allocated" and "reserved" with low, likely, high and real; "ended", "seconds"; some with
            "limits" (verdict, ran) and "peers" (bytes by name).
    """
    told: dict[str, Any] = {"forecasts": len(rows), "steps": len({row["step"] for row in rows})}
    told["not_to_the_end"] = sum(row["ended"] != "returned" for row in rows)
    met = not told["not_to_the_end"]
    for kind in ("allocated", "reserved"):
        off = [abs(one) for one in _errors(rows, kind)]
        mean, worst, held = sum(off) / len(off), max(off), _holds(rows, kind)
        told[kind] = {"mean_error": round(mean, 3), "worst_error": round(worst, 3), "band_holds": round(held, 1)}
        met = met and mean <= _FIRST and worst <= _WORST and held >= _HELD
    told["verdicts"] = verdicts = _verdicts(rows)
    told["peers"] = _peers(rows)
    told["longest_seconds"] = round(max(row["seconds"] for row in rows), 2)
    return told | {"met": met and not verdicts["wrong"]}


def _verdicts(rows: Sequence[dict[str, Any]]) -> dict[str, int]:
    """How often "fits" ran, "does not" did not, and how often it was said that nobody can tell."""
    found: Counter[str] = Counter()
    for one in (one for row in rows for one in row.get("limits", ())):
        said = {"fits": True, "does_not": False}.get(one["verdict"])
        found["tight" if said is None else "right" if said == one["ran"] else "wrong"] += 1
    return {word: found[word] for word in ("right", "wrong", "tight")}


def _peers(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The others' errors in percent of the real peak; ours on the same rows."""
    found: dict[str, list[float]] = {}
    for row in rows:
        for name, one in row.get("peers", {}).items():
            found.setdefault(name, []).append(abs(100 * (one["bytes"] / row[one["kind"]]["real"] - 1)))
    return {
        name: {"forecasts": len(off), "mean_error": round(sum(off) / len(off), 1), "worst_error": round(max(off), 1)}
        for name, off in found.items()
    }


def _line(row: dict[str, Any]) -> str:
    parts = [(kind, row[kind]["likely"] / 2**20, row[kind]["real"] / 2**20) for kind in ("allocated", "reserved")]
    figures = "; ".join(
        f"{kind} {told:.1f} for {real:.1f} MiB, {100 * (told / real - 1):+.2f} %" for kind, told, real in parts
    )
    limits = " ".join(f"{one['verdict']}/{'ran' if one['ran'] else 'not'}" for one in row.get("limits", ()))
    others = " ".join(f"{name} {one['bytes'] / 2**20:.0f}" for name, one in row.get("peers", {}).items())
    end = f"{row['ended']}, {row['seconds']:.1f} s"
    return f"{row['step']}, batch {row['batch']}, {row['time']}: {figures} ({end}) {limits} {others}".rstrip()


if __name__ == "__main__":
    sys.exit(main())
