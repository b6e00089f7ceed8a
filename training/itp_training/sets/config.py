"""The configuration of a set model's training run: frozen, checked once, saved beside what it produces."""

from __future__ import annotations

from dataclasses import dataclass

from itp._core.setnet import MAX_WIDTH
from itp_training.config import TRAINING_FAMILIES
from itp_training.errors import ConfigError
from itp_training.settings import (
    Settings,
    check_choice,
    check_integer,
    check_names,
    check_number,
    check_range,
)

SCENARIOS = ("anything", "anything", *(name for name in TRAINING_FAMILIES if name != "wide"))
"""Any workload over any number of paths, and the shipped families of four paths that training may see."""

MIN_STREAMS, MAX_STREAMS = 2, 16
SCHEDULES = ("run", "round")


@dataclass(frozen=True, slots=True, kw_only=True)
class SetConfig(Settings):
    """Everything a run's result depends on."""

    seed: int = 0
    """Seeds weights, exploration, batches and worlds."""

    scenarios: tuple[str, ...] = SCENARIOS
    """Families or files; every episode draws one of those that have, or can be given, as many paths."""
    streams: tuple[int, ...] = (2, 3, 4, 6, 8, 12, 16)
    """Numbers of streams to learn from."""
    envs: tuple[int, ...] = (256, 384, 768, 80, 256, 80, 40)
    """Episodes a round and service order, for each of `streams`."""
    rounds: int = 8
    """Rounds of episodes; after each the network learns."""
    teacher_rounds: int = 1
    """First rounds, in which the service order's best simple rule decides instead of the network."""
    tasks: int = 100
    """Decisions an episode."""
    load: tuple[float, float] = (0.01, 1.1)
    """Offered load as a share of capacity: every episode draws one, log-uniformly."""
    epsilon: float = 0.1
    """Share of random actions."""

    typical: float = 0.3
    """Share of the episodes with preference 0 (typical); those below likewise, all others draw uniformly."""
    halfway: float = 0.25
    """Share of the episodes with the preference `balanced`."""
    bulk: float = 0.2
    """Share of the episodes with preference 1 (bulk)."""
    balanced: float = 0.7
    """The preference that is served as "balanced"."""

    look_ahead_share: float = 0.3
    """Share of the decisions for which every candidate is tried in a copy of the world."""
    look_ahead_first: int = 4
    """An episode's first decisions, for which that is always done."""
    look_ahead_until: float = 0.8
    """Only in this first part of an episode: later decisions have too short a future."""
    look_ahead_tasks: int = 30
    """Tasks for which such a copy goes on at least; the present policy decides in it."""
    look_ahead_reach: float = 3.0
    """It goes on for as many tasks as arrive in so many times the waiting task's planned time ..."""
    look_ahead_most: int = 120
    """... but no more than this."""
    bulk_weight: float = 0.1
    """Weight of completion times, in mean reference times, against log slowdowns."""
    regret_cap: float = 3.0
    """A decision whose mean candidate costs more above the mean than this is scaled down to it."""
    huber_delta: float = 1.0
    policy_weight: float = 0.3
    """Weight of the expected cost under the softmax policy."""
    temperature: float = 0.3
    """Of that softmax."""

    widths: tuple[int, ...] = (96, 64, 96, 64)
    """Of a stream's first and second layer, and of a candidate's first and second."""
    batch_size: int = 512
    """Decisions an update, all with the same number of streams."""
    batch_weights: tuple[float, ...] = (1.0, 1.0, 2.0, 1.0, 1.0, 1.0, 1.0)
    """How often a batch is of each of `streams`."""
    updates: int = 16_000
    """Over the whole run, spread evenly over its rounds."""
    learning_rate: float = 2e-3
    learning_rate_end: float = 0.02
    """Share of it that remains at the end; it falls linearly."""
    warm_up: int = 100
    """Updates over which the learning rate rises from 0."""
    learning_rate_over: str = "run"
    """What it falls over: the "run", or each "round" anew."""
    replay_rounds: int = 4
    """Rounds whose decisions are learnt from, the last ones."""
    validation_envs: int = 32
    """Worlds of each validation."""
    calibration_envs: int = 48
    """Worlds of each number of streams and service order in which expected times are fitted."""

    idle_arrivals: float = 0.1
    """A host is idle while nothing is in flight and no more tasks are expected before one is through."""
    idle_cap: float = 1.17
    """How many times as long as the fastest candidate a decision may be planned on an idle host: expected
    times, which calibration makes up to 7 % longer there, stay within 1.25 ..."""
    cap: float = 1e9
    """... and elsewhere."""

    def __post_init__(self) -> None:
        _check(self)

    def settings_of(self, n_streams: int) -> tuple[int, float]:
        """Episodes a round and service order, and the weight of batches, with so many streams."""
        at = self.streams.index(n_streams)
        return self.envs[at], self.batch_weights[at]

    def updates_of(self, number: int) -> tuple[int, int]:
        """The first update of a round, and the first one after it; all rounds' add up to the run's."""
        return self.updates * number // self.rounds, self.updates * (number + 1) // self.rounds


