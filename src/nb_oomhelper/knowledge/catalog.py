"""Load the knowledge, check it, and choose from it.

The packaged files must be whole. Packages that are installed beside this one may bring files of the same form, and a
person may have some under ``entries/`` and ``fixes/`` of a folder of their own: one with a known id replaces the one
before it, and a broken one is left out with a line that says why. What is from outside keeps the name of its file
(`origin`), so that it is never taken for what is packaged, and a fix of it is only shown until its content is trusted.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from nb_oomhelper.errors import KnowledgeError
from nb_oomhelper.knowledge.choosing import Choice, choose
from nb_oomhelper.knowledge.entry import Entry, read_entry
from nb_oomhelper.knowledge.fix import Fix, read_fix
from nb_oomhelper.knowledge.outside import decoded, hash_of, package_folders, read_small, read_trusted
from nb_oomhelper.knowledge.packaged import add, packaged
from nb_oomhelper.records.diagnosis import Cause, Diagnosis
from nb_oomhelper.records.event import OomEvent

_Record = TypeVar("_Record", Entry, Fix)
_CODE = ("mistake", "cell", "number", "definition", "trainer", "data loader")  # subjects of fixes that change code
_SHOWN = 300  # characters of a line in `problems`, and of a name that was not found


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalog:
    """All that is known.

    Attributes:
        entries: By code.
        fixes: By order, then id.
        problems: One line for each file of the user's own that was left out, and for each reference that leads nowhere.
        replaced: One line for each packaged entry or fix in whose place the user's own stands.
    """

    entries: tuple[Entry, ...]
    fixes: tuple[Fix, ...]
    problems: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()

    def choose(
        self, event: OomEvent, diagnosis: Diagnosis | None = None, cell: str = "", mends: Iterable[str] = ()
    ) -> Choice:
        """Find the entry that is about a case, as `choosing.choose` does.

        Args:
            event: What failed.
            diagnosis: Our reading of it, or None.
            cell: Source of the failed cell, or "".
            mends: Ids of the fixes that may make the cell run, best first. Where the first, but for a release, changes
                the notebook's code, it tells what is wrong or too large there.
        """
        fixes = {fix.id: fix for fix in self.fixes if fix.subject != "none"}
        first = next((fixes[one] for one in mends if one in fixes), None)
        return choose(self.entries, event, diagnosis, cell, first if first and first.subject in _CODE else None)

    def fixes_for(self, event: OomEvent, causes: Sequence[Cause]) -> tuple[Fix, ...]:
        """Find the fixes that may help against at least one of the causes, in their own order.

        An unknown phase rules no fix out: to be offered one more is better than to miss the one that helps.

        Args:
            event: What failed.
            causes: What the diagnosis found; a fix that names no cause is against any.
        """
        kinds = {cause.kind for cause in causes}
        return tuple(fix for fix in self.fixes if (not fix.causes or kinds & set(fix.causes)) and _suits(fix, event))

    def search(self, text: str) -> tuple[Entry, ...]:
        """Find the entries that hold every word of the text, in either language; all of them for a blank one.

        Those come first whose names have all the words.
        """
        words = text.casefold().split()
        found = [entry for entry in self.entries if all(word in _haystack(entry) for word in words)]
        return tuple(sorted(found, key=lambda entry: not all(word in _names(entry) for word in words)))

    def entry(self, code_or_id: str) -> Entry:
        """Give one entry by its code or id, whatever the case.

        Raises:
            KnowledgeError: There is none; the text offers names that are near.
        """
        wanted = code_or_id.strip().casefold()
        for entry in self.entries:
            if wanted in (entry.code.casefold(), entry.id.casefold()):
                return entry
        names = {name.casefold(): name for entry in self.entries for name in (entry.code, entry.id)}
        near = difflib.get_close_matches(wanted[:_SHOWN], names, n=3, cutoff=0.4)
        hint = f"; near it: {', '.join(names[name] for name in near)}" if near else ""
        raise KnowledgeError(f"there is no entry {_one_line(code_or_id.strip())!r}{hint}")

    def fix(self, fix_id: str) -> Fix:
        """Give one fix by its id.

        Raises:
            KnowledgeError: There is none.
        """
        for fix in self.fixes:
            if fix.id == fix_id:
                return fix
        raise KnowledgeError(
            f"there is no fix {_one_line(fix_id)!r}; there are: {', '.join(fix.id for fix in self.fixes)}"
        )


def load_catalog(user_dir: Path | None = None, trusted: Path | None = None) -> Catalog:
    """Read the packaged files, those of installed packages, and those of the user's own where there are any.

    Args:
        user_dir: Folder with ``entries/*.toml`` and ``fixes/*.toml``; it need not exist. A relative path is refused:
            it would lead into the working folder, where a notebook of somebody else's may have brought its own.
        trusted: Where it is kept which contents from outside may run (`outside.trust`); None trusts none.

    Raises:
        KnowledgeError: A packaged file is missing or broken: the installation is damaged.
    """
    problems: list[str] = []
    replaced: list[str] = []
    entries: dict[str, Entry] = packaged("entries")
    fixes: dict[str, Fix] = packaged("fixes")
    hashes = _trusted(trusted, problems)
    for folder in _folders(user_dir, problems):
        amiss: list[str] = []
        _put_over(entries, _own(folder, "entries", read_entry, amiss, hashes), "entry", replaced)
        _put_over(fixes, _own(folder, "fixes", read_fix, amiss, hashes), "fix", replaced)
        problems += amiss if folder == user_dir else [f"{folder}/{problem}" for problem in amiss]
    whole = _one_per_code(entries.values(), problems)
    problems += _loose_ends(whole, tuple(fixes.values()))
    return Catalog(
        entries=tuple(sorted(whole, key=lambda entry: entry.code)),
        fixes=tuple(sorted(fixes.values(), key=lambda fix: (fix.order, fix.id))),
        problems=tuple(_one_line(problem) for problem in problems),
        replaced=tuple(_one_line(line) for line in replaced),
    )


def _folders(user_dir: Path | None, problems: list[str]) -> list[Path]:
    """The folders from outside, the user's own last: what is there stands before all else."""
    folders = package_folders(problems)
    if user_dir is not None and not user_dir.is_absolute():
        problems.append(f"knowledge_dir: {str(user_dir)!r} is refused: it must be an absolute path, or begin with ~")
        return folders
    return folders if user_dir is None else [*folders, user_dir]


def _trusted(file: Path | None, problems: list[str]) -> Collection[str]:
    try:
        return {} if file is None else read_trusted(file)
    except KnowledgeError as error:
        problems.append(str(error))
        return {}


def _put_over(records: dict[str, _Record], own: dict[str, _Record], kind: str, replaced: list[str]) -> None:
    """Add the user's own records, and note in whose place they stand."""
    replaced += [f"{kind} {records[key].id} by {one.origin}" for key, one in own.items() if key in records]
    records |= own


def _own(
    folder: Path, kind: str, read: Callable[[str], _Record], problems: list[str], trusted: Collection[str]
) -> dict[str, _Record]:
    """Read all files of one kind in a folder from outside, by id; what cannot be read goes to `problems`."""
    records: dict[str, _Record] = {}
    try:
        files = sorted(path for path in (folder / kind).iterdir() if path.name.endswith(".toml"))
    except FileNotFoundError:
        return records
    except OSError as error:
        problems.append(f"{kind}: cannot be read: {error.strerror or error}")
        return records
    for file in files:
        where = f"{kind}/{file.name}"
        try:
            data = read_small(file, where)
            add(records, where, read, decoded(data, where), file, trusted=hash_of(data) in trusted)
        except KnowledgeError as error:
            problems.append(str(error))
    return records


def _one_per_code(entries: Iterable[Entry], problems: list[str]) -> tuple[Entry, ...]:
    """Leave out entries whose code belongs to an earlier one of another id: a code must name one entry."""
    by_code: dict[str, Entry] = {}
    for entry in entries:
        first = by_code.setdefault(entry.code.casefold(), entry)
        if first is not entry:
            problems.append(f"entry {entry.id}: code: {entry.code} already belongs to {first.id}; this one is left out")
    return tuple(by_code.values())


def _loose_ends(entries: Sequence[Entry], fixes: Sequence[Fix]) -> list[str]:
    """Name the references that lead nowhere; what holds them works all the same."""
    codes, ids = {entry.code for entry in entries}, {fix.id for fix in fixes}
    lines = [
        f"entry {entry.code}: workarounds[{row}].fix: there is no fix {workaround.fix!r}"
        for entry in entries
        for row, workaround in enumerate(entry.workarounds, 1)
        if workaround.fix is not None and workaround.fix not in ids
    ]
    lines += [
        f"entry {entry.code}: there is no related entry {code!r}"
        for entry in entries
        for code in entry.related()
        if code not in codes
    ]
    return lines + [
        f"fix {fix.id}: entry: there is no entry {fix.entry!r}"
        for fix in fixes
        if fix.entry is not None and fix.entry not in codes
    ]


def _suits(fix: Fix, event: OomEvent) -> bool:
    """Say whether a fix is for events like this one, whatever their causes."""
    return (
        _allows(fix.frameworks, event.framework)
        and _allows(fix.backends, event.backend)
        and (event.remote is None or event.remote in fix.remotes)
        and (event.phase == "unknown" or _allows(fix.phases, event.phase))
        and (fix.subject != "call" or event.call is not None or event.phase == "load")
    )


def _allows(allowed: Sequence[str], value: str | None) -> bool:
    return not allowed or value in allowed


def _names(entry: Entry) -> str:
    return "\n".join((entry.code, entry.id, entry.title.en, entry.title.zh)).casefold()


def _haystack(entry: Entry) -> str:
    """All words of an entry that a search looks at, in one text."""
    texts = [entry.title, entry.root_cause]
    texts += [text for row in entry.workarounds for text in (row.text, row.when, row.today) if text]
    texts += [text for row in entry.dead_ends for text in (row.tried, row.reason, row.when) if text]
    texts += [entry.today] if entry.today else []
    words = [entry.id, entry.code, entry.signature, *(row.code for row in entry.workarounds)]
    words += [words for text in texts for words in (text.en, text.zh)]
    return "\n".join(words).casefold()


def _one_line(text: str) -> str:
    """Fold white space and cut, so that a name from outside cannot fill the screen."""
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN else f"{line[:_SHOWN]}…"
