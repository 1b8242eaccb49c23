"""The exceptions behind an exception: causes, contexts and members of groups."""

from __future__ import annotations

from nb_oomhelper.introspection import cause_of, context_of, members_of

_EXCEPTIONS = 200


def raised_with(error: BaseException) -> list[tuple[BaseException, int]]:
    """Follow causes, contexts and groups, also those that `raise … from None` hides from the user.

    Returns:
        Each exception once, with the place in this list of the one that led to it (-1 for the first);
        outermost first, at most 200. Drop it soon: it keeps the exceptions.
    """
    found: list[tuple[BaseException, int]] = [(error, -1)]
    seen = {id(error)}
    for place, (outer, _) in enumerate(found):  # grows as it goes
        for inner in _inner(outer):
            if id(inner) not in seen and len(found) < _EXCEPTIONS:
                seen.add(id(inner))
                found.append((inner, place))
    return found


def _inner(error: BaseException) -> list[BaseException]:
    members = members_of(error) if issubclass(type(error), BaseExceptionGroup) else ()
    return [one for one in (cause_of(error), context_of(error), *members) if one is not None]
