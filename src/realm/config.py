"""How do settings behave wherever they stand?

Every stage declares a frozen `Settings` class beside the code that it configures. A key that
nobody knows is refused with the nearest known one, so that a misspelt recipe cannot train
the wrong thing for a day.
"""

import difflib
import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from realm.errors import SettingError


class Settings(BaseModel):
    """A frozen group of settings that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    @model_validator(mode="before")
    @classmethod
    def _leave_out(cls, values: Any) -> Any:
        """TOML has no null: an optional setting that is to be left out is called "none"."""
        if not isinstance(values, dict):
            return values
        optional = {n for n, f in cls.model_fields.items() if type(None) in get_args(f.annotation)}
        return {
            name: None if value == "none" and name in optional else value
            for name, value in values.items()
        }


AnySettings = TypeVar("AnySettings", bound=Settings)


def read_settings(
    kind: type[AnySettings], values: Mapping[str, Any], *, origin: str
) -> AnySettings:
    """Validate nested plain values; `origin` names their source in error messages."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise SettingError(f"{origin}: {_explain(kind, error)}") from error


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file into nested plain values."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SettingError(f"there is no recipe {path}: check the path") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingError(f"{path} is not valid TOML: {error}") from error


def override(values: dict[str, Any], assignments: Sequence[str]) -> dict[str, Any]:
    """Apply `a.b=c` assignments to nested values; `c` is read as TOML, else as a string."""
    result: dict[str, Any] = json.loads(json.dumps(values))
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals or not name.strip():
            raise SettingError(f"--set {assignment}: write it as --set section.key=value")
        group = result
        *sections, key = name.strip().split(".")
        for section in sections:
            if group.get(section) is None:  # a section that is left out
                group[section] = {}
            group = group[section]
            if not isinstance(group, dict):
                raise SettingError(f"--set {assignment}: {section} is a value, not a section")
        group[key] = _parse_value(text.strip())
    return result


def value_of(settings: Settings, name: str) -> Any:
    """The setting, or group of settings, of a dotted name."""
    value: Any = settings
    for part in name.split("."):
        value = getattr(value, part)
    return value


def plain_value_of(settings: Settings, name: str) -> Any:
    """The same as values that JSON knows."""
    value = value_of(settings, name)
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else value


def differing(saved: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Dotted names of the settings in which nested plain values differ."""
    names = []
    for name, value in wanted.items():
        if isinstance(value, dict) and isinstance(saved[name], dict):
            names += [f"{name}.{inner}" for inner in differing(saved[name], value)]
        elif value != saved[name]:
            names.append(name)
    return names


def _parse_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _explain(kind: type[Settings], error: ValidationError) -> str:
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    if first["type"] != "extra_forbidden":
        return f"{place}: {first['msg']} (got {first.get('input')!r})"
    known = _keys_beside(kind, [str(part) for part in first["loc"][:-1]])
    key = str(first["loc"][-1])
    nearest = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    hint = f"did you mean {nearest[0]!r}?" if nearest else f"known keys: {', '.join(known)}"
    return f"unknown key {place!r}; {hint}"


def _keys_beside(kind: type[Settings], sections: list[str]) -> list[str]:
    group: type[BaseModel] = kind
    for section in sections:
        field = group.model_fields.get(section)
        if field is None:
            break
        candidates = [field.annotation, *get_args(field.annotation)]
        nested = [c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)]
        if nested:
            group = nested[0]
    return list(group.model_fields)
