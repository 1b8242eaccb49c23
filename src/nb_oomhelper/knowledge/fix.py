"""A remedy: its record, and how its file is read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from string import Template
from typing import Annotated, Literal, get_args

from nb_oomhelper.errors import KnowledgeError
from nb_oomhelper.knowledge.code_facts import CodeFacts, read_facts
from nb_oomhelper.knowledge.toml_tables import Blank, Key, Language, Name, Pairs, Percent, Range, Strip, Text, read
from nb_oomhelper.knowledge.versions import Spelling
from nb_oomhelper.records.diagnosis import CauseKind
from nb_oomhelper.records.event import Phase, Remote
from nb_oomhelper.records.remedy import Applicability, LoadOption
from nb_oomhelper.source.cure_kinds import CureKind

Subject = Literal[
    "none",
    "variable",
    "pretrained model",
    "model",
    "list",
    "tensor",
    "process",
    "call",
    "cell",
    "number",
    "definition",
    "trainer",
    "data loader",
    "adam",
    "allocator",
    "preallocation",
    "mistake",
    "container",
]

# What a template may ask for, by subject.
_FIELDS: dict[Subject, tuple[str, ...]] = {
    "none": (),
    "variable": ("name",),
    "pretrained model": ("name",),
    "model": ("name",),
    "list": ("name",),
    "tensor": ("name",),
    "process": ("pid",),
    "call": ("imports", "forget", "statement"),
    "cell": ("install", "cell", "block", "device"),
    "number": ("settings", "cell"),
    "trainer": ("name", "install", "half", "was", "steps", "before", "cell"),
    "data loader": ("name", "half", "was", "cell"),
    "adam": ("name", "install", "paged"),
    "allocator": ("variable", "setting"),
    "preallocation": (),
    "definition": ("definition", "cell"),
    "mistake": ("name", "definition", "clear", "cell"),
    "container": ("name", "clear"),
}
# Fields of titles and notes alone, where they are not those of the code. Of a cell, the name is what changes in it.
_TOLD: dict[Subject, tuple[str, ...]] = {
    "call": ("target", "model", "device"),
    "cell": ("name", "steps"),
    "definition": ("name", "steps"),
    "number": ("name", "steps"),
    "trainer": ("name", "steps"),
    "data loader": ("name", "steps"),
    "adam": ("name",),
    "allocator": (),
    "mistake": ("name",),
    "container": ("name",),
}
# fields of whole lines, which go where they are empty
LINES = ("imports", "forget", "install", "definition", "clear", "settings", "cell")
# Fields that are made here: the repr of another one.
LITERALS = {"name_literal": "name", "device_literal": "device", "variable_literal": "variable"}
LITERALS |= {"setting_literal": "setting", "names_literal": "name"}

_UNREAD = CodeFacts()


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A fix filled in: with these fields and installed versions (pairs of name and text) it gives this code."""

    fields: Pairs
    versions: Pairs
    code: Annotated[str, Strip("\n")]


