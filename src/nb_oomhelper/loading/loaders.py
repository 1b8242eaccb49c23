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
from typing import Annotated

from nb_oomhelper.errors import KnowledgeError
from nb_oomhelper.knowledge.toml_tables import Key, Name, Pairs, Range, Strip, read
from nb_oomhelper.knowledge.versions import Spelling, installed_version, release_of, spelled
from nb_oomhelper.records.remedy import LoadOption

# What a value may ask for: texts that whoever plans a load fills in, and texts that are made from those.
FIELDS = ("half", "device", "max_memory", "folder", "context")
_MADE = {"half_name": "half"}  # "torch.float16" without its module, for those who take a name
_REQUIREMENT = re.compile(r"([A-Za-z0-9_.-]+)(?:>=(\d+(?:\.\d+)*))?")
_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)?", re.ASCII)


def _is_pattern(text: str) -> str | None:
    try:
        re.compile(text)
    except re.error as error:
        return f"is no regular expression: {error}"
    return None


def _are_requirements(needs: tuple[str, ...]) -> str | None:
    wrong = [need for need in needs if not _REQUIREMENT.fullmatch(need)]
    return f'must be like "name" or "name>=1.2", not {wrong[0]!r}' if wrong else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where an argument may stand without its name.

    Attributes:
        name: The argument.
        at: Its place among the positional arguments, from 0.
        like: What its source text looks like, a regular expression; "" where that place is its alone.
    """

    name: Name
    at: Annotated[int, Range(0, 20)]
    like: Annotated[str, _is_pattern] = ""


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
    set: Pairs
    remove: tuple[str, ...]
    unchain: tuple[str, ...]
    before: str = ""
    imports: tuple[str, ...]
    needs: Annotated[tuple[str, ...], _are_requirements]

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
    fields: Pairs
    versions: Pairs
    before: Annotated[str, Strip("\n")]
    after: Annotated[str, Strip("\n")]


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

    id: Name
    calls: tuple[str, ...]
    modules: tuple[str, ...]
    functions: tuple[str, ...]
    in_place: bool = False
    keyword: Name | None
    position: Annotated[int, Range(0, 20)] | None
    places: Annotated[tuple[Place, ...], Key("place")]
    same: tuple[tuple[str, ...], ...]
    spelling: tuple[Spelling, ...]
    options: Annotated[tuple[Option, ...], Key("option")]
    source: str
    examples: Annotated[tuple[LoaderExample, ...], Key("example")]

    def option(self, option_id: str) -> Option | None:
        """Give one option, or None where this call does not have it."""
        return next((option for option in self.options if option.id == option_id), None)

    def is_of(self, module: str) -> bool:
        """Say whether a module is one of its own."""
        return any(module == one or module.startswith(f"{one}.") for one in self.modules)

    def ran(self, module: str, code: CodeType) -> bool:
        """Say whether a function of a traceback is this loader's.

        Args:
            module: The ``__name__`` of the frame's globals.
            code: The frame's code.
        """
        inside = not self.modules or self.is_of(module)
        return inside and (code.co_name in self.functions or code.co_qualname in self.functions)


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaders:
    """All rows.

    Attributes:
        rows: In the file's order; of two that fit one call the earlier one counts.
        keeps: Methods of a model that give the model itself back.
    """

    rows: Annotated[tuple[Loader, ...], Key("loader")]
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
        loaders = read(Loaders, text)
        for row in loaders.rows:
            try:
                _check(row)
            except ValueError as error:
                raise ValueError(f"{row.id}: {error}") from error
        if len({row.id for row in loaders.rows}) < len(loaders.rows):
            raise ValueError("loader: two rows have the same id")
    except ValueError as error:
        raise KnowledgeError(str(error)) from error
    return loaders


def spell(row: Loader, text: str, fields: Mapping[str, str], versions: Callable[[str], str | None]) -> str:
    """Fill in a template text of a row.

    Args:
        row: The loader, whose spellings hang on installed versions.
        text: Its template text.
        fields: Text by field name, of those in `FIELDS` that the text asks for.
        versions: Gives a package's installed version, or None.
    """
    values = {**fields, **{name: fields[base].rpartition(".")[2] for name, base in _MADE.items() if base in fields}}
    values |= {one.field: spelled(one, versions(one.package)) for one in row.spelling}
    return Template(text).substitute(values)


def missing(option: Option, versions: Callable[[str], str | None] = installed_version) -> tuple[str, ...]:
    """Name the distributions that an option needs and that are not installed, or are too old.

    Args:
        option: The option.
        versions: Gives a package's installed version, or None.
    """
    return tuple(need for need in option.needs if not _fulfilled(need, versions))


def _fulfilled(need: str, versions: Callable[[str], str | None]) -> bool:
    name, _, least = need.partition(">=")
    have = versions(name)
    return have is not None and (not least or (release_of(have) or ()) >= (release_of(least) or ()))


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
