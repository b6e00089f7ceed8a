"""The files of a run that grow with it: config.json, metrics.jsonl, TensorBoard's events."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from itp._util.files import write_text
from itp_training.progress import RoundLike
from itp_training.run_folder import CONFIG, EVENTS, METRICS
from itp_training.settings import Settings

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class RunFiles:
    """Keeps the files in step with a run's rounds; those of rounds after its checkpoint are dropped.

    Raises
    ------
    OSError
        A file cannot be written.
    """

    def __init__(self, folder: Path, config: Settings, rounds: Sequence[RoundLike]) -> None:
        self._metrics = folder / METRICS
        write_text(folder / CONFIG, json.dumps(config.as_dict(), indent=1) + "\n")
        write_text(self._metrics, "".join(map(_line, rounds)))
        self._whole = True
        self._events = _events(folder / EVENTS, rounds[-1].step if rounds else 0)
        self.has_events = self._events is not None

    def add(self, rounds: Sequence[RoundLike]) -> None:
        """Append the last of these; after an OSError the next call writes all of them anew."""
        if self._whole:
            self._whole = False
            with open(self._metrics, "a", encoding="utf-8") as file:
                file.write(_line(rounds[-1]))
        else:
            write_text(self._metrics, "".join(map(_line, rounds)))
        self._whole = True
        if self._events is not None:
            done = rounds[-1]
            for name, value in done.scalars().items():
                self._events.add_scalar(name, value, done.step)
            self._events.flush()

    def close(self) -> None:
        """Close the files."""
        if self._events is not None:
            self._events.close()


def _line(done: RoundLike) -> str:
    return json.dumps(done.as_dict()) + "\n"


def _events(folder: Path, step: int) -> SummaryWriter | None:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    # Rounds after the checkpoint will be run again.
    return SummaryWriter(str(folder), purge_step=step + 1 if step else None)
