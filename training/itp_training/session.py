"""A training run, or an evaluation, from the command line to the files that stay."""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import fields, replace
from itertools import count
from pathlib import Path
from types import FrameType

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from itp import evaluation, policies
from itp._util.command import UsageError
from itp._util.signals import interruptible
from itp.evaluation.report import Report
from itp.evaluation.terminal import print_report
from itp.evaluation.text import label
from itp.models.load import VARIANT
from itp.sim import scenario
from itp_training import checkpoint
from itp_training.cli import configured
from itp_training.config import TEACHERS, TrainingConfig
from itp_training.curves import write_curves
from itp_training.display import clock, display
from itp_training.errors import CheckpointError, TrainingError
from itp_training.publish import publish
from itp_training.record import CONFIG, METRICS, Record
from itp_training.trainer import CHECKPOINT, Interrupted, Moment, Round, Trainer

RIVALS = ("round_robin", "single_best", "least_completion_time", "size_interval", "oracle")
"""Whom `--evaluate` holds a model against; `itp evaluate` knows them all."""


def train(args: argparse.Namespace) -> int:
    """Train to the end, or until stopped; 130 then."""
    torch.set_num_threads(args.threads)
    device = _device(args.device)
    trainer, folder = _resumed(args, device) if args.resume else _begun(args, device)
    go_on = _command(args, folder)
    teacher = TEACHERS[trainer.config.service_order]
    teacher_slowdown = trainer.validation.of_policy(policies.make(teacher))
    begin_s = time.monotonic()
    model: Path | None = None
    with ExitStack() as stack:
        record = Record(folder, trainer.config, trainer.rounds)
        stack.callback(record.close)
        shown = display(trainer.rounds, trainer.n_rounds, as_json=args.json, quiet=args.quiet)
        if not record.has_events:
            shown.note("note: no curves for TensorBoard: pip install tensorboard (it is in itp[train])")

        def finished(_: Round) -> None:
            shown.finished(trainer.rounds)
            try:
                record.add(trainer.rounds)
            except OSError as error:
                shown.note(f"warning: {folder / METRICS} cannot be written now: {error.strerror or error}")

        def not_saved(error: OSError) -> None:
            shown.note(
                f"warning: no checkpoint at episode {trainer.episodes}: {error.strerror or error}; "
                "the last one stands, and training goes on"
            )

        with shown, _stopping(trainer):
            stopped = _run(trainer, finished, not_saved, shown.tick, go_on)
    with interruptible():
        written = _pictured(folder, trainer, teacher, teacher_slowdown)
        if not stopped:
            model = _export(trainer, folder, args.name)
            written = [model, model.with_suffix(".json"), *written]
    duration_s = time.monotonic() - begin_s
    last = trainer.rounds[-1] if trainer.rounds else None
    summary = {
        "folder": str(folder),
        "model": model and str(model),
        "interrupted": stopped,
        "episodes": last.episodes if last else 0,
        "updates": trainer.learner.updates,
        "validation_slowdown": last.validation_slowdown if last else None,
        "teacher": teacher,
        "teacher_slowdown": teacher_slowdown,
        "duration_s": duration_s,
    }
    lines = []
    if last:
        lines.append(
            f"{last.episodes} of {trainer.config.episodes} episodes in {clock(duration_s)}; slowdown in the "
            f"validation worlds {last.validation_slowdown:.3f}, of {label(teacher)} {teacher_slowdown:.3f}"
        )
    lines += [f"wrote {path}" for path in written]
    if not stopped:
        evaluation_of = shlex.join([*shlex.split(args.prog), "--load-model", str(folder), "--evaluate"])
        lines.append(f"to hold it against classical rules: {evaluation_of}")
    shown.end(summary, lines)
    if stopped:
        shown.note(f"{args.prog}: stopped and saved; to go on: {go_on}")
        return 130
    return 0


def evaluate(args: argparse.Namespace) -> int:
    """Hold a model against classical rules in test worlds; write the report where `--out` says."""
    torch.set_num_threads(args.threads)
    source = _checkpoint_in(args.load_model)
    if args.out is not None and _holds_run(args.out) and args.out.resolve() != source.parent.resolve():
        raise UsageError(
            f"--out {args.out} holds another run, whose model would be replaced; name another folder"
        )
    trainer = Trainer.resume(source, _device(args.device))
    with ExitStack() as stack:
        if args.out is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        else:
            folder = args.out
            _make(folder)
        stack.enter_context(interruptible())
        model = _export(trainer, folder, args.name)
        report = _compared(args, model, trainer.config.service_order)
        written = _reported(report, folder) if args.out is not None else []
    if args.json:
        print(report.to_json())
    elif not args.quiet:
        print_report(report, Console(file=sys.stdout, highlight=False))
    for path in written:
        print(f"wrote {path}", file=sys.stderr)
    return 0


# --- where a run begins ---


def _device(name: str) -> torch.device:
    there = torch.cuda.is_available()
    if name == "cuda" and not there:
        raise TrainingError(
            "--device cuda: PyTorch finds no GPU; look at nvidia-smi, or whether this PyTorch "
            f"({torch.__version__}) is built for CUDA"
        )
    return torch.device("cuda" if name != "cpu" and there else "cpu")


