"""A JSON Schema of a record, made of the same type hints that `toml_tables` reads files by."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import date
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from nb_oomhelper.knowledge.toml_tables import Blank, Key, Range

_DRAFT = "https://json-schema.org/draft/2020-12/schema"
_PLAIN: Mapping[Any, dict[str, Any]] = {
    str: {"type": "string"},
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    date: {"type": "string", "format": "date"},
}


def schema_of(record: Any, title: str) -> dict[str, Any]:
    """Describe the JSON of a record.

    Args:
        record: A dataclass, as `toml_tables.read` takes it.
        title: What it is.
    """
    return {"$schema": _DRAFT, "title": title, **_record(record)}


def _record(record: Any) -> dict[str, Any]:
    hints = get_type_hints(record, include_extras=True)
    properties, required = {}, []
    for field in dataclasses.fields(record):
        hint = hints[field.name]
        key = next((mark.name for mark in _marks(hint) if isinstance(mark, Key)), field.name)
        if key is None:
            continue
        properties[key] = _value(hint)
        if field.default is dataclasses.MISSING and not _may_be_absent(hint):
            required.append(key)
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _value(hint: Any) -> dict[str, Any]:
    kind, marks = _bare(hint), _marks(hint)
    if NoneType in get_args(kind):
        return _value(get_args(kind)[0])
    if get_origin(kind) is tuple:
        return {"type": "array", "items": _value(get_args(kind)[0])}
    if get_origin(kind) is Literal:
        return {"enum": [*get_args(kind)]}
    if dataclasses.is_dataclass(kind):
        return _record(kind)
    found = dict(_PLAIN[kind])
    for mark in marks:
        if isinstance(mark, Range):
            found |= {"minimum": mark.low, "maximum": mark.high}
    if kind is str and not any(isinstance(mark, Blank) for mark in marks):
        found["minLength"] = 1
    return found


def _marks(hint: Any) -> tuple[Any, ...]:
    return hint.__metadata__ if get_origin(hint) is Annotated else ()


def _bare(hint: Any) -> Any:
    return hint.__origin__ if get_origin(hint) is Annotated else hint


def _may_be_absent(hint: Any) -> bool:
    kind = _bare(hint)
    return get_origin(kind) in (tuple, frozenset) or NoneType in get_args(kind)
