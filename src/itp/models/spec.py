"""Names of models with options behind them, such as ``set_v2:bulk:hard-deadlines``.

A model is named by its shipped name, by ``default``, or by the path of its file, which ends in ``.onnx``.
Behind it, in any order:

- ``:typical``, ``:balanced``, ``:bulk`` or ``:prefer=X`` with X from 0 to 1: what a model of schema 2 decides
  for;
- ``:no-guard``: its guard is set aside, and with schema 2 its cap and support;
- ``:hard-deadlines``, ``:soft-deadlines``: actions that are planned to miss a deadline are closed, or left
  open, whatever its metadata say.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from itp.models.load import shipped_models

PREFERENCES = ("typical", "balanced", "bulk")
NO_GUARD = ":no-guard"
HARD_DEADLINES = ":hard-deadlines"
SOFT_DEADLINES = ":soft-deadlines"

_FILE = ".onnx"
_PREFER = "prefer="


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """A model, and how it is served.

    Attributes
    ----------
    model : str
        A shipped name or a path.
    guard : bool
        Heed its guard.
    hard_deadlines : bool or None
        None: as its metadata say.
    prefer : str, float or None
        None: balanced.
    """

    model: str
    guard: bool = True
    hard_deadlines: bool | None = None
    prefer: str | float | None = None

    @property
    def suffix(self) -> str:
        """The options as text, in one order."""
        deadlines = {None: "", True: HARD_DEADLINES, False: SOFT_DEADLINES}[self.hard_deadlines]
        return preference_suffix(self.prefer) + ("" if self.guard else NO_GUARD) + deadlines

    def __str__(self) -> str:
        return self.model + self.suffix


def preference_suffix(prefer: str | float | None) -> str:
    """A preference as the option that `parse` reads."""
    if prefer is None:
        return ""
    return f":{prefer}" if isinstance(prefer, str) else f":{_PREFER}{prefer:g}"


def parse(text: str) -> ModelSpec:
    """The model and the options in a text.

    Raises
    ------
    ValueError
        There are two options of one kind, or a preference is not from 0 to 1.
    """
    model, options = _split(text)
    found: dict[str, Any] = {}
    for option in options:
        key, value = _FIXED[option] if option in _FIXED else ("prefer", _number(option, text))
        if key in found:
            raise ValueError(f"{text}: expected one {_KINDS[key]}")
        found[key] = value
    return ModelSpec(model=model, **found)


def is_model(text: str) -> bool:
    """Whether a text names a model: a shipped one, the default, or a path that ends in ``.onnx``."""
    model = _split(text)[0]
    return model.endswith(_FILE) or model in ("default", *shipped_models())


_FIXED: dict[str, tuple[str, Any]] = {
    **{name: ("prefer", name) for name in PREFERENCES},
    NO_GUARD.removeprefix(":"): ("guard", False),
    HARD_DEADLINES.removeprefix(":"): ("hard_deadlines", True),
    SOFT_DEADLINES.removeprefix(":"): ("hard_deadlines", False),
}
_KINDS = {
    "prefer": "preference",
    "guard": "of :no-guard",
    "hard_deadlines": "of :hard-deadlines and :soft-deadlines",
}


def _split(text: str) -> tuple[str, list[str]]:
    """The model, and the options behind it from last to first."""
    options = []
    model, colon, last = text.rpartition(":")
    while colon and (last in _FIXED or last.startswith(_PREFER)):
        options.append(last)
        text = model
        model, colon, last = text.rpartition(":")
    return text, options


def _number(option: str, text: str) -> float:
    given = option.removeprefix(_PREFER)
    try:
        number = float(given)
    except ValueError:
        number = -1.0
    if not 0.0 <= number <= 1.0:
        raise ValueError(f"{text}: prefer={given}: expected a number from 0 to 1")
    return number
