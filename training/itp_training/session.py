"""A training run, from the command line to the files it leaves."""

from __future__ import annotations

import argparse
import shlex
import time
from pathlib import Path
from typing import Any

import torch

from itp import policies
from itp._util.signals import interruptible
from itp.evaluation.text import label
from itp.models.load import VARIANT
from itp_training.config import TEACHERS
from itp_training.course import check_free, check_same, check_there, follow, resume_command
from itp_training.curves import curves, write_figure
from itp_training.display import clock, display, reading
from itp_training.errors import TrainingError
from itp_training.options import USUAL, configured
from itp_training.publish import publish
from itp_training.records import read_into
from itp_training.run_folder import (
    CHECKPOINT,
    checkpoint_in,
    configuration_of,
    default_folder,
    free_folder,
    make_folder,
)
from itp_training.trainer import Trainer


def train(args: argparse.Namespace) -> int:
    """Train to the end, or until stopped; 130 then."""
    torch.set_num_threads(args.threads)
    device = find_device(args.device)
    trainer, folder = _resumed(args, device) if args.resume else _started(args, device)
    resume = resume_command(args, folder, USUAL)
    teacher = TEACHERS[trainer.config.service_order]
    teacher_slowdown = trainer.validation.of_policy(policies.make(teacher))
    start_s = time.monotonic()
    shown = display(trainer, as_json=args.json, quiet=args.quiet)
    stopped = follow(trainer, folder, shown, resume)
    model: Path | None = None
    with interruptible():
        written = _write_curves(folder, trainer, teacher, teacher_slowdown)
        if not stopped:
            model = export_model(trainer, folder, args.name)
            written = [model, model.with_suffix(".json"), *written]
    last = trainer.rounds[-1] if trainer.rounds else None
    summary = {
        "folder": str(folder),
        "model": model and str(model),
        "interrupted": stopped,
        "episodes": last.episodes if last else 0,
        "updates": trainer.learner.updates,
        "records_read": trainer.n_records,
        "records_kept": len(trainer.learner.replay.recorded),
        "validation_slowdown": last.validation_slowdown if last else None,
        "teacher": teacher,
        "teacher_slowdown": teacher_slowdown,
        "duration_s": time.monotonic() - start_s,
    }
    lines = _summary(trainer, summary)
    lines += [f"wrote {path}" for path in written]
    if not stopped:
        evaluation = shlex.join([*shlex.split(args.prog), "--load-model", str(folder), "--evaluate"])
        lines.append(f"to compare it with classical rules: {evaluation}")
    shown.end(summary, lines)
    if stopped:
        shown.note(f"{args.prog}: stopped and saved; to go on: {resume}")
        return 130
    return 0


def export_model(trainer: Trainer, folder: Path, name: str) -> Path:
    """Write the model file of a run's network, under the name its service order looks for."""
    variant = VARIANT if trainer.config.service_order == "srpt" else ""
    return publish(
        trainer.learner.network, trainer.config, folder, name=name + variant, rounds=trainer.rounds
    )


def find_device(name: str) -> torch.device:
    """The device of ``--device``; TrainingError for a GPU that is not there."""
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise TrainingError(
            "--device cuda: PyTorch finds no GPU; look at nvidia-smi, or whether this PyTorch "
            f"({torch.__version__}) is built for CUDA"
        )
    return torch.device("cuda" if name != "cpu" and available else "cpu")


# --- the start of a run ---


def _started(args: argparse.Namespace, device: torch.device) -> tuple[Trainer, Path]:
    """A new run, saved once: from its first moment on it can be resumed."""
    source = None if args.load_model is None else checkpoint_in(args.load_model)
    config = configured(args, None if source is None else configuration_of(source))
    folder = args.out or free_folder(
        default_folder(config.service_order, config.seed), tuned=source is not None
    )
    check_free(folder)
    trainer = Trainer(config, device, folder, args.save_freq)
    if source is not None:
        trainer.begin_with(source)
    if config.experiences:
        with interruptible(), reading(quiet=args.quiet or args.json) as tick:
            trainer.n_records = read_into(trainer.learner.replay.recorded, config, tick)
    make_folder(folder)
    trainer.save()
    return trainer, folder


def _resumed(args: argparse.Namespace, device: torch.device) -> tuple[Trainer, Path]:
    folder = args.out or default_folder(args.service_order or "fifo", args.seed or 0)
    check_there(folder)
    trainer = Trainer.resume(folder / CHECKPOINT, device, args.save_freq)
    check_same(trainer.config, configured(args, trainer.config), folder)
    return trainer, folder


# --- its end ---


def _write_curves(folder: Path, trainer: Trainer, teacher: str, teacher_slowdown: float) -> list[Path]:
    if not trainer.rounds:
        return []
    path = folder / "curves.png"
    write_figure(path, curves(trainer.rounds, teacher, teacher_slowdown))
    return [path]


def _summary(trainer: Trainer, summary: dict[str, Any]) -> list[str]:
    """What the run came to, for people."""
    lines = []
    if trainer.n_records:
        kept = len(trainer.learner.replay.recorded)
        rest = "" if kept == trainer.n_records else f"; the last {kept:,} were kept (buffer_size)"
        lines.append(f"learnt from {trainer.n_records:,} records{rest}")
    if trainer.rounds:
        config, done = trainer.config, trainer.rounds[-1]
        teacher = f"{label(summary['teacher'])} {summary['teacher_slowdown']:.3f}"
        amount = f"{done.episodes} of {config.episodes} episodes"
        if not config.episodes:
            amount = f"{done.updates} of {config.updates} updates"
        lines.append(
            f"{amount} in {clock(summary['duration_s'])}; slowdown in the validation worlds "
            f"{done.validation_slowdown:.3f}, of {teacher}"
        )
    return lines
