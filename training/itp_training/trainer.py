"""The training loop: rounds of episodes, then of updates; stops, saves and goes on at any point."""

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
from itp_training.validation import Validation

CHECKPOINT = "checkpoint.pt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What a round of training did."""

    episodes: int
    """Since the run began, as `updates` and `decisions`."""
    updates: int
    decisions: int
    reward: float
    """Mean over the round's tasks."""
    slowdown: float
    """Geometric mean over the round's tasks, exploration included."""
    validation_slowdown: float
    """Geometric mean in worlds of their own, without exploration."""
    loss: float
    epsilon: float
    learning_rate: float
    beta: float
    collect_s: float
    learn_s: float


@dataclass(frozen=True, slots=True)
class Moment:
    """Where a run stands, for whoever shows it."""

    phase: str
    share: float
    decisions: int
    updates: int


class Interrupted(Exception):  # noqa: N818 (it is no error)
    """The run was asked to stop, and is saved."""


def _fail(error: OSError) -> None:
    raise error


class Trainer:
    """One training run.

    Parameters
    ----------
    config : TrainingConfig
    device : torch.device
    folder : Path, optional
        Where checkpoints go.
    save_every : int
        Episodes between checkpoints.

    Notes
    -----
    Thread safety: none. On one thread of the CPU the same configuration ends in the same bits, whether
    or not the run was stopped, killed and resumed on its way.
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
        self.stop = False
        """Set it, from a signal handler too, and `run` saves and raises Interrupted."""
        self._pending = 0
        self._unfinished: dict[str, float] = {}

    @property
    def n_rounds(self) -> int:
        """In the whole run."""
        return -(-self.config.episodes // self.config.envs)

    @property
    def episodes(self) -> int:
        """Collected so far."""
        collected = len(self.rounds) + (self._pending > 0)
        return min(collected * self.config.envs, self.config.episodes)

    def run(
        self,
        tick: Callable[[Moment], None] = lambda _: None,
        finished: Callable[[Round], None] = lambda _: None,
        not_saved: Callable[[OSError], None] = _fail,
    ) -> None:
        """Train to the end.

        Parameters
        ----------
        tick : callable
            Called often, with where the run stands.
        finished : callable
            Called after every round.
        not_saved : callable
            Called when a checkpoint on the way cannot be written; without it the run ends there.

        Raises
        ------
        Interrupted
            `stop` was set; what was learnt is saved.
        TrainingError
            The loss is not finite, or nothing can be learnt; the last checkpoint stands.
        OSError
            The end of the run, or where it was stopped, cannot be saved; the last checkpoint stands.
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
        epsilon = self._epsilon(number)
        decided = 0

        def decisions(count: int) -> None:
            # Nothing of the learner's has changed yet: a round that is left is collected anew.
            nonlocal decided
            self._check_stop()
            decided += count
            tick(self._moment("collecting", decided))

        experiences, reward, log_slowdown = self.collector.collect(
            number, self.learner.network.eval(), epsilon, decisions
        )
        self.learner.store(experiences)
        # A small look-ahead share may have left nothing to learn from yet.
        self._pending = self._updates_of(number) if len(self.learner.buffer) else 0
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
        """Of a round, so that all of them add up to the run's."""
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
        # Collecting and learning both count by their own share of the whole.
        share = 0.5 * decisions / (c.episodes * c.tasks) + 0.5 * self.learner.progress
        return Moment(phase, min(share, 1.0), decisions, self.learner.updates)

    def _check_stop(self) -> None:
        if self.stop:
            raise Interrupted

    def _due(self) -> bool:
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
            "buffer": checkpoint.pack_buffer(learner.buffer),
            "returns": torch.from_numpy(learner.returns[: learner.buffer.get_stored_size()]),
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
        """Go on where a checkpoint stands, in its folder; CheckpointError if it cannot be used."""
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
        checkpoint.unpack_buffer(learner.buffer, content["buffer"])
        returns = content["returns"].numpy()
        learner.returns[: len(returns)] = returns
        learner.updates = content["updates"]
        self._pending = content["pending"]
        self._unfinished = content["unfinished"]
        self.rounds = [Round(**done) for done in content["rounds"]]
        torch.set_rng_state(content["random"])
        learner.rng.bit_generator.state = content["orders"]

    def begin_with(self, path: Path) -> None:
        """Take the weights of another run's checkpoint; CheckpointError if its network is another one."""
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
        # The network knows more than the teacher, and has its own continuation to look ahead with.
        self.config = replace(mine, teacher_episodes=0)
        self.collector.config = self.config