def _is_lower(names: tuple[str, ...]) -> str | None:
    return "must be in lower case: it is met in any" if any(name != name.lower() for name in names) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """What a fix changes in the failed cell, or in a number that the cell uses.

    Attributes:
        calls: Last names of the functions whose calls it is about; empty is "any".
        shrink: Arguments, variables, keys and attributes whose whole number is made smaller; in lower case, whatever
            the case of the user's, and with `*` for anything.
        kind: What these numbers are: a "batch", a "length", the "side" of something square, or "workers".
        multiple: What the smaller number is to be a multiple of.
        accumulate: Arguments of the same call that grow as much, from 1 where they are not written.
        add: Arguments that the call gets, with their text; a call that has one of them already stays as it is.
        unless: Words of a cell that make it pointless there: names, and ".name" for attributes.
        unless_reached: Words of the code on the way to the error with which it would end in another one.
        dtypes: Kinds of numbers that it is about: pointless where the failed cell is known to keep none of them.
        package: A distribution that it needs, or "".
        mends: Mistakes in the notebook's code that it mends, by their kinds in `source.cures`.
    """

    calls: tuple[str, ...] = ()
    shrink: Annotated[tuple[str, ...], _is_lower] = ()
    kind: Literal["batch", "length", "side", "workers"] = "batch"
    multiple: Annotated[int, Range(1, 1024)] = 1
    accumulate: tuple[str, ...] = ()
    add: Pairs = ()
    unless: tuple[str, ...] = ()
    unless_reached: tuple[str, ...] = ()
    dtypes: tuple[str, ...] = ()
    package: Name = ""
    mends: tuple[CureKind, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """What a fix says in one language: template texts, as in `Fix`."""

    title: str
    note: str
    loses: Annotated[str, Blank(), Strip()]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fix:
    """One remedy.

    Attributes:
        id: Its name.
        order: Place among fixes that promise the same; the smaller comes first.
        applicability: Who may run it.
        causes, frameworks, backends, phases: What it helps against and where; empty is "any".
        remotes: Kinds of other processes whose lack of memory it helps against, beside this one's.
        asks: For "unsafe": a click asks first. False where all that it costs is that the cell, changed as can be seen
            before the click, runs again.
        guess: Nothing tells beforehand whether it helps: it stands behind what does the same with a better prospect.
        partial: What comes out is of a part only: that is no less than to delete something.
        slow: It computes where that takes far longer: it stands behind all that may help otherwise and loses as little.
        subject: What one plan of it is about.
        options: For a call: the options of its loader's row that are taken together.
        edit: For what is done to the failed cell or its numbers: what is changed in it.
        entry, claimed_rate: The entry that recommends it and the percent of successes that it claims, or both None.
        code: string.Template text: Python, or shell for "display_only".
        spelling: Fields that hang on installed versions.
        en, zh: What it says in each language.
        examples: Its tests and its documentation.
        does: What its code does, whatever its fields are filled in with.
        origin: The file from outside that it is from; None for one that is packaged.
        trusted: Whether its content may run; what is not trusted is "display_only".
    """

    id: Name
    order: Annotated[int, Range(0, 1_000_000)]
    applicability: Applicability
    causes: tuple[CauseKind, ...]
    frameworks: tuple[str, ...]
    backends: tuple[str, ...]
    phases: tuple[Phase, ...]
    remotes: tuple[Remote, ...]
    asks: bool = True
    guess: bool = False
    partial: bool = False
    slow: bool = False
    subject: Subject
    options: tuple[LoadOption, ...]
    edit: Edit = Edit()
    entry: Name | None
    claimed_rate: Percent | None
    code: Annotated[str, Strip("\n")]
    spelling: tuple[Spelling, ...]
    en: Words
    zh: Words
    examples: Annotated[tuple[Example, ...], Key("example")]
    does: Annotated[CodeFacts, Key(None)] = _UNREAD
    origin: Annotated[Path | None, Key(None)] = None
    trusted: Annotated[bool, Key(None)] = True

    @property
    def title(self) -> Text:
        """What it is called: a template text."""
        return Text(en=self.en.title, zh=self.zh.title)

    @property
    def note(self) -> Text:
        """What one ought to know: a template text."""
        return Text(en=self.en.note, zh=self.zh.note)

    @property
    def loses(self) -> Text:
        """What is lost, "" where nothing is: a template text."""
        return Text(en=self.en.loses, zh=self.zh.loses)

    @property
    def needs(self) -> frozenset[str]:
        """Names of the fields that must be given to fill in the code; those with a spelling fill themselves in."""
        return frozenset(LITERALS.get(name, name) for name in fields_of_code(self) if name not in LINES)


def read_fix(text: str) -> Fix:
    """Read a fix file.

    Raises:
        KnowledgeError: It is broken or incomplete; the text names the key.
    """
    try:
        fix = read(Fix, text)
        _check_keys(fix)
        _check_loses(fix)
        _check_templates(fix)
    except ValueError as error:
        raise KnowledgeError(str(error)) from error
    return replace(fix, does=read_facts(fix.code))


def _check_keys(fix: Fix) -> None:
    """What needs one key beside another."""
    if (fix.entry is None) != (fix.claimed_rate is None):
        raise ValueError(f"{'entry' if fix.entry is None else 'claimed_rate'}: is missing")
    if fix.edit.add and not fix.edit.calls:
        raise ValueError("edit.calls: must name what gets the arguments")


def _check_loses(fix: Fix) -> None:
    """A fix that needs a yes must say, in both languages, what the yes costs."""
    for language in get_args(Language):
        loses = fix.loses.get(language)
        if fix.applicability == "unsafe" and not loses:
            raise ValueError(f"{language}.loses: must say what is lost, because applicability is unsafe")
        if fix.applicability == "safe" and loses:
            raise ValueError(f"{language}.loses: must be empty, because applicability is safe")
    if not fix.asks and fix.edit == Edit():
        raise ValueError("asks: is about fixes that change the failed cell")


def _check_templates(fix: Fix) -> None:
    """Every field in code and texts must be one that the subject gives or that is spelled."""
    if (fix.subject == "call") != bool(fix.options):
        raise ValueError("options: a fix about a call names some, and no other does")
    given = set(_FIELDS[fix.subject])
    literals = {name for name, base in LITERALS.items() if base in given}
    spelled = {row.field for row in fix.spelling}
    if len(spelled) < len(fix.spelling):
        raise ValueError("spelling: two rows have the same field")
    if clash := spelled & (given | set(LITERALS)):
        raise ValueError(f"spelling: {min(clash)} already has a meaning")
    if unused := spelled - set(_identifiers("code", fix.code)):
        raise ValueError(f"spelling: code does not use ${min(unused)}")
    allowed = {"code": given | literals | spelled}
    texts = {"code": fix.code}
    for language in get_args(Language):
        words = {"title": fix.title, "note": fix.note, "loses": fix.loses}
        texts |= {f"{language}.{key}": text.get(language) for key, text in words.items()}
    for key, text in texts.items():
        for name in _identifiers(key, text):
            if name not in allowed.get(key, set(_TOLD.get(fix.subject, given))):
                raise ValueError(f"{key}: uses ${name}, which a fix about {fix.subject!r} does not have")


def _identifiers(key: str, text: str) -> list[str]:
    template = Template(text)
    if not template.is_valid():
        raise ValueError(f"{key}: holds a $ that starts no field; write $$ for a dollar sign")
    return template.get_identifiers()


def fields_of_code(fix: Fix) -> list[str]:
    """Fields of the code that do not hang on versions."""
    spelled = {row.field for row in fix.spelling}
    return [name for name in Template(fix.code).get_identifiers() if name not in spelled]
