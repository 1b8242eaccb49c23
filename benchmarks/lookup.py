"""What the knowledge costs, loaded and looked up in among thousands of entries: `python -m benchmarks.lookup`.

Entries are made by renaming those of the package: other words and other formats, so that few of them are near a case,
as in a large base. Sides of a comparison take turns; times are in milliseconds, and only ratios are comparable.
"""

from __future__ import annotations

import argparse
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from importlib import resources

from benchmarks.choice import choose, situations
from benchmarks.run import to_text
from benchmarks.timing import Result, Side, take_turns
from nb_oomhelper.knowledge.catalog import Catalog, load_catalog

MANY, FEW = 10_000, 1_000  # entries
_REPEATS = 30


def measure(repeats: int | None = None) -> Iterator[Result]:
    """Measure loading, choosing and looking up.

    Args:
        repeats: Rounds; None for as many as usual.
    """
    rounds = repeats or _REPEATS
    packaged, few, many = load_catalog(), larger(FEW), larger(MANY)
    files = [
        file.read_text("utf-8")
        for kind in ("entries", "fixes")
        for file in (resources.files("nb_oomhelper.knowledge") / kind).iterdir()
        if file.name.endswith(".toml")
    ]
    yield Result(
        name="knowledge",
        title=f"load {len(packaged.entries)} entries and {len(packaged.fixes)} fixes; beside it, TOML alone",
        sides=_sides(
            rounds, {"load and check": load_catalog, "tomllib.loads": lambda: [tomllib.loads(one) for one in files]}
        ),
    )
    case = next(one for one in situations(packaged) if one.expected == "CUDA-OOM-013")
    yield Result(
        name="knowledge",
        title="the entry that is about a case",
        sides=_sides(
            rounds,
            {
                f"{MANY} entries": lambda: choose(many, case),
                f"{FEW} entries": lambda: choose(few, case),
                f"{len(packaged.entries)} entries": lambda: choose(packaged, case),
            },
        ),
        goal=MANY / FEW * 1.2,
    )
    last = many.entries[-1].code
    yield Result(
        name="knowledge",
        title="an entry by its code, the last one",
        sides=_sides(
            rounds,
            {f"{MANY} entries": lambda: many.entry(last), f"{FEW} entries": lambda: few.entry(few.entries[-1].id)},
        ),
        goal=MANY / FEW * 1.2,
    )


def larger(count: int) -> Catalog:
    """Give a catalog of so many entries: those of the package, and copies that are about other messages."""
    packaged = load_catalog()
    entries = list(packaged.entries)
    while len(entries) < count:
        one, number = packaged.entries[len(entries) % len(packaged.entries)], len(entries)
        scope = replace(
            one.match,
            says=tuple(f"{text} #{number}" for text in one.match.says),
            formats=tuple(f"{name}.{number}" for name in one.match.formats),
            calls=tuple(f"{name}_{number}" for name in one.match.calls),
            modules=tuple(f"{name}_{number}" for name in one.match.modules),
            causes=(),
            mends=(),
            remotes=(),
            stages=(),
        )
        entries.append(replace(one, code=f"MADE-{number}", id=f"made/{number}", match=scope))
    return replace(packaged, entries=tuple(entries))


def _sides(rounds: int, uses: Mapping[str, Callable[[], object]]) -> tuple[Side, ...]:
    return take_turns({name: partial(_timed, use) for name, use in uses.items()}, repeats=rounds, warm_up=1)


def _timed(use: Callable[[], object]) -> float:
    started = time.perf_counter()
    use()
    return 1000 * (time.perf_counter() - started)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, metavar="N", help="rounds, for a quick look")
    for result in measure(parser.parse_args(arguments).repeats):
        print(to_text(result))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
