"""What a failed cell does twice when it runs again, and what it does not keep then, in words."""

from __future__ import annotations

from nb_oomhelper.case import Case
from nb_oomhelper.knowledge.toml_tables import Language
from nb_oomhelper.records.remedy import FixPlan
from nb_oomhelper.showing.markup import code
from nb_oomhelper.showing.wording import say, say_row

_MOST = 3  # sentences


def say_repeats(case: Case, plan: FixPlan, language: Language) -> str:
    """Say what the failed cell does twice when it runs again, as it does with a fix or after it.

    Args:
        case: Knows what.
        plan: The fix; what becomes of its own subject is told by its own text.
        language: "en" or "zh".
    """
    if plan.loads or plan.applicability == "display_only":
        return ""
    about = plan.subject.split(", ")
    told = [one for one in case.repeats if not one.name or one.name not in about]
    return say_row((say(f"twice.{one.kind}", language, name=code(one.name)) for one in told[:_MOST]), language)


def say_gone(plan: FixPlan, language: Language) -> str:
    """Say which of the cell's names a fix does not keep; "" where it keeps all.

    Args:
        plan: The fix, made ready.
        language: "en" or "zh".
    """
    return say("fix.gone", language, names=code(", ".join(plan.gone))) if plan.gone else ""
