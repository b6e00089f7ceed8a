"""The trainer's options, and the configuration they ask for; importing this module imports no PyTorch."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

from itp._util.command import UsageError, check_name
from itp.schema import SERVICE_ORDERS
from itp.sim import scenario
from itp_training.config import PRESETS, TRAINING_FAMILIES, TrainingConfig, preset
from itp_training.sets import options as sets
from itp_training.sets.options import SET_SCHEMA

SCHEMAS = (1, SET_SCHEMA)
USUAL: dict[str, object] = {"save_freq": 100, "name": "dqn", "device": "auto", "threads": 1}
"""What options are for Q-networks that are not given."""

DEVICES = ("auto", "cpu", "cuda")
_MAX_THREADS = 256
_CHANGES = ("episodes", "batch_size", "seed", "service_order")


def build_parser(prog: str) -> argparse.ArgumentParser:
    """The parser of the trainer, under the name it was started by."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Train a Q-network in the simulator, from records of experience, or both, and export it "
        "to ONNX. Ctrl-C saves and leaves; --resume goes on and ends in the network of an unbroken run.",
    )
    add = parser.add_argument
    add(
        "--schema",
        type=int,
        choices=SCHEMAS,
        default=1,
        help="of the model: 1, a Q-network for four streams and one service order; 2, a set network for any "
        "number of streams, both service orders and any preference (default: %(default)s)",
    )
    add(
        "--episodes",
        metavar="N",
        type=int,
        help="to train for (default: 1000), 0 learns from --experiences alone; or, with --evaluate, to "
        "evaluate in",
    )
    add("--batch-size", metavar="N", type=int, help="decisions an update (default: the preset's)")
    add(
        "--save-freq",
        metavar="N",
        type=int,
        help="episodes between checkpoints (default: 100)",
    )
    add("--seed", metavar="S", type=int, help="of everything random (default: 0)")
    add(
        "--service-order",
        choices=SERVICE_ORDERS,
        help="how streams serve their chunks (default: fifo)",
    )
    add(
        "--experiences",
        metavar="FOLDER|FILE",
        action="append",
        help="learn from these records too: an experience log, or a Parquet or NPZ file; can be repeated",
    )
    add(
        "--preset",
        choices=tuple(PRESETS),
        help="what all other settings begin with (default: experience with --experiences, else default)",
    )
    add(
        "--set",
        metavar="NAME=VALUE",
        type=_setting,
        action="append",
        default=[],
        dest="settings",
        help="any setting of docs/tuning.md, lists by commas; can be repeated",
    )
    add(
        "--scenario",
        metavar="NAME|FILE",
        action="append",
        help="can be repeated (default: those of docs/training.md)",
    )
    add("--device", choices=DEVICES, default="auto", help="auto takes a GPU where there is one")
    add(
        "--threads",
        metavar="N",
        type=int,
        help="of PyTorch; schema 2: of the simulator (default: 1; schema 2: all CPUs)",
    )
    add(
        "--out",
        metavar="FOLDER",
        type=Path,
        help="of the run (default: runs/ORDER-seedSEED; schema 2: runs/set-seedSEED)",
    )
    add("--name", help="of the model files (default: dqn, and dqn-srpt for srpt; schema 2: set)")
    add("--resume", action="store_true", help="go on with the run in --out")
    add(
        "--load-model",
        metavar="PATH",
        type=Path,
        help="begin with the weights of a checkpoint or a run's folder",
    )
    add("--evaluate", action="store_true", help="do not train: hold --load-model against classical rules")
    add("--json", action="store_true", help="a JSON object a round and one at the end, on standard output")
    add("--quiet", action="store_true", help="nothing but warnings, errors and the end")
    parser.set_defaults(prog=prog)
    return parser


def configured(args: argparse.Namespace, base: TrainingConfig | None = None) -> TrainingConfig:
    """The configuration that the options ask for; what they leave open is `base`'s, or the preset's.

    Raises
    ------
    ConfigError
        A setting is wrong, or does not go with another one.
    """
    values = asdict(base or TrainingConfig())
    if args.preset or base is None:
        values = asdict(preset(args.preset or "default"))
    changes: dict[str, Any] = {name: getattr(args, name) for name in _CHANGES}
    if args.scenario:
        changes["scenarios"] = tuple(args.scenario)
    if args.experiences:
        changes["experiences"] = tuple(args.experiences)
        if not args.preset and not _learns_from_records(values):
            values |= PRESETS["experience"]
    elif not args.resume:
        # Another run's records are not this one's.
        changes["experiences"] = ()
    values |= {name: value for name, value in changes.items() if value is not None}
    # All at once: some settings only go together.
    return TrainingConfig(**{**values, **TrainingConfig.parse(dict(args.settings))})


def _learns_from_records(values: dict[str, Any]) -> bool:
    return bool(values["td_weight"]) and values["objective"] == "reward"


def _setting(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE; got {text!r}")
    return name.strip().replace("-", "_"), value


def check(args: argparse.Namespace) -> None:
    """Refuse what makes no sense, before anything heavy is loaded.

    Raises
    ------
    UsageError, ConfigError
    """
    if args.save_freq is not None and args.save_freq < 1:
        raise UsageError(f"--save-freq must be at least 1; got {args.save_freq}")
    if args.threads is not None and not 1 <= args.threads <= _MAX_THREADS:
        raise UsageError(f"--threads must be from 1 to {_MAX_THREADS}; got {args.threads}")
    if args.name is not None and (not args.name or Path(args.name).name != args.name):
        raise UsageError(f"--name must be a file's name without folder and ending; got {args.name!r}")
    for name in args.scenario or ():
        if not Path(name).is_file():
            own = () if args.evaluate else sets.SCENARIOS if args.schema == SET_SCHEMA else TRAINING_FAMILIES
            check_name("--scenario", name, tuple(dict.fromkeys((*scenario.FAMILIES, *own))))
    if args.load_model is not None and args.load_model.suffix == ".onnx":
        raise UsageError(
            f"--load-model {args.load_model}: weights come from a run's folder or its checkpoint.pt; an "
            "exported model is evaluated by `itp evaluate --policy`"
        )
    if args.resume and args.load_model is not None:
        raise UsageError("--resume goes on with the run in --out; --load-model begins a new one: choose one")
    if args.schema == SET_SCHEMA:
        sets.check(args)
    else:
        _check(args)


def _check(args: argparse.Namespace) -> None:
    """The same for Q-networks; what is left open gets its default."""
    for name, value in USUAL.items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    for path in args.experiences or ():
        if not Path(path).exists():
            raise UsageError(f"--experiences {path}: no such file or folder")
    if args.resume and args.experiences:
        raise UsageError("--resume goes on with the records in its checkpoint: leave --experiences out")
    if args.evaluate:
        _check_evaluation(args)
    elif not args.resume and args.load_model is None:
        configured(args)


def _check_evaluation(args: argparse.Namespace) -> None:
    if args.load_model is None:
        raise UsageError("--evaluate needs --load-model PATH: a checkpoint.pt or a run's folder")
    if args.episodes is not None and args.episodes < 1:
        raise UsageError(f"--episodes must be at least 1; got {args.episodes}")
    given = {
        "--batch-size": args.batch_size,
        "--seed": args.seed,
        "--service-order": args.service_order,
        "--preset": args.preset,
        "--experiences": args.experiences,
        "--set": args.settings or None,
    }
    for option, value in given.items():
        if value is not None:
            raise UsageError(f"{option} is for training; --evaluate takes the model as it is")
