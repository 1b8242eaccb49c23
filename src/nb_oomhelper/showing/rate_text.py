"""What is claimed of a fix and what was measured, in one line."""

from __future__ import annotations

from collections.abc import Mapping

from nb_oomhelper.knowledge.catalog import Catalog
from nb_oomhelper.knowledge.choosing import Match
from nb_oomhelper.knowledge.toml_tables import Language
from nb_oomhelper.remedies.suite_rates import advice_rate
from nb_oomhelper.showing.markup import plain
from nb_oomhelper.showing.wording import say


def said_rates(
    fix: str,
    catalog: Catalog,
    rates: Mapping[str, tuple[int, int]],
    language: Language,
    match: Match | None = None,
    *,
    ours: bool = True,
) -> str:
    """Say what is claimed of a fix and what was measured, side by side and never mixed.

    A claim is about one problem: it is said where the entry that matches recommends this very fix, and nowhere else.

    Args:
        fix: Its id.
        catalog: The knowledge.
        rates: By fix, (n, m): the failed cell ran after n of m outcomes here.
        language: "en" or "zh".
        match: The entry that bears on the case, or None.
        ours: Also what was measured in our tests: where the fix is not enough, that is about other cells.

    Returns:
        "" where there is neither.
    """
    parts = []
    claimed = _claimed(fix, catalog, match)
    if claimed is not None and match is not None:
        parts.append(say("fix.claimed", language, rate=claimed, entry=plain(match.entry.code)))
    packaged = catalog.fix(fix).origin is None  # and not another of that name
    if ours and packaged and (suite := advice_rate(fix)) is not None:
        good, total, version, date = suite
        parts.append(say("fix.suite", language, good=good, total=total, version=version, date=date))
    if fix in rates:
        parts.append(say("fix.measured", language, good=rates[fix][0], total=rates[fix][1]))
    return " · ".join(parts)


def _claimed(fix: str, catalog: Catalog, match: Match | None) -> int | None:
    if match is None or match.relation != "match" or catalog.fix(fix).origin != match.entry.origin:
        return None
    return next((row.rate for row in match.entry.workarounds if row.fix == fix), None)
