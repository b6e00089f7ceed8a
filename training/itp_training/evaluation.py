"""``itp train --evaluate``: a trained network against classical rules, in test worlds."""

from __future__ import annotations

import argparse
import shlex
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import torch
from rich.progress import BarColumn, TaskProgressColumn, TimeRemainingColumn

from itp import evaluation
from itp._util import console
from itp._util.command import UsageError
from itp._util.signals import interruptible
from itp.evaluation.report import Report
from itp.evaluation.terminal import print_report
from itp.sim import scenario
from itp_training.run_folder import checkpoint_in, holds_run, make_folder
from itp_training.session import export_model, find_device
from itp_training.trainer import Trainer

RIVALS = ("round_robin", "single_best", "least_completion_time", "size_interval", "oracle")
"""The policies that a model is compared with; `itp evaluate` knows them all."""


def evaluate(args: argparse.Namespace) -> int:
    """Compare a model with classical rules in test worlds, and write the report to the folder `--out`."""
    torch.set_num_threads(args.threads)
    source = checkpoint_in(args.load_model)
    if args.out is not None and holds_run(args.out) and args.out.resolve() != source.parent.resolve():
        raise UsageError(
            f"--out {args.out} holds another run, whose model would be replaced; name another folder"
        )
    trainer = Trainer.resume(source, find_device(args.device))
    with ExitStack() as stack:
        if args.out is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        else:
            folder = args.out
            make_folder(folder)
        stack.enter_context(interruptible())
        model = export_model(trainer, folder, args.name)
        report = _compared(args, model, trainer.config.service_order)
        written = _reported(report, folder) if args.out is not None else []
    if args.json:
        print(report.to_json())
    elif not args.quiet:
        print_report(report, console.output())
    for path in written:
        print(f"wrote {path}", file=sys.stderr)
    return 0


def _compared(args: argparse.Namespace, model: Path, order: str) -> Report:
    messages = console.messages()
    messages.quiet = args.quiet
    columns = (BarColumn(), TaskProgressColumn(), TimeRemainingColumn(), console.description())
    with console.progress(messages, *columns) as progress:
        bar = progress.add_task("", total=1.0)
        report = evaluation.compare(
            [str(model), *RIVALS],
            args.scenario or scenario.FAMILIES,
            args.episodes or evaluation.DEFAULT_SEEDS,
            service_orders=[order],
            progress=lambda done, title: progress.update(bar, completed=done, description=title),
        )
    command = [*shlex.split(args.prog), "--load-model", str(args.load_model), "--evaluate"]
    for name in args.scenario or ():
        command += ["--scenario", name]
    if args.episodes is not None:
        command += ["--episodes", str(args.episodes)]
    return replace(report, configuration=replace(report.configuration, command=shlex.join(command)))


def _reported(report: Report, folder: Path) -> list[Path]:
    page, tables, figures = (folder / f"evaluation.{kind}" for kind in ("html", "md", "json"))
    report.to_html(page)
    report.to_markdown(tables)
    report.to_json(figures)
    return [page, tables, figures]
