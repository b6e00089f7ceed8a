"""A training run, from the command line to the files it leaves."""

from __future__ import annotations

import argparse
import shlex
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import fields
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from itp import policies
from itp._util.command import UsageError
from itp._util.signals import interruptible
from itp.evaluation.text import label
from itp.models.load import VARIANT
from itp_training.config import TEACHERS
from itp_training.curves import write_curves
from itp_training.display import Display, clock, display, reading
from itp_training.errors import TrainingError
from itp_training.options import configured
from itp_training.publish import publish
from itp_training.records import read_into
from itp_training.run_files import RunFiles
from itp_training.run_folder import (
    CHECKPOINT,
    METRICS,
    checkpoint_in,
    configuration_of,
    default_folder,
    free_folder,
    holds_run,
    make_folder,
)
from itp_training.trainer import Interrupted, Moment, Round, Trainer


def train(args: argparse.Namespace) -> int:
    """Train to the end, or until stopped; 130 then."""
    torch.set_num_threads(args.threads)
    device = find_device(args.device)
    trainer, folder = _resumed(args, device) if args.resume else _started(args, device)
    resume = _resume_command(args, folder)
    teacher = TEACHERS[trainer.config.service_order]
    teacher_slowdown = trainer.validation.of_policy(policies.make(teacher))
    start_s = time.monotonic()
    shown = display(trainer, as_json=args.json, quiet=args.quiet)
    stopped = _train(trainer, folder, shown, resume)
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
    folder = args.out or free_folder(config, tuned=source is not None)
    if holds_run(folder):
        raise UsageError(
            f"{folder} holds a run: --resume goes on with it, --out FOLDER names another place, "
            f"--load-model {folder} starts a new run with its weights"
        )
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
    if not holds_run(folder):
        raise UsageError(f"--resume: there is no run in {folder}; name its folder with --out")
    trainer = Trainer.resume(folder / CHECKPOINT, device, args.save_freq)
    config = trainer.config
    asked = configured(args, config)
    different = [
        f"{name} = {_text(getattr(config, name))}, not {_text(getattr(asked, name))}"
        for name in (field.name for field in fields(config))
        if getattr(asked, name) != getattr(config, name)
    ]
    if different:
        raise UsageError(
            f"--resume: {folder} is a run with {'; '.join(different)}; it goes on as it began: leave the "
            f"options out, or start a new run with --load-model {folder}"
        )
    return trainer, folder


def _text(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _resume_command(args: argparse.Namespace, folder: Path) -> str:
    command = [*shlex.split(args.prog), "--resume", "--out", str(folder)]
    for option, value, usual in (
        ("--save-freq", args.save_freq, 100),
        ("--name", args.name, "dqn"),
        ("--device", args.device, "auto"),
        ("--threads", args.threads, 1),
    ):
        if value != usual:
            command += [option, str(value)]
    return shlex.join(command)


# --- its course, and its end ---


def _train(trainer: Trainer, folder: Path, shown: Display, resume: str) -> bool:
    """Run the trainer, keep its files and display up to date; returns whether it was stopped."""
    with ExitStack() as stack:
        files = RunFiles(folder, trainer.config, trainer.rounds)
        stack.callback(files.close)
        if not files.has_events:
            shown.note("note: no curves for TensorBoard: pip install tensorboard (it is in itp[train])")

        def finished(_: Round) -> None:
            shown.finished(trainer.rounds)
            try:
                files.add(trainer.rounds)
            except OSError as error:
                shown.note(f"warning: {folder / METRICS} cannot be written now: {error.strerror or error}")

        def not_saved(error: OSError) -> None:
            unit = "episode" if trainer.config.episodes else "update"
            shown.note(
                f"warning: no checkpoint at {unit} {trainer.rounds[-1].step}: {error.strerror or error}; "
                "the last one stands, and training goes on"
            )

        with shown, _stopping(trainer):
            return _run(trainer, finished, not_saved, shown.tick, resume)


def _run(
    trainer: Trainer,
    finished: Callable[[Round], None],
    not_saved: Callable[[OSError], None],
    tick: Callable[[Moment], None],
    resume: str,
) -> bool:
    """Run the trainer; returns whether it was stopped."""
    try:
        trainer.run(tick, finished, not_saved)
    except Interrupted:
        return True
    except BrokenPipeError:
        raise
    except OSError as error:
        raise TrainingError(
            f"{trainer.folder}: cannot be saved: {error.strerror or error}; the last checkpoint stands: "
            f"make room, then {resume}"
        ) from error
    return trainer.stop


@contextmanager
def _stopping(trainer: Trainer) -> Iterator[None]:
    """Let the first Ctrl-C or SIGTERM ask the run to stop, and a second one leave at once."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def stop(_number: int, _frame: FrameType | None) -> None:
        trainer.stop = True
        for number in before:
            signal.signal(number, signal.default_int_handler)

    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _write_curves(folder: Path, trainer: Trainer, teacher: str, teacher_slowdown: float) -> list[Path]:
    if not trainer.rounds:
        return []
    path = folder / "curves.png"
    write_curves(path, trainer.rounds, teacher, teacher_slowdown)
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
