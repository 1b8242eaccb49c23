"""Is the right entry chosen? A confusion table over the entries' own examples and over cases that no entry was made by.

    python -m benchmarks.choice [--corpus FILE.jsonl]

A case is what the panel has when it chooses: the message, what the traceback told, what the diagnosis found, the cell.
No kernel runs. `choice_cases.toml` has the cases, each with the code of the right entry, or "" where none is; those
named after a notebook of the advice suite are what that notebook's kernel told when it was run.

A corpus is error texts, one JSON object a line: kind ("oom", "host_oom", "not_oom"), exc_type, exc_module, message,
phase, cause. Nothing is diagnosed there, so all that is counted is what was chosen, and whether a text that is about no
lack of memory was given an entry.
"""

from __future__ import annotations

import argparse
import json
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nb_oomhelper.failure.detection import detect_text
from nb_oomhelper.knowledge.catalog import Catalog, load_catalog
from nb_oomhelper.knowledge.choosing import Choice
from nb_oomhelper.records.diagnosis import Cause, Diagnosis
from nb_oomhelper.records.event import FailedCall, OomEvent

CASES = Path(__file__).with_name("choice_cases.toml")
_NEED = 1 << 30  # bytes that are missing; each cause of a case is as large
_NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """A case, and the code of the right entry; "" where none is right."""

    name: str
    expected: str
    type: str
    text: str
    phase: Any = "unknown"
    stage: Any = ""
    remote: Any = None
    module: str | None = None
    cell: str = ""
    causes: tuple[Any, ...] = ()
    mends: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What was chosen for a case.

    Attributes:
        situation: The case.
        chosen: Code of the first entry, or "".
        sure: Whether it was called the match.
    """

    situation: Situation
    chosen: str
    sure: bool

    @property
    def right(self) -> bool:
        """Whether the right entry came first, or none where none is right."""
        return self.chosen == self.situation.expected

    @property
    def wrong_match(self) -> bool:
        """Whether another entry was called the match: the worst that can happen."""
        return self.sure and not self.right


def situations(catalog: Catalog) -> Iterator[Situation]:
    """All cases: the examples that an entry is about, and those of `CASES`."""
    for entry in catalog.entries:
        for number, one in enumerate(entry.examples):
            if one.match:
                yield Situation(
                    name=f"{entry.code} example {number}",
                    expected=entry.code,
                    type=one.type,
                    text=one.text,
                    phase=one.phase,
                    stage=one.stage,
                    remote=one.remote,
                    module=one.module,
                    cell=one.cell,
                    causes=one.causes,
                    mends=one.mends,
                )
    for row in tomllib.loads(CASES.read_text("utf-8"))["case"]:
        yield Situation(**(row | {"causes": tuple(row.get("causes", ()))}))


def choose(catalog: Catalog, situation: Situation) -> Choice:
    """Choose as the panel does, from what a case tells."""
    event = detect_text(situation.text, situation.type)
    if event is None:  # a message that no detector knows yet: the text is all there is
        event = OomEvent(
            framework="", backend="", exception_type=situation.type, message=situation.text, format="unread"
        )
    call = FailedCall(loader="load", module=situation.module) if situation.module else None
    event = replace(event, phase=situation.phase, stage=situation.stage, remote=situation.remote, call=call)
    causes = tuple(Cause(kind=kind, size=_NEED) for kind in situation.causes)
    diagnosis = Diagnosis(requested=_NEED, free=0, capacity=None, short=_NEED, causes=causes)
    return catalog.choose(event, diagnosis, situation.cell, [situation.mends] if situation.mends else ())


def judge(catalog: Catalog, cases: Iterable[Situation]) -> list[Verdict]:
    """Choose for all cases."""
    verdicts = []
    for one in cases:
        best = choose(catalog, one).best
        verdicts.append(
            Verdict(
                situation=one,
                chosen=best.entry.code if best else "",
                sure=best is not None and best.relation == "match",
            )
        )
    return verdicts


def to_text(verdicts: Sequence[Verdict]) -> str:
    """The share of right choices, and each pair of right and chosen that differ."""
    right = sum(one.right for one in verdicts)
    wrong = Counter(
        (one.situation.expected or _NONE, one.chosen or _NONE, one.sure) for one in verdicts if not one.right
    )
    lines = [
        f"{len(verdicts)} cases, {len({one.situation.expected for one in verdicts})} right answers",
        f"right entry first: {right} ({100 * right / len(verdicts):.1f} %); goal: at least 98 %",
        f"wrong match: {sum(one.wrong_match for one in verdicts)}; goal: 0",
        f"called the match: {sum(one.sure for one in verdicts)}",
        f"see also: {sum(bool(one.chosen) and not one.sure for one in verdicts)}",
        f"none: {sum(not one.chosen for one in verdicts)}",
    ]
    lines += ["", f"{'right':<14}{'chosen':<14}{'as':<10}cases"] * bool(wrong)
    for (expected, chosen, sure), count in sorted(wrong.items()):
        lines.append(f"{expected:<14}{chosen:<14}{'match' if sure else 'see also':<10}{count}")
    return "\n".join(lines)


def read_corpus(catalog: Catalog, path: Path) -> str:
    """What is chosen for the texts of a corpus, by their kind."""
    counts: Counter[tuple[str, str]] = Counter()
    for line in path.read_text("utf-8").splitlines():
        row = json.loads(line)
        name = ".".join(part for part in (row.get("exc_module"), row.get("exc_type")) if part)
        event = detect_text(row["message"], name.removeprefix("builtins."))
        if event is None:
            counts[row["kind"], "not read"] += 1
            continue
        phase = row.get("phase")
        event = replace(event, phase=phase if phase in ("load", "train", "infer") else "unknown")
        best = catalog.choose(event).best
        counts[row["kind"], f"{best.relation} {best.entry.code}" if best else _NONE] += 1
    rows = [f"{kind:<10}{chosen:<24}{count}" for (kind, chosen), count in sorted(counts.items())]
    return "\n".join([f"{path.name}: {sum(counts.values())} texts", *rows])


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; 1 where a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, action="append", default=[])
    options = parser.parse_args(arguments)
    catalog = load_catalog()
    verdicts = judge(catalog, situations(catalog))
    print(to_text(verdicts))
    for path in options.corpus:
        print(f"\n{read_corpus(catalog, path)}")
    met = all(not one.wrong_match for one in verdicts) and sum(one.right for one in verdicts) >= 0.98 * len(verdicts)
    return 0 if met else 1


if __name__ == "__main__":
    raise SystemExit(main())
