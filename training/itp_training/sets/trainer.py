"""The training loop of a set network: rounds of episodes and updates, which can be stopped and resumed."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from itp._util.messages import brief
from itp.schema import SERVICE_ORDERS
from itp_training import checkpoint
from itp_training.errors import CheckpointError
from itp_training.progress import Interrupted, Moment, fail, rate
from itp_training.run_folder import CHECKPOINT
from itp_training.sets.collect import Part, SetCollector
from itp_training.sets.config import SetConfig
from itp_training.sets.learner import SetLearner
from itp_training.sets.options import SET_SCHEMA
from itp_training.sets.support import Support
from itp_training.sets.validation import SetValidation, mean_ratio


@dataclass(frozen=True, slots=True, kw_only=True)
class SetRound:
    """The figures of one round; ratios are to the best simple rule's, less is better."""

    round: int
    """From 1."""
    updates: int
    """Since the run began; so are decisions."""
    decisions: int
    """That were looked ahead from."""
    slowdown: float
    """Geometric mean over the round's tasks, exploration included."""
    loss: float
    """Mean over the round's updates."""
    typical_slowdown: float
    """Ratio of geometric-mean slowdowns in the validation worlds, with the preference "typical"."""
    typical_time: float
    """Ratio of mean completion times there; so are those below."""
    balanced_slowdown: float
    balanced_time: float
    bulk_slowdown: float
    bulk_time: float
    validation: dict[str, list[dict[str, float | int | str]]]
    """The ratios by preference, number of streams and service order."""
    learning_rate: float
    collect_s: float
    learn_s: float

    @property
    def step(self) -> int:
        """The round's place on a chart."""
        return self.round

    @property
    def unit(self) -> str:
        """What steps count."""
        return "round"

    def as_dict(self) -> dict[str, Any]:
        """All figures, ready for JSON."""
        return asdict(self)

    def scalars(self) -> dict[str, float]:
        """The figures that curves are drawn of."""
        counts = ("round", "updates", "decisions", "validation")
        return {name: value for name, value in asdict(self).items() if name not in counts}

    def figures(self) -> dict[str, str]:
        """What is shown of them: slowdown / time, as ratios."""
        return {
            "slowdown": f"{self.slowdown:.3f}",
            "typical": f"{self.typical_slowdown:.3f}/{self.typical_time:.3f}",
            "balanced": f"{self.balanced_slowdown:.3f}/{self.balanced_time:.3f}",
            "bulk": f"{self.bulk_slowdown:.3f}/{self.bulk_time:.3f}",
            "loss": f"{self.loss:.4g}",
        }

    def rates(self, before: SetRound | None) -> dict[str, str]:
        """Decisions that were looked ahead from and updates a second."""
        decisions, updates = self.decisions, self.updates
        if before is not None:
            decisions -= before.decisions
            updates -= before.updates
        return {
            "decisions/s": rate(decisions, self.collect_s),
            "updates/s": rate(updates, self.learn_s),
        }


@dataclass(slots=True)
class _Unfinished:
    """What a round has come to so far; kept in the checkpoint of a run that is stopped."""

    parts: int = 0
    updates: int = 0
    tasks: int = 0
    log_slowdown: float = 0.0
    loss: float = 0.0
    collect_s: float = 0.0
    learn_s: float = 0.0


