"""The calls that load models, and which of their arguments make a load smaller: the rows of `loaders.toml`.

A row is data: how the call is known again in a traceback, which argument names the model, and for each way of loading
it with less memory (an option) the arguments to set. `failed_call` finds the user's call by it, and `rewrite` writes
it anew.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import resources
from string import Template
from types import CodeType
from typing import get_args

from nb_oomhelper.errors import KnowledgeError
from nb_oomhelper.knowledge.toml_tables import Table, parse
from nb_oomhelper.knowledge.versions import Spelling, installed_version, read_spelling, release_of, spelled
from nb_oomhelper.records.remedy import LoadOption

# What a value may ask for: texts that whoever plans a load fills in, and texts that are made from those.
FIELDS = ("half", "device", "max_memory", "folder", "context")
_MADE = {"half_name": "half"}  # "torch.float16" without its module, for those who take a name
_REQUIREMENT = re.compile(r"([A-Za-z0-9_.-]+)(?:>=(\d+(?:\.\d+)*))?")
_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)?", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where an argument may stand without its name.

    Attributes:
        name: The argument.
        at: Its place among the positional arguments, from 0.
        like: What its source text looks like, a regular expression; "" where that place is its alone.
    """

    name: str
    at: int
    like: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One way to make the same call so that it needs less memory on the device, or another device's.

    Attributes:
        id: Which way.
        set: Pairs of argument and value, template texts; "model_kwargs.dtype" is an entry of a dict argument.
        remove: Arguments that must not stay beside those.
        unchain: Methods that must not follow the call: a model that is spread cannot be moved.
        before: Template text that goes between the call's object and its method.
        imports: Statements that the new text needs.
        needs: Distributions that must be installed, "name" or "name>=1.2".
    """

    id: LoadOption
    set: tuple[tuple[str, str], ...]
    remove: tuple[str, ...]
    unchain: tuple[str, ...]
    before: str
    imports: tuple[str, ...]
    needs: tuple[str, ...]

    @property
    def fields(self) -> frozenset[str]:
        """Names of the fields that must be given to write the call with this option."""
        texts = [self.before, *(text for pair in self.set for text in pair)]
        names = {name for text in texts for name in Template(text).get_identifiers()}
        return frozenset(_MADE.get(name, name) for name in names if name in FIELDS or name in _MADE)

    @property
    def is_empty(self) -> bool:
        """Whether the call stays as it is."""
        return not (self.set or self.remove or self.unchain or self.before)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoaderExample:
    """A statement, an option with its fields, installed versions, and the statement that comes of it."""

    option: LoadOption
    fields: tuple[tuple[str, str], ...]
    versions: tuple[tuple[str, str], ...]
    before: str
    after: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Loader:
    """One call that loads models.

    Attributes:
        id: Its name.
        calls: Last parts of the name that the user's code calls.
        modules: Where the functions are: modules, each with all below it; empty is "any".
        functions: Names that show in the traceback: of a function, or qualified ("Module.to").
        in_place: The call changes the object that it is called on; its result is that object.
        keyword, position: The argument that names the model; None where none does.
        places: Arguments that may stand without their names.
        same: Groups of argument names of one meaning: what is written under one of them is changed there.
        spelling: Fields that hang on installed versions.
        options: Ways to load with less, in the file's order.
        source: Where these facts were read, with the version.
        examples: Its tests and its documentation.
    """

    id: str
    calls: tuple[str, ...]
    modules: tuple[str, ...]
    functions: tuple[str, ...]
    in_place: bool
    keyword: str | None
    position: int | None
    places: tuple[Place, ...]
    same: tuple[tuple[str, ...], ...]
    spelling: tuple[Spelling, ...]
    options: tuple[Option, ...]
    source: str
    examples: tuple[LoaderExample, ...]

    def option(self, option_id: str) -> Option | None:
        """Give one option, or None where this call does not have it."""
        return next((option for option in self.options if option.id == option_id), None)

    def is_of(self, module: str) -> bool:
        """Say whether a module is one of its own."""
        return any(module == one or module.startswith(f"{one}.") for one in self.modules)

    def ran(self, module: str, code: CodeType) -> bool:
        """Say whether a function of a traceback is this loader's."""
        inside = not self.modules or self.is_of(module)
        return inside and (code.co_name in self.functions or code.co_qualname in self.functions)


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaders:
    """All rows.

    Attributes:
        rows: In the file's order; of two that fit one call the earlier one counts.
        keeps: Methods of a model that give the model itself back.
    """

    rows: tuple[Loader, ...]
    keeps: frozenset[str]

    def row(self, loader_id: str) -> Loader | None:
        """Give one row by its id, or None."""
        return next((row for row in self.rows if row.id == loader_id), None)


@functools.cache
def load_rows() -> Loaders:
    """Read the packaged rows, once.

    Raises:
        KnowledgeError: The file is missing or broken: the installation is damaged.
    """
    file = resources.files("nb_oomhelper.loading").joinpath("loaders.toml")
    try:
        return read_rows(file.read_text("utf-8"))
    except (OSError, KnowledgeError) as error:
        raise KnowledgeError(f"loaders.toml: {error}") from error


