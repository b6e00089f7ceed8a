"""What a run leaves in its folder while it goes: config.json, metrics.jsonl, TensorBoard's events."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from itp._util.files import write_text
from itp_training.config import TrainingConfig
from itp_training.trainer import Round

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

CONFIG, METRICS, EVENTS = "config.json", "metrics.jsonl", "tensorboard"
_NO_SCALARS = ("episodes", "updates", "decisions")


class Record:
    """Keeps files in step with a run's rounds; what was written after its checkpoint is taken back.

    Raises
    ------
    OSError
        They cannot be written.
    """

    def __init__(self, folder: Path, config: TrainingConfig, rounds: Sequence[Round]) -> None:
        self._metrics = folder / METRICS
        write_text(folder / CONFIG, json.dumps(config.as_dict(), indent=1) + "\n")
        write_text(self._metrics, "".join(map(_line, rounds)))
        self._whole = True
        self._events = _events(folder / EVENTS, rounds[-1].episodes if rounds else 0)
        self.has_events = self._events is not None

    def add(self, rounds: Sequence[Round]) -> None:
        """Keep the last of these; OSError costs nothing: with the next one all are written anew."""
        if self._whole:
            self._whole = False
            with open(self._metrics, "a", encoding="utf-8") as file:
                file.write(_line(rounds[-1]))
        else:
            write_text(self._metrics, "".join(map(_line, rounds)))
        self._whole = True
        if self._events is not None:
            done = rounds[-1]
            for name, value in asdict(done).items():
                if name not in _NO_SCALARS:
                    self._events.add_scalar(name, value, done.episodes)
            self._events.flush()

    def close(self) -> None:
        """Write what is still held."""
        if self._events is not None:
            self._events.close()


def _line(done: Round) -> str:
    return json.dumps(asdict(done)) + "\n"


def _events(folder: Path, episodes: int) -> SummaryWriter | None:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    # Rounds beyond the checkpoint will come again.
    return SummaryWriter(str(folder), purge_step=episodes + 1 if episodes else None)
