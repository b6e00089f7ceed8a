"""What the trainer's options mean for set models; importing this module imports no PyTorch."""

from __future__ import annotations

import argparse
import os
from typing import Any

from itp._util.command import UsageError
from itp_training.sets.config import SCENARIOS, SetConfig

__all__ = ["DEFAULT_NAME", "SCENARIOS", "SET_SCHEMA", "check", "configured", "threads"]

SET_SCHEMA = 2
DEFAULT_NAME = "set"
"""Of the model files."""

_OTHERS = {
    "--episodes": "--set rounds=N and envs=N,... say how long to train",
    "--service-order": "one model serves both",
    "--preset": "there are none",
    "--experiences": "records hold states of schema 1",
    "--save-freq": "a checkpoint follows every round",
    "--evaluate": "itp evaluate --policy MODEL.onnx compares its model file",
}


def check(args: argparse.Namespace) -> None:
    """Refuse options that make no sense for set models.

    Raises
    ------
    UsageError, ConfigError
    """
    for option, why in _OTHERS.items():
        if getattr(args, option[2:].replace("-", "_")):
            raise UsageError(f"{option} does not go with --schema 2: {why}")
    if args.device == "cuda":
        raise UsageError("--device cuda does not go with --schema 2: its look-ahead runs on the CPU")
    if not args.resume and args.load_model is None:
        configured(args)


def configured(args: argparse.Namespace, base: SetConfig | None = None) -> SetConfig:
    """The configuration that the options ask for; what they leave open is `base`'s, or the default.

    Raises
    ------
    ConfigError
        A setting is wrong, or does not go with another one.
    """
    values: dict[str, Any] = SetConfig.defaults() if base is None else base.as_dict()
    for name in ("seed", "batch_size"):
        if getattr(args, name) is not None:
            values[name] = getattr(args, name)
    if args.scenario:
        values["scenarios"] = tuple(args.scenario)
    return SetConfig.from_dict({**values, **SetConfig.parse(dict(args.settings))})


def threads(args: argparse.Namespace) -> int:
    """Of the simulator: as many as the CPUs this process may use, unless --threads says it."""
    if args.threads is not None:
        return int(args.threads)
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on Linux
        return os.cpu_count() or 1
