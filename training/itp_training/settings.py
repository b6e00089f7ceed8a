"""Settings of a training run: frozen dataclasses, written and read as JSON or as text, each value checked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

from itp_training.errors import ConfigError

if TYPE_CHECKING:
    from typing_extensions import Self


class Settings:
    """Base of the configurations: frozen dataclasses whose fields all have defaults."""

    __slots__ = ()

    def as_dict(self) -> dict[str, Any]:
        """By name, ready for JSON."""
        values = asdict(self)  # type: ignore[call-overload]
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """What `as_dict` gave; ConfigError for anything else."""
        known = cls.defaults()
        if unknown := sorted(set(values) - set(known)):
            raise ConfigError(f"no such setting: {', '.join(unknown)}; there are: {', '.join(known)}")
        return cls(**{k: tuple(v) if isinstance(known[k], tuple) else v for k, v in values.items()})

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        """The default of every setting."""
        return {field.name: field.default for field in fields(cls)}  # type: ignore[arg-type]

    @classmethod
    def parse(cls, texts: Mapping[str, str]) -> dict[str, Any]:
        """Values of settings as written on a command line: lists by commas, booleans as true and false.

        Raises
        ------
        ConfigError
            There is no such setting, or its value is of another kind.
        """
        known = cls.defaults()
        values: dict[str, Any] = {}
        for name, text in texts.items():
            if name not in known:
                raise ConfigError(f"no such setting: {name}; there are: {', '.join(known)}")
            usual = known[name]
            try:
                if isinstance(usual, tuple):
                    kind = type(usual[0]) if usual else str
                    parts = text.split(",") if text else []
                    values[name] = tuple(_scalar(kind, part.strip()) for part in parts)
                else:
                    values[name] = _scalar(type(usual), text)
            except ValueError:
                raise ConfigError(f"{name} = {text!r}: expected a value like {usual!r}") from None
        return values


def _scalar(kind: type, text: str) -> Any:
    if kind is bool:
        if text not in ("true", "false"):
            raise ValueError(text)
        return text == "true"
    return kind(text)


def check_choice(name: str, value: object, allowed: tuple[str, ...]) -> None:
    """A value must be one of some words."""
    if value not in allowed:
        raise ConfigError(f"{name} = {value!r}: expected {' or '.join(allowed)}")


def check_integer(name: str, value: object, low: int, high: int) -> None:
    """A value must be an integer from `low` to `high`."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ConfigError(f"{name} = {value!r}: expected an integer from {low} to {high}")


def check_number(name: str, value: object, low: float, high: float) -> None:
    """A value must be a finite number from `low` to `high`."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise ConfigError(f"{name} = {value!r}: expected {low:g} to {high:g}")
    if not math.isfinite(value):
        raise ConfigError(f"{name} = {value!r}: expected a finite number")


def check_pair(name: str, value: object, low: float, high: float) -> None:
    """A value must be two numbers from `low` to `high`."""
    if not isinstance(value, tuple) or len(value) != 2:
        raise ConfigError(f"{name} = {value!r}: expected two numbers")
    for part in value:
        check_number(name, part, low, high)


def check_range(name: str, value: object, low: float, high: float) -> None:
    """A value must be two numbers from `low` to `high`, the lower one first."""
    check_pair(name, value, low, high)
    if value[0] > value[1]:  # type: ignore[index]
        raise ConfigError(f"{name} = {value!r}: expected the lower end first")


def check_names(name: str, value: object, *, least: int) -> None:
    """A value must be at least so many names."""
    if not isinstance(value, tuple) or not all(part and isinstance(part, str) for part in value):
        raise ConfigError(f"{name} = {value!r}: expected names")
    if len(value) < least:
        raise ConfigError(f"{name} = {value!r}: expected at least one name")