def read_rows(text: str) -> Loaders:
    """Read the file's text.

    Raises:
        KnowledgeError: It is broken or incomplete; the text names the row and the key.
    """
    try:
        table = parse(text)
        rows = tuple(_row(row) for row in table.rows("loader"))
        loaders = Loaders(rows=rows, keeps=frozenset(table.texts("keeps")))
        table.end()
        if len({row.id for row in rows}) < len(rows):
            raise ValueError("loader: two rows have the same id")
    except ValueError as error:
        raise KnowledgeError(str(error)) from error
    return loaders


def spell(row: Loader, text: str, fields: Mapping[str, str], versions: Callable[[str], str | None]) -> str:
    """Fill in a template text of a row."""
    values = {**fields, **{name: fields[base].rpartition(".")[2] for name, base in _MADE.items() if base in fields}}
    values |= {one.field: spelled(one, versions(one.package)) for one in row.spelling}
    return Template(text).substitute(values)


def missing(option: Option, versions: Callable[[str], str | None] = installed_version) -> tuple[str, ...]:
    """Name the distributions that an option needs and that are not installed, or are too old."""
    return tuple(need for need in option.needs if not _fulfilled(need, versions))


def _fulfilled(need: str, versions: Callable[[str], str | None]) -> bool:
    name, _, least = need.partition(">=")
    have = versions(name)
    return have is not None and (not least or (release_of(have) or ()) >= (release_of(least) or ()))


def _row(table: Table) -> Loader:
    """Read one row; its errors name it."""
    name = table.name("id")
    try:
        row = _loader(table, name)
        table.end()
        _check(row)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    return row


def _loader(table: Table, name: str) -> Loader:
    return Loader(
        id=name,
        calls=table.texts("calls"),
        modules=table.texts("modules"),
        functions=table.texts("functions"),
        in_place=table.has("in_place") and table.flag("in_place"),
        keyword=table.name("keyword") if table.has("keyword") else None,
        position=table.number("position", 0, 20) if table.has("position") else None,
        places=tuple(_place(row) for row in table.rows("place")),
        same=tuple(tuple(names.split()) for names in table.texts("same")),
        spelling=tuple(read_spelling(row) for row in table.rows("spelling")),
        options=tuple(_option(row) for row in table.rows("option")),
        source=table.text("source"),
        examples=tuple(_example(row) for row in table.rows("example")),
    )


def _place(table: Table) -> Place:
    like = table.text("like") if table.has("like") else ""
    place = Place(name=table.name("name"), at=table.number("at", 0, 20), like=like)
    table.end()
    try:
        re.compile(place.like)
    except re.error as error:
        raise table.wrong("like", f"is no regular expression: {error}") from error
    return place


def _option(table: Table) -> Option:
    option = Option(
        id=table.choice("id", get_args(LoadOption)),
        set=table.table("set").pairs() if table.has("set") else (),
        remove=table.texts("remove"),
        unchain=table.texts("unchain"),
        before=table.text("before") if table.has("before") else "",
        imports=table.texts("imports"),
        needs=table.texts("needs"),
    )
    table.end()
    for need in option.needs:
        if not _REQUIREMENT.fullmatch(need):
            raise table.wrong("needs", f'must be like "name" or "name>=1.2", not {need!r}')
    return option


def _example(table: Table) -> LoaderExample:
    example = LoaderExample(
        option=table.choice("option", get_args(LoadOption)),
        fields=table.table("fields").pairs() if table.has("fields") else (),
        versions=table.table("versions").pairs() if table.has("versions") else (),
        before=table.text("before").strip("\n"),
        after=table.text("after").strip("\n"),
    )
    table.end()
    return example


def _check(row: Loader) -> None:
    """What holds between the keys of a row."""
    for key, names in (("calls", row.calls), ("functions", row.functions)):
        if not names:
            raise ValueError(f"{key}: must name at least one")
    if (row.keyword is None) != (row.position is None) and row.position is not None:
        raise ValueError("position: needs a keyword")
    ids = [option.id for option in row.options]
    if len(set(ids)) < len(ids):
        raise ValueError("option: two have the same id")
    if unknown := [example.option for example in row.examples if example.option not in ids]:
        raise ValueError(f"example: there is no option {unknown[0]}")
    shown = {example.option for example in row.examples}
    if bare := [option.id for option in row.options if option.id not in shown and not option.is_empty]:
        raise ValueError(f"option {bare[0]}: has no example")
    _check_templates(row)


def _check_templates(row: Loader) -> None:
    """Every field must be one that is filled in or spelled, and every argument a name, or a name in a dict's."""
    spelled = {one.field for one in row.spelling}
    if clash := spelled & {*FIELDS, *_MADE}:
        raise ValueError(f"spelling: {min(clash)} already has a meaning")
    for option in row.options:
        for text in (option.before, *(text for pair in option.set for text in pair)):
            template = Template(text)
            if not template.is_valid():
                raise ValueError(f"option {option.id}: {text!r} holds a $ that starts no field")
            if strange := set(template.get_identifiers()) - {*FIELDS, *_MADE, *spelled}:
                raise ValueError(f"option {option.id}: there is no field ${min(strange)}")
        for name, _ in option.set:
            if not _NAME.fullmatch(Template(name).safe_substitute(dict.fromkeys(spelled, "x"))):
                raise ValueError(f"option {option.id}: {name!r} is no name of an argument")
