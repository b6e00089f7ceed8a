"""What a training run is made of: one frozen configuration, saved beside whatever it produced."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from itp.schema import SERVICE_ORDERS
from itp_training.errors import ConfigError

OBJECTIVES = ("slowdown", "reward")
TEACHERS = {"fifo": "single_best", "srpt": "least_completion_time"}
"""The rule that decides, and continues what is tried, before the network has learnt anything."""

TRAINING_FAMILIES = (
    "homogeneous",
    "heterogeneous",
    "shared-bottleneck",
    "lossy",
    "flaky",
    "bursts",
    "time-of-day",
    "wide",
    "wide",
)
"""Shipped families, and paths of any kind (wide.toml here) as often as two of them; mixed, trace-driven and
inter-region are held out for evaluation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingConfig:
    """All that decides how a run ends: the same configuration gives the same bits on one thread."""

    service_order: str = "fifo"
    """How the streams serve their chunks: one model is trained for each order."""
    seed: int = 0
    """Of the weights, of exploration, of the replay buffer, and where the worlds begin."""

    scenarios: tuple[str, ...] = TRAINING_FAMILIES
    """Families or files; every episode draws one."""
    load: tuple[float, float] = (0.2, 0.9)
    """Offered load as a share of capacity: every episode draws one from this range."""
    episodes: int = 1000
    tasks: int = 200
    """Decisions an episode."""
    envs: int = 50
    """Episodes side by side; after each such round the network learns from what is stored."""

    objective: str = "slowdown"
    """What a task returns: "slowdown", minus the log of its slowdown; "reward", the production reward."""
    gamma: float = 1.0
    """Discount from one task to the next."""
    n_step: int = 1
    """Tasks whose returns are added up before the target network's estimate takes over."""
    td_weight: float = 0.0
    """Of the temporal difference (Double DQN) in the loss."""
    look_ahead_share: float = 0.5
    """Share of the decisions for which every action is tried in a copy of the world; 0: none."""
    look_ahead_tasks: int = 30
    """How many tasks on such a copy goes; the present policy decides in it."""
    teacher_episodes: int = 50
    """For so many the service order's best simple rule decides instead of the network."""
    epsilon: tuple[float, float] = (0.3, 0.1)
    """Share of random actions, first and last ..."""
    epsilon_decay: float = 0.5
    """... which is reached after this share of the episodes."""

    hidden: tuple[int, ...] = (128, 128, 64)
    batch_norm: bool = False
    dropout: float = 0.0
    """On the first two hidden layers."""
    duelling: bool = False
    """Separate heads for a state's value and its actions' advantages (Wang et al., ICML 2016)."""

    batch_size: int = 512
    updates: int = 16_000
    """Over the whole run, spread evenly over its rounds."""
    learning_rate: float = 1e-3
    learning_rate_end: float = 0.05
    """What is left of it at the end, as a share; it falls linearly."""
    target_rate: float = 0.005
    """Share by which the target network follows at every update."""
    huber_delta: float = 1.0
    buffer_size: int = 262_144
    """Decisions kept for replay."""
    alpha: float = 0.3
    """Exponent of the priorities; 0: all decisions alike."""
    beta: float = 0.4
    """Exponent of the importance weights at first; it rises linearly to 1."""

    def __post_init__(self) -> None:
        _check(self)

    def as_dict(self) -> dict[str, Any]:
        """By name, ready for JSON."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainingConfig:
        """What `as_dict` gave; ConfigError for anything else."""
        known = {field.name: field.default for field in fields(cls)}
        if unknown := sorted(set(values) - set(known)):
            raise ConfigError(f"no such setting: {', '.join(unknown)}; there are: {', '.join(known)}")
        given: dict[str, Any] = {k: tuple(v) if isinstance(known[k], tuple) else v for k, v in values.items()}
        return cls(**given)

    def with_text(self, texts: Mapping[str, str]) -> TrainingConfig:
        """With settings changed, as written on a command line: lists by commas."""
        known = {field.name: getattr(self, field.name) for field in fields(self)}
        values: dict[str, Any] = {}
        for name, text in texts.items():
            if name not in known:
                raise ConfigError(f"no such setting: {name}; there are: {', '.join(known)}")
            present = known[name]
            try:
                if isinstance(present, tuple):
                    values[name] = tuple(_scalar(type(present[0]), part.strip()) for part in text.split(","))
                else:
                    values[name] = _scalar(type(present), text)
            except ValueError:
                raise ConfigError(f"{name} = {text!r}: expected a value like {present!r}") from None
        return replace(self, **values)


def _scalar(kind: type, text: str) -> Any:
    if kind is bool:
        if text not in ("true", "false"):
            raise ValueError(text)
        return text == "true"
    return kind(text)


PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    # Double DQN as it is usually written: one-step bootstrapping from what was done, nothing else.
    "mission": {
        "objective": "reward",
        "gamma": 0.95,
        "n_step": 1,
        "td_weight": 1.0,
        "look_ahead_share": 0.0,
        "teacher_episodes": 0,
        "epsilon": (1.0, 0.05),
        "batch_norm": True,
        "dropout": 0.2,
        "batch_size": 32,
        "updates": 50_000,
        "learning_rate_end": 1.0,
        "alpha": 0.6,
    },
}


def preset(name: str, **changes: Any) -> TrainingConfig:
    """A named configuration, with changes."""
    if name not in PRESETS:
        raise ConfigError(f"no preset is named {name!r}; there are: {', '.join(PRESETS)}")
    return TrainingConfig(**{**PRESETS[name], **changes})


_COUNTS = {
    "episodes": 10_000_000,
    "tasks": 100_000,
    "envs": 65_536,
    "n_step": 1000,
    "look_ahead_tasks": 10_000,
    "batch_size": 1_000_000,
    "updates": 1_000_000_000,
    "buffer_size": 100_000_000,
}
_RANGES = {
    "gamma": (0.0, 1.0),
    "td_weight": (0.0, 1e3),
    "look_ahead_share": (0.0, 1.0),
    "epsilon_decay": (0.0, 1.0),
    "dropout": (0.0, 0.9),
    "learning_rate": (1e-9, 1.0),
    "learning_rate_end": (0.0, 1.0),
    "target_rate": (1e-9, 1.0),
    "huber_delta": (1e-6, 1e6),
    "alpha": (0.0, 1.0),
    "beta": (0.0, 1.0),
}


def _check(c: TrainingConfig) -> None:
    _choice("service_order", c.service_order, SERVICE_ORDERS)
    _choice("objective", c.objective, OBJECTIVES)
    for name, most in _COUNTS.items():
        _integer(name, getattr(c, name), 1, most)
    _integer("teacher_episodes", c.teacher_episodes, 0, _COUNTS["episodes"])
    _integer("seed", c.seed, 0, 2**31)
    for name, (low, high) in _RANGES.items():
        _number(name, getattr(c, name), low, high)
    for name in ("batch_norm", "duelling"):
        if not isinstance(getattr(c, name), bool):
            raise ConfigError(f"{name} = {getattr(c, name)!r}: expected true or false")
    _pair("load", c.load, 0.01, 2.0)
    _pair("epsilon", c.epsilon, 0.0, 1.0)
    if c.load[0] > c.load[1]:
        raise ConfigError(f"load = {c.load!r}: expected the lower end first")
    if not c.scenarios or not all(isinstance(name, str) for name in c.scenarios):
        raise ConfigError(f"scenarios = {c.scenarios!r}: expected at least one name")
    if not 1 <= len(c.hidden) <= 8:
        raise ConfigError(f"hidden = {c.hidden!r}: expected 1 to 8 widths")
    for width in c.hidden:
        _integer("hidden", width, 1, 4096)
    if c.td_weight == 0.0 and c.look_ahead_share == 0.0:
        raise ConfigError("td_weight = 0 and look_ahead_share = 0: there is nothing to learn from")


def _choice(name: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ConfigError(f"{name} = {value!r}: expected {' or '.join(allowed)}")


def _integer(name: str, value: object, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ConfigError(f"{name} = {value!r}: expected an integer from {low} to {high}")


def _number(name: str, value: object, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise ConfigError(f"{name} = {value!r}: expected {low:g} to {high:g}")
    if not math.isfinite(value):
        raise ConfigError(f"{name} = {value!r}: expected a finite number")


def _pair(name: str, value: object, low: float, high: float) -> None:
    if not isinstance(value, tuple) or len(value) != 2:
        raise ConfigError(f"{name} = {value!r}: expected two numbers")
    for part in value:
        _number(name, part, low, high)
