"""A set model's training run, from the command line to the files it leaves."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

from itp._util.signals import interruptible
from itp_training import checkpoint
from itp_training.course import check_free, check_same, check_there, follow, resume_command
from itp_training.curves import Panel, draw, write_figure
from itp_training.display import clock, display
from itp_training.errors import CheckpointError
from itp_training.run_folder import CHECKPOINT, checkpoint_in, default_folder, free_folder, make_folder
from itp_training.sets.config import SetConfig
from itp_training.sets.options import DEFAULT_NAME, SET_SCHEMA, configured, threads
from itp_training.sets.publish import publish
from itp_training.sets.trainer import SetRound, SetTrainer

_FOLDER = "set"


def train(args: argparse.Namespace) -> int:
    """Train to the end, or until stopped; 130 then."""
    # On one thread of PyTorch a run ends in the same bits; the others are the simulator's.
    torch.set_num_threads(1)
    trainer, folder = _resumed(args) if args.resume else _started(args)
    resume = resume_command(args, folder, {"schema": 1, "name": None, "threads": None})
    start_s = time.monotonic()
    shown = display(trainer, as_json=args.json, quiet=args.quiet)
    stopped = follow(trainer, folder, shown, resume)
    model: Path | None = None
    written: list[Path] = []
    with interruptible():
        if trainer.rounds:
            written = [folder / "curves.png"]
            write_figure(written[0], curves(trainer.rounds))
        if not stopped:
            model = publish(trainer, folder, name=args.name or DEFAULT_NAME)
            written = [model, model.with_suffix(".json"), *written]
    last = trainer.rounds[-1] if trainer.rounds else None
    summary: dict[str, Any] = {
        "folder": str(folder),
        "model": model and str(model),
        "interrupted": stopped,
        "rounds": len(trainer.rounds),
        "decisions": trainer.decisions,
        "updates": trainer.learner.updates,
        "validation": last.validation if last else None,
        "duration_s": time.monotonic() - start_s,
    }
    lines = _summary(trainer, summary["duration_s"]) + [f"wrote {path}" for path in written]
    if model is not None:
        lines.append(f"to compare it with classical rules: itp evaluate --policy {model} single_best oracle")
    shown.end(summary, lines)
    if stopped:
        shown.note(f"{args.prog}: stopped and saved; to go on: {resume}")
        return 130
    return 0


def _started(args: argparse.Namespace) -> tuple[SetTrainer, Path]:
    """A new run, saved once: from its first moment on it can be resumed."""
    source = None if args.load_model is None else checkpoint_in(args.load_model)
    config = configured(args, None if source is None else _configuration_of(source))
    folder = args.out or free_folder(default_folder(_FOLDER, config.seed), tuned=source is not None)
    check_free(folder)
    trainer = SetTrainer(config, folder, threads(args))
    if source is not None:
        trainer.begin_with(source)
    make_folder(folder)
    trainer.save()
    return trainer, folder


def _resumed(args: argparse.Namespace) -> tuple[SetTrainer, Path]:
    folder = args.out or default_folder(_FOLDER, args.seed or 0)
    check_there(folder)
    trainer = SetTrainer.resume(folder / CHECKPOINT, threads(args))
    check_same(trainer.config, configured(args, trainer.config), folder)
    return trainer, folder


def _configuration_of(path: Path) -> SetConfig:
    try:
        return SetConfig.from_dict(checkpoint.load(path, SET_SCHEMA)["config"])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: its configuration is wrong: {error}") from error


def _summary(trainer: SetTrainer, duration_s: float) -> list[str]:
    """What the run came to, for people."""
    if not trainer.rounds:
        return []
    done = trainer.rounds[-1]
    lines = [
        f"{done.round} of {trainer.n_rounds} rounds, {done.decisions:,} decisions looked ahead from, "
        f"{done.updates:,} updates in {clock(duration_s)}",
        "against the best simple rule in the validation worlds, slowdown and mean time:",
    ]
    for name in done.validation:
        slowdown, mean_time = getattr(done, f"{name}_slowdown"), getattr(done, f"{name}_time")
        lines.append(f"  {name:8} {100 * (slowdown - 1):+.1f} %, {100 * (mean_time - 1):+.1f} %")
    return lines


def curves(rounds: list[SetRound]) -> Figure:
    """Slowdown and mean time over the best rule's by preference, loss, and what training played."""

    def by_preference(measure: str) -> dict[str, list[float]]:
        return {name: [getattr(r, f"{name}_{measure}") for r in rounds] for name in rounds[-1].validation}

    best = ("best simple rule", 1.0)
    panels = [
        Panel(title="slowdown over the best rule's", lines=by_preference("slowdown"), reference=best),
        Panel(title="mean time over the best rule's", lines=by_preference("time"), reference=best),
        Panel(title="loss", lines={"": [done.loss for done in rounds]}, first_colour=3),
        Panel(
            title="slowdown in training, exploration included",
            lines={"": [done.slowdown for done in rounds]},
            first_colour=4,
        ),
    ]
    return draw(panels, [done.step for done in rounds], "rounds")
