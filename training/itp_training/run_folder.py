"""The folder of a run: its files' names, and the choice of a folder for a new run."""

from __future__ import annotations

from itertools import count
from pathlib import Path

from itp._util.command import UsageError
from itp_training import checkpoint
from itp_training.config import TrainingConfig
from itp_training.errors import CheckpointError

CHECKPOINT, CONFIG, METRICS, EVENTS = "checkpoint.pt", "config.json", "metrics.jsonl", "tensorboard"


def holds_run(folder: Path) -> bool:
    """Whether a run has left files in a folder."""
    return any((folder / name).exists() for name in (CHECKPOINT, CONFIG, METRICS))


def default_folder(kind: str, seed: int) -> Path:
    """Where a run goes without ``--out``; the kind is its service order, or ``set``."""
    return Path("runs") / f"{kind}-seed{seed}"


def free_folder(first: Path, *, tuned: bool) -> Path:
    """The default folder; for a run that starts from another one's weights the next free one beside it."""
    if not tuned:
        return first
    return next(
        folder for k in count(1) if not holds_run(folder := first.with_name(f"{first.name}-tuned{k}"))
    )


def make_folder(folder: Path) -> None:
    """Make a folder that is not there yet; UsageError if that fails."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--out {folder}: no folder can be made there: {error.strerror}") from None


def checkpoint_in(path: Path) -> Path:
    """The checkpoint that a path stands for: itself, or the one in this folder."""
    return path / CHECKPOINT if path.is_dir() else path


def configuration_of(path: Path) -> TrainingConfig:
    """The configuration in a checkpoint; CheckpointError if that cannot be used."""
    try:
        return TrainingConfig.from_dict(checkpoint.load(path)["config"])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: its configuration is wrong: {error}") from error