_COUNTS = {
    "rounds": 100_000,
    "tasks": 100_000,
    "look_ahead_first": 10_000,
    "look_ahead_tasks": 10_000,
    "look_ahead_most": 10_000,
    "batch_size": 1_000_000,
    "updates": 1_000_000_000,
    "replay_rounds": 100_000,
    "validation_envs": 10_000,
    "calibration_envs": 10_000,
}
_RANGES = {
    "epsilon": (0.0, 1.0),
    "typical": (0.0, 1.0),
    "halfway": (0.0, 1.0),
    "bulk": (0.0, 1.0),
    "balanced": (0.0, 1.0),
    "look_ahead_share": (1e-3, 1.0),
    "look_ahead_until": (1e-3, 1.0),
    "look_ahead_reach": (0.0, 1e6),
    "bulk_weight": (1e-6, 1e3),
    "regret_cap": (1e-3, 1e6),
    "huber_delta": (1e-6, 1e6),
    "policy_weight": (0.0, 1e3),
    "temperature": (1e-3, 1e3),
    "learning_rate": (1e-9, 1.0),
    "learning_rate_end": (0.0, 1.0),
    "idle_arrivals": (0.0, 1e9),
    "idle_cap": (1.0, 1e9),
    "cap": (1.0, 1e9),
}


def _check(c: SetConfig) -> None:
    check_integer("seed", c.seed, 0, 2**31)
    for name, most in _COUNTS.items():
        check_integer(name, getattr(c, name), 1, most)
    for name, (low, high) in _RANGES.items():
        check_number(name, getattr(c, name), low, high)
    check_integer("teacher_rounds", c.teacher_rounds, 0, 100_000)
    check_integer("warm_up", c.warm_up, 0, 1_000_000_000)
    check_names("scenarios", c.scenarios, least=1)
    check_range("load", c.load, 0.01, 2.0)
    check_choice("learning_rate_over", c.learning_rate_over, SCHEDULES)
    if c.typical + c.halfway + c.bulk > 1.0 + 1e-9:
        raise ConfigError("typical, halfway, bulk: shares of the episodes; expected at most 1 together")
    if not c.streams or list(c.streams) != sorted(set(c.streams)):
        raise ConfigError(f"streams = {c.streams!r}: expected numbers of streams, ascending")
    for n in c.streams:
        check_integer("streams", n, MIN_STREAMS, MAX_STREAMS)
    for name in ("envs", "batch_weights"):
        value = getattr(c, name)
        if not isinstance(value, tuple) or len(value) != len(c.streams):
            raise ConfigError(f"{name} = {value!r}: expected a number for each of streams = {c.streams!r}")
    for n in c.envs:
        check_integer("envs", n, 1, 65_536)
    for weight in c.batch_weights:
        check_number("batch_weights", weight, 1e-6, 1e6)
    if len(c.widths) != 4:
        raise ConfigError(f"widths = {c.widths!r}: expected four")
    for width in c.widths:
        check_integer("widths", width, 16, MAX_WIDTH)
        if width % 16:
            raise ConfigError(f"widths = {c.widths!r}: expected multiples of 16")