def _begun(args: argparse.Namespace, device: torch.device) -> tuple[Trainer, Path]:
    """A new run, saved once: from its first moment on it can be resumed."""
    source = None if args.load_model is None else _checkpoint_in(args.load_model)
    config = configured(args, None if source is None else _configuration(source))
    folder = args.out or _free(config, tuned=source is not None)
    if _holds_run(folder):
        raise UsageError(
            f"{folder} holds a run: --resume goes on with it, --out FOLDER names another place, "
            f"--load-model {folder} begins a new run with its weights"
        )
    trainer = Trainer(config, device, folder, args.save_freq)
    if source is not None:
        trainer.begin_with(source)
    _make(folder)
    trainer.save()
    return trainer, folder


def _make(folder: Path) -> None:
    """The folder, if it is not there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--out {folder}: no folder can be made there: {error.strerror}") from None


def _resumed(args: argparse.Namespace, device: torch.device) -> tuple[Trainer, Path]:
    folder = args.out or _default(args.service_order or "fifo", args.seed or 0)
    if not _holds_run(folder):
        raise UsageError(f"--resume: there is no run in {folder}; name its folder with --out")
    trainer = Trainer.resume(folder / CHECKPOINT, device, args.save_freq)
    config = trainer.config
    wanted = configured(args, config)
    different = [
        f"{name} = {_words(getattr(config, name))}, not {_words(getattr(wanted, name))}"
        for name in (field.name for field in fields(config))
        if getattr(wanted, name) != getattr(config, name)
    ]
    if different:
        raise UsageError(
            f"--resume: {folder} is a run with {'; '.join(different)}; it goes on as it began: leave the "
            f"options out, or begin a new run with --load-model {folder}"
        )
    return trainer, folder


def _words(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _holds_run(folder: Path) -> bool:
    return any((folder / name).exists() for name in (CHECKPOINT, CONFIG, METRICS))


def _default(order: str, seed: int) -> Path:
    return Path("runs") / f"{order}-seed{seed}"


def _free(config: TrainingConfig, *, tuned: bool) -> Path:
    """The default folder; where other weights begin a run it is another run every time."""
    first = _default(config.service_order, config.seed)
    if not tuned:
        return first
    return next(
        folder for k in count(1) if not _holds_run(folder := first.with_name(f"{first.name}-tuned{k}"))
    )


def _checkpoint_in(path: Path) -> Path:
    return path / CHECKPOINT if path.is_dir() else path


def _configuration(path: Path) -> TrainingConfig:
    try:
        return TrainingConfig.from_dict(checkpoint.load(path)["config"])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: its configuration is wrong: {error}") from error


def _command(args: argparse.Namespace, folder: Path) -> str:
    """What goes on with this run."""
    words = [*shlex.split(args.prog), "--resume", "--out", str(folder)]
    for option, value, usual in (
        ("--save-freq", args.save_freq, 100),
        ("--name", args.name, "dqn"),
        ("--device", args.device, "auto"),
        ("--threads", args.threads, 1),
    ):
        if value != usual:
            words += [option, str(value)]
    return shlex.join(words)


# --- its course, and its end ---


def _run(
    trainer: Trainer,
    finished: Callable[[Round], None],
    not_saved: Callable[[OSError], None],
    tick: Callable[[Moment], None],
    go_on: str,
) -> bool:
    """Run; whether it was stopped."""
    try:
        trainer.run(tick, finished, not_saved)
    except Interrupted:
        return True
    except BrokenPipeError:
        raise
    except OSError as error:
        raise TrainingError(
            f"{trainer.folder}: cannot be saved: {error.strerror or error}; the last checkpoint stands: "
            f"make room, then {go_on}"
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


def _pictured(folder: Path, trainer: Trainer, teacher: str, teacher_slowdown: float) -> list[Path]:
    if not trainer.rounds:
        return []
    path = folder / "curves.png"
    write_curves(path, trainer.rounds, teacher, teacher_slowdown)
    return [path]


def _export(trainer: Trainer, folder: Path, name: str) -> Path:
    """The model file of a run's network, under the name its service order looks for."""
    variant = VARIANT if trainer.config.service_order == "srpt" else ""
    return publish(
        trainer.learner.network, trainer.config, folder, name=name + variant, rounds=trainer.rounds
    )


# --- evaluation ---


def _compared(args: argparse.Namespace, model: Path, order: str) -> Report:
    console = Console(stderr=True)
    columns = (BarColumn(), TaskProgressColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    hidden = not console.is_terminal or args.quiet
    with Progress(*columns, console=console, disable=hidden, transient=True) as progress:
        bar = progress.add_task("", total=1.0)
        report = evaluation.compare(
            [str(model), *RIVALS],
            args.scenario or scenario.FAMILIES,
            args.episodes or evaluation.DEFAULT_SEEDS,
            service_orders=[order],
            progress=lambda done, title: progress.update(bar, completed=done, description=title),
        )
    words = [*shlex.split(args.prog), "--load-model", str(args.load_model), "--evaluate"]
    for name in args.scenario or ():
        words += ["--scenario", name]
    if args.episodes is not None:
        words += ["--episodes", str(args.episodes)]
    return replace(report, configuration=replace(report.configuration, command=shlex.join(words)))


def _reported(report: Report, folder: Path) -> list[Path]:
    page, tables, figures = (folder / f"evaluation.{kind}" for kind in ("html", "md", "json"))
    report.to_html(page)
    report.to_markdown(tables)
    report.to_json(figures)
    return [page, tables, figures]
