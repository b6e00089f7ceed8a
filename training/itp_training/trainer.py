"""The training loop: rounds of episodes and updates, which can be stopped and resumed at any point."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from itp._util.messages import brief
from itp_training import checkpoint
from itp_training.collect import Collector
from itp_training.config import TrainingConfig
from itp_training.errors import CheckpointError
from itp_training.learner import Learner
from itp_training.progress import Interrupted, Moment, fail, rate
from itp_training.run_folder import CHECKPOINT
from itp_training.validation import Validation

ROUNDS_WITHOUT_EPISODES = 20
"""Rounds of a run that plays no episodes; a validation follows each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """The figures of one round of training; None stands for what needs episodes and had none."""

    episodes: int
    """Since the run began; so are updates and decisions."""
    updates: int
    decisions: int
    reward: float | None
    """Mean over the round's tasks."""
    slowdown: float | None
    """Geometric mean over the round's tasks, exploration included."""
    validation_slowdown: float
    """Geometric mean in the validation worlds, without exploration."""
    loss: float
    """Mean over the round's updates."""
    epsilon: float | None
    learning_rate: float
    beta: float
    collect_s: float
    learn_s: float

    @property
    def step(self) -> int:
        """The round's place on a chart: episodes, or updates in a run that plays none."""
        return self.episodes or self.updates

    @property
    def unit(self) -> str:
        """What steps count."""
        return "episode" if self.episodes else "update"

    def as_dict(self) -> dict[str, Any]:
        """All figures, ready for JSON."""
        return asdict(self)

    def scalars(self) -> dict[str, float]:
        """The figures that curves are drawn of."""
        counts = ("episodes", "updates", "decisions")
        return {k: v for k, v in asdict(self).items() if k not in counts and v is not None}

    def figures(self) -> dict[str, str]:
        """What is shown of them; nothing stands for what the round has not."""
        figures: dict[str, tuple[float | None, str]] = {
            "reward": (self.reward, ".3f"),
            "slowdown": (self.slowdown, ".3f"),
            "validation": (self.validation_slowdown, ".3f"),
            "loss": (self.loss, ".4g"),
            "epsilon": (self.epsilon, ".2f"),
            "beta": (self.beta, ".2f"),
        }
        return {name: "" if value is None else format(value, form) for name, (value, form) in figures.items()}

    def rates(self, before: Round | None) -> dict[str, str]:
        """Decisions and updates a second."""
        decisions, updates = self.decisions, self.updates
        if before is not None:
            decisions -= before.decisions
            updates -= before.updates
        return {
            "decisions/s": rate(decisions, self.collect_s) if decisions else "",
            "updates/s": rate(updates, self.learn_s),
        }


