"""The configuration of a training run: frozen, checked once, saved beside whatever the run produces."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from itp._core.heuristic import DEFAULT_POLICIES
from itp.schema import SERVICE_ORDERS
from itp_training.errors import ConfigError
from itp_training.settings import (
    Settings,
    check_choice,
    check_integer,
    check_names,
    check_number,
    check_pair,
    check_range,
)

OBJECTIVES = ("slowdown", "reward")
TEACHERS = DEFAULT_POLICIES
"""The rule that decides, in episodes and in look-ahead, before the network has learnt anything."""

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
"""Shipped families, and wide.toml of this folder, with paths of any kind, as often as two of them; mixed,
trace-driven and inter-region are held out for evaluation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingConfig(Settings):
    """Everything a run's result depends on, but for the content of its records."""

    service_order: str = "fifo"
    """How the streams serve their chunks: one model is trained for each order."""
    seed: int = 0
    """Seeds weights, exploration, replay and worlds."""

    scenarios: tuple[str, ...] = TRAINING_FAMILIES
    """Families or files; every episode draws one."""
    load: tuple[float, float] = (0.2, 0.9)
    """Offered load as a share of capacity: every episode draws one from this range."""
    episodes: int = 1000
    tasks: int = 200
    """Decisions an episode."""
    envs: int = 50
    """Episodes side by side; after each such round the network learns from what is stored."""
    experiences: tuple[str, ...] = ()
    """Folders and files of records to learn from as well; without episodes, from them alone."""
    experience_share: float = 0.25
    """Share of every batch that is drawn from these records, the rest from the simulator."""

    objective: str = "slowdown"
    """A task's return: "slowdown" is minus the log of its slowdown, "reward" the production reward."""
    gamma: float = 1.0
    """Discount from one task to the next."""
    n_step: int = 1
    """Tasks whose returns are added up before the target network's estimate takes over."""
    td_weight: float = 0.0
    """Weight of the temporal difference (Double DQN) in the loss."""
    look_ahead_share: float = 0.5
    """Share of the decisions for which every action is tried in a copy of the world; 0: none."""
    look_ahead_tasks: int = 30
    """Tasks for which such a copy goes on; the present policy decides in it."""
    teacher_episodes: int = 50
    """First episodes, in which the service order's best simple rule decides instead of the network."""
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
    """Share of it that remains at the end; it falls linearly."""
    target_rate: float = 0.005
    """Share by which the target network follows at every update."""
    huber_delta: float = 1.0
    buffer_size: int = 262_144
    """Decisions kept for replay."""
    alpha: float = 0.3
    """Exponent of the priorities; 0 draws all decisions alike."""
    beta: float = 0.4
    """First exponent of the importance weights; it rises linearly to 1."""

    def __post_init__(self) -> None:
        _check(self)

    @property
    def recorded(self) -> int:
        """Decisions of a batch that come from records."""
        if not self.experiences:
            return 0
        return round(self.experience_share * self.batch_size) if self.episodes else self.batch_size

    def with_text(self, texts: Mapping[str, str]) -> TrainingConfig:
        """With settings changed, as written on a command line; see `Settings.parse`."""
        return replace(self, **self.parse(texts))


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
    # Records tell what became of the action that was taken: temporal differences learn from that. In the
    # simulator every action is tried as well, by the same reward and discount.
    "experience": {
        "objective": "reward",
        "gamma": 0.95,
        "n_step": 1,
        "td_weight": 0.1,
    },
}


def preset(name: str, **changes: Any) -> TrainingConfig:
    """A named configuration, with changes."""
    if name not in PRESETS:
        raise ConfigError(f"no preset is named {name!r}; there are: {', '.join(PRESETS)}")
    return TrainingConfig(**{**PRESETS[name], **changes})


_MAX_EPISODES = 10_000_000
_COUNTS = {
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
    "experience_share": (0.0, 1.0),
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
    check_choice("service_order", c.service_order, SERVICE_ORDERS)
    check_choice("objective", c.objective, OBJECTIVES)
    for name, most in _COUNTS.items():
        check_integer(name, getattr(c, name), 1, most)
    check_integer("episodes", c.episodes, 0, _MAX_EPISODES)
    check_integer("teacher_episodes", c.teacher_episodes, 0, _MAX_EPISODES)
    check_integer("seed", c.seed, 0, 2**31)
    for name, (low, high) in _RANGES.items():
        check_number(name, getattr(c, name), low, high)
    for name in ("batch_norm", "duelling"):
        if not isinstance(getattr(c, name), bool):
            raise ConfigError(f"{name} = {getattr(c, name)!r}: expected true or false")
    check_range("load", c.load, 0.01, 2.0)
    check_pair("epsilon", c.epsilon, 0.0, 1.0)
    check_names("scenarios", c.scenarios, least=1)
    check_names("experiences", c.experiences, least=0)
    if not 1 <= len(c.hidden) <= 8:
        raise ConfigError(f"hidden = {c.hidden!r}: expected 1 to 8 widths")
    for width in c.hidden:
        check_integer("hidden", width, 1, 4096)
    if c.td_weight == 0.0 and c.look_ahead_share == 0.0:
        raise ConfigError("td_weight = 0 and look_ahead_share = 0: there is nothing to learn from")
    _check_experiences(c)


def _check_experiences(c: TrainingConfig) -> None:
    if not c.experiences:
        if c.episodes == 0:
            raise ConfigError("episodes = 0: without experiences there is nothing to learn from")
        return
    if c.td_weight == 0.0:
        raise ConfigError(
            "td_weight = 0: records tell what became of one action, from which only temporal differences "
            "learn; expected more than 0, as in the preset experience"
        )
    if c.objective != "reward":
        raise ConfigError(f"objective = {c.objective!r}: records hold the production reward; expected reward")
    if c.episodes and not 0 < c.recorded < c.batch_size:
        raise ConfigError(
            f"experience_share = {c.experience_share!r}: expected a share that draws at least one of "
            f"{c.batch_size} decisions from the records and one from the simulator; with 0 episodes all come "
            "from the records"
        )
