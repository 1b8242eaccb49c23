"""`%oom stats`: what is claimed of each fix, and how often it has helped in the suites and here."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from nb_oomhelper.knowledge.catalog import Catalog
from nb_oomhelper.knowledge.toml_tables import Language
from nb_oomhelper.remedies.suite_rates import suite_runs, wilson
from nb_oomhelper.showing.wording import say

Rates = Mapping[str, tuple[int, int]]
_FORMAT = 1


def table(catalog: Catalog, here: Rates, language: Language) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Draw up the table: one row a fix of which anything is claimed or was measured.

    Args:
        catalog: The knowledge, which has the claims.
        here: By fix, (n, m): the failed cell ran after n of m outcomes here.
        language: "en" or "zh".

    Returns:
        Columns and rows, for `grid`.
    """
    suites = [(run, say(f"stats.{run.suite}", language, memory=_memory(run.memory, language))) for run in suite_runs()]
    columns = (say("stats.fix", language), say("stats.claimed", language), *(name for _, name in suites))
    rows = [
        (
            fix,
            ", ".join(f"{rate} % ({code})" for code, rate in _claims(fix, catalog)) or "–",
            *(_rate(run.rates.get(fix), language) for run, _ in suites),
            _rate(here.get(fix), language),
        )
        for fix in _fixes(catalog, here)
    ]
    return (*columns, say("stats.here", language)), rows


def below(language: Language) -> list[str]:
    """Say after the table what its figures are, and which runs of the suites they come from.

    Args:
        language: "en" or "zh".
    """
    runs = (
        say("stats.run", language, name=say(f"stats.{run.suite}", language, memory=_memory(run.memory, language)),
            version=run.version, date=run.date)
        for run in suite_runs()
    )  # fmt: skip
    return [say("stats.how", language), *runs]


def to_json(catalog: Catalog, here: Rates) -> str:
    """Write the same for programs.

    Args:
        catalog: The knowledge.
        here: As `table` takes it.
    """
    rows = [
        {
            "fix": fix,
            "claimed": [{"entry": code, "rate": rate / 100} for code, rate in _claims(fix, catalog)],
            "suites": [
                {"suite": run.suite, "memory": run.memory, "version": run.version, "date": run.date}
                | _figures(run.rates[fix])
                for run in suite_runs()
                if fix in run.rates
            ],
            "here": _figures(here[fix]) if fix in here else None,
        }
        for fix in _fixes(catalog, here)
    ]
    return json.dumps({"format": _FORMAT, "fixes": rows}, indent=2, ensure_ascii=False)


def _fixes(catalog: Catalog, here: Rates) -> list[str]:
    """Fixes of which there is anything to say: in the knowledge's order, then those that it no longer has."""
    measured = {fix for run in suite_runs() for fix in run.rates} | here.keys()
    known = [fix.id for fix in catalog.fixes]
    told = [fix for fix in known if fix in measured or any(_claims(fix, catalog))]
    return told + sorted(here.keys() - set(known))


def _claims(fix: str, catalog: Catalog) -> Iterator[tuple[str, int]]:
    for entry in catalog.entries:
        yield from ((entry.code, row.rate) for row in entry.workarounds if row.fix == fix and row.rate is not None)


def _rate(found: tuple[int, int] | None, language: Language) -> str:
    if found is None:
        return "–"
    low, high = (round(100 * end) for end in wilson(*found))
    return say("stats.rate", language, good=found[0], total=found[1], low=low, high=high)


def _figures(found: tuple[int, int]) -> dict[str, Any]:
    low, high = wilson(*found)
    return {"ran": found[0], "n": found[1], "low": round(low, 4), "high": round(high, 4)}


def _memory(memory: str, language: Language) -> str:
    return say(f"stats.{memory}", language)
