"""Fit guard and calibration of a model file again, on its decisions as they are served now.

    python training/refit.py src/itp/models/shipped/dqn_v1.onnx src/itp/models/shipped/dqn_v1-srpt.onnx

The weights stay; the metadata inside the file and beside it are replaced. The worlds are those that
training keeps for this (``itp_training.publish``), of the scenarios that the metadata name.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import onnx

from itp import Simulator
from itp._core.choose import Guard
from itp._core.decider import Served
from itp._util.command import exit_code
from itp.errors import ModelError
from itp.models.load import load_model
from itp.models.serving import serve
from itp.sim.choice import Choice
from itp_training.config import TrainingConfig
from itp_training.errors import ConfigError
from itp_training.export import with_metadata, write_model
from itp_training.publish import fit


class ModelWith:
    """A model's decisions under another guard than its own."""

    name = "model"

    def __init__(self, served: Served, guard: Guard | None) -> None:
        self.served = served
        self.guard = guard

    def begin(self, sim: Simulator) -> None:
        """Nothing to prepare."""

    def act(self, sim: Simulator) -> Choice:
        return sim.decide(self.served.q_values(sim.states), guard=self.guard)


def refit(path: Path) -> None:
    """Replace what is fitted in a model file that the trainer made."""
    model = load_model(path)
    try:
        config = TrainingConfig.from_dict(model.metadata["training"]["config"])
    except (KeyError, TypeError, ConfigError) as error:
        raise ModelError(f"{path}: its metadata do not say how it was trained: {error}") from None
    served = serve(model)
    metadata = {**model.metadata, **fit(lambda guard: ModelWith(served, guard), config)}
    metadata.pop("sha256", None)
    write_model(path, with_metadata(onnx.load(path), metadata), metadata)
    guard, figures = metadata["guard"], metadata["calibration_figures"]
    print(
        f"{path}: guard {guard['rule']} x {guard['threshold']:g}; of held-out decisions "
        f"{figures['interval_coverage']:.1%} within the 90 % interval, "
        f"confidence off by {figures['confidence_error']:.3f}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("models", nargs="+", type=Path, metavar="MODEL.onnx")
    args = parser.parse_args()
    for path in args.models:
        refit(path)
    return 0


if __name__ == "__main__":
    sys.exit(exit_code("refit.py", main))