class Trainer:
    """One training run.

    Parameters
    ----------
    config : TrainingConfig
    device : torch.device
    folder : Path, optional
        Receives the checkpoints.
    save_every : int
        Episodes between checkpoints; a run without episodes saves after every round.

    Attributes
    ----------
    rounds : list of Round
        Those that are over.
    n_records : int
        Records of experience that were read; `Replay.recorded` keeps the last ones.
    stop : bool
        Set it, from a signal handler too, and `run` saves and raises `Interrupted`.

    Notes
    -----
    Thread safety: none. On one thread of the CPU the same configuration and the same records end in the same
    bits, whether or not the run was stopped, killed and resumed on its way.
    """

    def __init__(
        self, config: TrainingConfig, device: torch.device, folder: Path | None = None, save_every: int = 100
    ) -> None:
        torch.manual_seed(config.seed)
        self.config = config
        self.folder = folder
        self.save_every = save_every
        self.collector = Collector(config, device)
        self.learner = Learner(config, device)
        self.validation = Validation(config, device)
        self.rounds: list[Round] = []
        self.n_records = 0
        self.stop = False
        self._pending = 0
        self._unfinished: dict[str, Any] = {}

    @property
    def n_rounds(self) -> int:
        """Rounds of the whole run."""
        return -(-self.config.episodes // self.config.envs) or ROUNDS_WITHOUT_EPISODES

    @property
    def episodes(self) -> int:
        """Episodes played so far."""
        collected = len(self.rounds) + (self._pending > 0)
        return min(collected * self.config.envs, self.config.episodes)

    def run(
        self,
        tick: Callable[[Moment], None] = lambda _: None,
        finished: Callable[[Round], None] = lambda _: None,
        not_saved: Callable[[OSError], None] = fail,
    ) -> None:
        """Train to the end.

        Parameters
        ----------
        tick : callable
            Called often, with the run's progress.
        finished : callable
            Called after every round.
        not_saved : callable
            Called when a checkpoint on the way cannot be written; by default that ends the run.

        Raises
        ------
        Interrupted
            `stop` was set; the run is saved.
        TrainingError
            The loss is not finite, or the scenario completes no task; the last checkpoint stands.
        OSError
            The last checkpoint of this call cannot be written; the one before it stands.
        """
        try:
            while len(self.rounds) < self.n_rounds:
                if self._pending == 0:
                    self._collect(tick)
                self._learn(tick)
                finished(self._finish_round())
                if len(self.rounds) == self.n_rounds:
                    self.save()
                elif self._due():
                    try:
                        self.save()
                    except OSError as error:
                        not_saved(error)
        except Interrupted:
            self.save()
            raise

    def _collect(self, tick: Callable[[Moment], None]) -> None:
        number, begin = len(self.rounds), time.perf_counter()
        if self.config.episodes == 0:
            nothing = dict.fromkeys(("reward", "slowdown", "epsilon"))
            self._pending = self._updates_of(number)
            self._unfinished = {**nothing, "collect_s": 0.0, "learn_s": 0.0, "loss": 0.0}
            return
        epsilon = self._epsilon(number)
        decided = 0

        def decisions(count: int) -> None:
            # The learner is unchanged as yet: a round that is interrupted here is collected anew.
            nonlocal decided
            self._check_stop()
            decided += count
            tick(self._moment("collecting", decided))

        experiences, reward, log_slowdown = self.collector.collect(
            number, self.learner.network.eval(), epsilon, decisions
        )
        self.learner.replay.store(experiences)
        # With a small look-ahead share there may be nothing to learn from yet.
        self._pending = self._updates_of(number) if self.learner.replay.ready else 0
        self._unfinished = {
            "reward": reward,
            "slowdown": float(np.exp(log_slowdown)),
            "epsilon": epsilon,
            "collect_s": time.perf_counter() - begin,
            "learn_s": 0.0,
            "loss": 0.0,
        }

    def _learn(self, tick: Callable[[Moment], None]) -> None:
        begin = time.perf_counter()
        try:
            while self._pending:
                self._check_stop()
                self._unfinished["loss"] += self.learner.update()
                self._pending -= 1
                if self._pending % 20 == 0:
                    tick(self._moment("learning", 0))
        finally:
            self._unfinished["learn_s"] += time.perf_counter() - begin

    def _finish_round(self) -> Round:
        number = len(self.rounds)
        c = self.config
        figures = self._unfinished
        figures["loss"] /= max(self._updates_of(number), 1)
        done = Round(
            episodes=min((number + 1) * c.envs, c.episodes),
            updates=self.learner.updates,
            decisions=min((number + 1) * c.envs, c.episodes) * c.tasks,
            validation_slowdown=self.validation.slowdown(self.learner.network.eval()),
            learning_rate=self.learner.learning_rate,
            beta=self.learner.beta,
            **figures,
        )
        self.rounds.append(done)
        return done

    def _updates_of(self, number: int) -> int:
        """Updates of a round; all rounds' add up to the run's."""
        updates = self.config.updates
        return updates * (number + 1) // self.n_rounds - updates * number // self.n_rounds

    def _epsilon(self, number: int) -> float:
        first, last = self.config.epsilon
        end = self.config.epsilon_decay * self.config.episodes
        share = min(number * self.config.envs / end, 1.0) if end else 1.0
        return first + (last - first) * share

    def _moment(self, phase: str, decided: int) -> Moment:
        c = self.config
        decisions = self.episodes * c.tasks + decided
        share = self.learner.progress
        if c.episodes:
            # Collecting and learning count half each.
            share = 0.5 * decisions / (c.episodes * c.tasks) + 0.5 * share
        return Moment(phase, min(share, 1.0), decisions, self.learner.updates)

    def _check_stop(self) -> None:
        if self.stop:
            raise Interrupted

    def _due(self) -> bool:
        if self.config.episodes == 0:
            return True
        before = (len(self.rounds) - 1) * self.config.envs
        return self.episodes // self.save_every > before // self.save_every

    # --- checkpoints ---

    def save(self) -> None:
        """Write a checkpoint; OSError leaves the last one as it was."""
        if self.folder is None:
            return
        learner = self.learner
        content = {
            "config": self.config.as_dict(),
            "network": learner.network.state_dict(),
            "target": learner.target.state_dict(),
            "optimizer": learner.optimizer.state_dict(),
            "replay": learner.replay.state_dict(),
            "records": self.n_records,
            "updates": learner.updates,
            "pending": self._pending,
            "unfinished": self._unfinished,
            "rounds": [asdict(done) for done in self.rounds],
            "random": torch.get_rng_state(),
            "orders": learner.rng.bit_generator.state,
        }
        checkpoint.save(self.folder / CHECKPOINT, content)

    @classmethod
    def resume(cls, path: Path, device: torch.device, save_every: int = 100) -> Trainer:
        """The run of a checkpoint, in the checkpoint's folder; CheckpointError if that cannot be used."""
        content = checkpoint.load(path)
        try:
            trainer = cls(TrainingConfig.from_dict(content["config"]), device, path.parent, save_every)
            trainer._restore(content)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise CheckpointError(f"{path}: does not fit: {brief(error)}") from error
        return trainer

    def _restore(self, content: dict[str, Any]) -> None:
        learner = self.learner
        learner.network.load_state_dict(content["network"])
        learner.target.load_state_dict(content["target"])
        learner.optimizer.load_state_dict(content["optimizer"])
        learner.replay.load_state_dict(content["replay"])
        self.n_records = content["records"]
        learner.updates = content["updates"]
        self._pending = content["pending"]
        self._unfinished = content["unfinished"]
        self.rounds = [Round(**done) for done in content["rounds"]]
        torch.set_rng_state(content["random"])
        learner.rng.bit_generator.state = content["orders"]

    def begin_with(self, path: Path) -> None:
        """Start from the weights in another run's checkpoint; CheckpointError if its network differs."""
        content = checkpoint.load(path)
        try:
            theirs = TrainingConfig.from_dict(content["config"])
            mine = self.config
            for name in ("service_order", "hidden", "batch_norm", "dropout", "duelling"):
                if getattr(theirs, name) != getattr(mine, name):
                    raise CheckpointError(
                        f"{path}: of another configuration: {name} is {getattr(theirs, name)!r} there and "
                        f"{getattr(mine, name)!r} here; pass the same, or --set {name}=..."
                    )
            self.learner.network.load_state_dict(content["network"])
            self.learner.target.load_state_dict(content["target"])
        except (KeyError, TypeError, RuntimeError) as error:
            raise CheckpointError(f"{path}: does not fit: {brief(error)}") from error
        # These weights already decide better than the teacher does.
        self.config = replace(mine, teacher_episodes=0)
        self.collector.config = self.config
