"""Defaults, then a YAML file, then ``--set key=value``; every fault named."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from mammoscope.errors import ConfigError

__all__ = [
    "Frozen",
    "load_settings",
    "number_or_as_it_is",
    "override",
    "read_yaml",
    "validated",
]

Model = TypeVar("Model", bound=BaseModel)


class Frozen(BaseModel):
    """Base of every configuration: it does not change, and knows no other keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def load_settings(
    model: type[Model], path: Path | None = None, overrides: Iterable[str] = ()
) -> Model:
    """Resolve a configuration: defaults, then a YAML file, then overrides.

    Args:
        model: What is configured, such as :class:`Config` or :class:`IngestConfig`.
        path: A YAML file with any of the sections of the model.
        overrides: Items such as ``train.lr=3e-4``; the value is read as YAML.

    Raises:
        ConfigError: If the file cannot be read, or a key or value is not accepted.
    """
    values = read_yaml(path) if path is not None else {}
    for item in overrides:
        override(values, item)
    return validated(model, values)


def override(values: dict[str, Any], item: str) -> None:
    """Set one value of a nested mapping from an item such as ``train.lr=3e-4``.

    Raises:
        ConfigError: If it is not of that form, or goes through a value.
    """
    key, separator, text = item.partition("=")
    if not separator or not key.strip():
        raise ConfigError(f"--set {item!r} is not of the form key=value")
    _assign(values, key.strip().split("."), _parse_value(text), item)


def validated(model: type[Model], values: Any, where: str = "") -> Model:
    """Build a configuration model, turning every fault into one :class:`ConfigError`.

    Args:
        model: The pydantic model.
        values: What was read.
        where: Where the values come from, for the message.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        lines = [_sentence(model, dict(item)) for item in error.errors()]
        prefix = f"{where}: " if where else ""
        raise ConfigError(prefix + "; ".join(lines)) from error


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file of sections.

    Raises:
        ConfigError: If it cannot be read, or is no mapping.
    """
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror or error}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid YAML: {error}") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path} holds a {type(values).__name__}, not a mapping of sections")
    return values


def _parse_value(text: str) -> Any:
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return text
    return number_or_as_it_is(value)


def number_or_as_it_is(value: Any) -> Any:
    """Return a number for a string that is one: YAML 1.1 reads 3e-4 as a string."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _assign(values: dict[str, Any], keys: list[str], value: Any, override: str) -> None:
    target = values
    for key in keys[:-1]:
        target = target.setdefault(key, {})
        if not isinstance(target, dict):
            raise ConfigError(f"--set {override!r}: {key} is a value, not a section")
    target[keys[-1]] = value


def _sentence(model: type[BaseModel], error: dict[str, Any]) -> str:
    # pydantic marks a wrong name of a table, rather than a wrong value, with a part of its own.
    location = [str(part) for part in error["loc"] if part != "[key]"]
    key = ".".join(location) or "(root)"
    if error["type"] == "extra_forbidden":
        names = _names_at(model, location[:-1])
        near = difflib.get_close_matches(location[-1], names, n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]}?" if near else "."
        return f"unknown key {key}{hint} Accepted here: {', '.join(names)}"
    message = str(error["msg"]).removeprefix("Value error, ")
    found = error.get("input")
    # A whole section says nothing that its keys in the message do not.
    return f"{key}: {message}" + ("" if isinstance(found, dict) else f" (found {found!r})")


def _names_at(model: type[BaseModel], location: list[str]) -> list[str]:
    current: type[BaseModel] = model
    for part in location:
        field = current.model_fields.get(part)
        candidates = [field.annotation, *get_args(field.annotation)] if field else []
        nested = [c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)]
        if not nested:
            return []
        current = nested[0]
    return list(current.model_fields)
