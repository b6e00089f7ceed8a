"""From a trained set network to a model that can be served: calibration, metadata, file."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from itp import __version__
from itp._core.choose import Cap, Support
from itp._core.decider import Served
from itp.schema import SERVICE_ORDERS
from itp_training import calibration
from itp_training.collect import CALIBRATION_SEED
from itp_training.export import git_revision, write_set_model
from itp_training.sets.collect import draw_preferences
from itp_training.sets.config import SetConfig
from itp_training.sets.trainer import SetTrainer
from itp_training.sets.worlds import SetPolicy, training_scenario


def publish(trainer: SetTrainer, folder: Path, *, name: str) -> Path:
    """Fit what the metadata tells beside the weights, and write folder/name.onnx and .json.

    Raises
    ------
    ModelError
        The model cannot be served, or its engines differ; nothing is written.
    OSError
        It cannot be written; what stood there stands.
    """
    config, network = trainer.config, trainer.learner.network
    ranges = {name: np.stack(found, axis=1) for name, found in trainer.support.ranges.items()}
    served = Served(
        name,
        set_net=network.packed(),
        cap=Cap(idle_arrivals=config.idle_arrivals, idle_factor=config.idle_cap, factor=config.cap),
        support=Support(**ranges) if ranges else None,
    )
    metadata: dict[str, Any] = {
        "architecture": {"kind": "set network", "widths": list(config.widths)},
        "service_orders": list(SERVICE_ORDERS),
        "streams": list(config.streams),
        "preferences": {"typical": 0.0, "balanced": config.balanced, "bulk": 1.0},
        "cap": {"idle_arrivals": config.idle_arrivals, "idle_factor": config.idle_cap, "factor": config.cap},
        "support": trainer.support.as_dict() or None,
        **fit(served, config),
        "validation": trainer.rounds[-1].validation if trainer.rounds else None,
        "training": {
            "config": config.as_dict(),
            "seed": config.seed,
            "last_round": trainer.rounds[-1].as_dict() if trainer.rounds else None,
            "itp": __version__,
            "torch": torch.__version__,
            "git_revision": git_revision(),
            "date": datetime.now(timezone.utc).date().isoformat(),
        },
    }
    return write_set_model(network.arrays(), metadata, folder / f"{name}.onnx")


def fit(served: Served, config: SetConfig) -> dict[str, Any]:
    """The tables of time and confidence, fitted on decisions as they are served, and how good they are.

    Parameters
    ----------
    served : Served
        The model with its cap and support.
    config : SetConfig
        It was trained with.

    Returns
    -------
    dict
        Of the metadata: calibration, calibration_figures.
    """
    tables = calibration.fit(_plans(served, config, 0))
    return {
        "calibration": tables,
        "calibration_figures": calibration.measure(tables, _plans(served, config, 1)),
    }


def _plans(served: Served, config: SetConfig, kind: int) -> NDArray[np.void]:
    """Plans and what became of them over all numbers of streams, service orders and preferences."""
    count = config.calibration_envs
    first = np.uint64(CALIBRATION_SEED + kind * count)
    seeds = first + np.arange(count, dtype=np.uint64)
    preferences = draw_preferences(config, count, np.random.default_rng([config.seed, 2, kind]))
    return np.concatenate(
        [
            calibration.plans(training_scenario(config, n, order), SetPolicy(served, preferences), seeds)
            for n in config.streams
            for order in SERVICE_ORDERS
        ]
    )