class SetTrainer:
    """One training run.

    Parameters
    ----------
    config : SetConfig
    folder : Path, optional
        Receives the checkpoints, one after every round.
    threads : int
        That divide the environments; results do not depend on it.

    Attributes
    ----------
    rounds : list of SetRound
        Those that are over.
    stop : bool
        Set it, from a signal handler too, and `run` saves and raises `Interrupted`.

    Notes
    -----
    Thread safety: none. With PyTorch on one thread the same configuration ends in the same bits, whether or
    not the run was stopped, killed and resumed on its way.
    """

    def __init__(self, config: SetConfig, folder: Path | None = None, threads: int = 1) -> None:
        self.config = config
        self.folder = folder
        self.parts = [Part(n, order) for n in config.streams for order in SERVICE_ORDERS]
        self.collector = SetCollector(config, threads)
        self.learner = SetLearner(config)
        self.validation = SetValidation(config)
        self.support = Support()
        self.rounds: list[SetRound] = []
        self.decisions = 0
        self.stop = False
        self._now = _Unfinished()

    @property
    def n_rounds(self) -> int:
        """Rounds of the whole run."""
        return self.config.rounds

    def run(
        self,
        tick: Callable[[Moment], None] = lambda _: None,
        finished: Callable[[SetRound], None] = lambda _: None,
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
            The loss is not finite, or the scenarios complete no task; the last checkpoint stands.
        OSError
            The last checkpoint of this call cannot be written; the one before it stands.
        """
        try:
            while len(self.rounds) < self.n_rounds:
                self._collect(tick)
                self._learn(tick)
                finished(self._finish_round())
                try:
                    self.save()
                except OSError as error:
                    if len(self.rounds) == self.n_rounds:
                        raise
                    not_saved(error)
        except Interrupted:
            self.save()
            raise

    def _collect(self, tick: Callable[[Moment], None]) -> None:
        number, now = len(self.rounds), self._now
        taught = number < self.config.teacher_rounds
        net = None if taught else self.learner.network.packed()
        while now.parts < len(self.parts):
            begin = time.perf_counter()
            part = self.parts[now.parts]
            decisions, log_slowdowns = self.collector.collect(number, part, net, self._counter(part, tick))
            self.learner.replay.store(number, decisions)
            self.support.widen(decisions)
            self.decisions += len(decisions)
            now.tasks += len(log_slowdowns)
            now.log_slowdown += float(log_slowdowns.sum())
            now.collect_s += time.perf_counter() - begin
            now.parts += 1

    def _counter(self, part: Part, tick: Callable[[Moment], None]) -> Callable[[int], None]:
        """Of the decisions played in a part; it leaves where the run is asked to stop."""
        envs, _ = self.config.settings_of(part.n_streams)
        whole, played = envs * self.config.tasks, 0

        def decided(count: int) -> None:
            # What is played of this part is lost when the run stops here; it is played again.
            nonlocal played
            self._check_stop()
            played += count
            tick(self._moment("collecting", played, played / whole))

        return decided

    def _learn(self, tick: Callable[[Moment], None]) -> None:
        now, begin = self._now, time.perf_counter()
        first, last = self.config.updates_of(len(self.rounds))
        try:
            while now.updates < last - first:
                self._check_stop()
                now.loss += self.learner.update()
                now.updates += 1
                if now.updates % 20 == 0:
                    tick(self._moment("learning"))
        finally:
            now.learn_s += time.perf_counter() - begin

    def _finish_round(self) -> SetRound:
        now = self._now
        learning_rate = self.learner.learning_rate
        found = self.validation.ratios(self.learner.network.packed())
        ratios = {
            f"{name}_{measure}": mean_ratio(rows, measure)
            for name, rows in found.items()
            for measure in ("slowdown", "time")
        }
        done = SetRound(
            round=len(self.rounds) + 1,
            updates=self.learner.updates,
            decisions=self.decisions,
            slowdown=float(np.exp(now.log_slowdown / now.tasks)),
            loss=now.loss / max(now.updates, 1),
            validation=found,
            learning_rate=learning_rate,
            collect_s=now.collect_s,
            learn_s=now.learn_s,
            **ratios,
        )
        self.rounds.append(done)
        self._now = _Unfinished()
        return done

    def _moment(self, phase: str, played: int = 0, of_part: float = 0.0) -> Moment:
        """Now, with what a part that is under way has come to."""
        first, last = self.config.updates_of(len(self.rounds))
        collected = min((self._now.parts + of_part) / len(self.parts), 1.0)
        learnt = self._now.updates / max(last - first, 1)
        # Most of a round's time goes into looking ahead.
        share = (len(self.rounds) + 0.8 * collected + 0.2 * learnt) / self.n_rounds
        return Moment(phase, min(share, 1.0), self._now.tasks + played, self.learner.updates)

    def _check_stop(self) -> None:
        if self.stop:
            raise Interrupted

    # --- checkpoints ---

    def save(self) -> None:
        """Write a checkpoint; OSError leaves the last one as it was."""
        if self.folder is None:
            return
        content = {
            "schema": SET_SCHEMA,
            "config": self.config.as_dict(),
            "learner": self.learner.state_dict(),
            "support": self.support.state_dict(),
            "decisions": self.decisions,
            "unfinished": asdict(self._now),
            "rounds": [asdict(done) for done in self.rounds],
        }
        checkpoint.save(self.folder / CHECKPOINT, content)

    @classmethod
    def resume(cls, path: Path, threads: int = 1) -> SetTrainer:
        """The run of a checkpoint, in the checkpoint's folder; CheckpointError if that cannot be used."""
        content = checkpoint.load(path, SET_SCHEMA)
        try:
            trainer = cls(SetConfig.from_dict(content["config"]), path.parent, threads)
            trainer.learner.load_state_dict(content["learner"])
            trainer.support.load_state_dict(content["support"])
            trainer.decisions = content["decisions"]
            trainer._now = _Unfinished(**content["unfinished"])
            trainer.rounds = [SetRound(**done) for done in content["rounds"]]
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise CheckpointError(f"{path}: does not fit: {brief(error)}") from error
        return trainer

    def begin_with(self, path: Path) -> None:
        """Start from the weights in another run's checkpoint; CheckpointError if its network differs."""
        content = checkpoint.load(path, SET_SCHEMA)
        try:
            theirs = SetConfig.from_dict(content["config"]).widths
            if theirs != self.config.widths:
                raise CheckpointError(
                    f"{path}: of another configuration: widths is {theirs!r} there and "
                    f"{self.config.widths!r} here; pass the same, or --set widths=..."
                )
            self.learner.network.load_state_dict(content["learner"]["network"])
        except (KeyError, TypeError, RuntimeError) as error:
            raise CheckpointError(f"{path}: does not fit: {brief(error)}") from error
        # These weights already decide better than a rule does.
        self.config = replace(self.config, teacher_rounds=0)
