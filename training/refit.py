"""Fit guard and calibration of a model file again, on its decisions as they are served now.

    python training/refit.py src/itp/models/shipped/dqn_v1.onnx src/itp/models/shipped/dqn_v1-srpt.onnx

The weights stay; the metadata inside the file and beside it are replaced. The worlds are those that
training keeps for this (``itp_training.publish``), of the scenarios that the metadata name.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import onnx

from itp import Simulator
from itp._core.choose import Guard
from itp._core.decider import Served
from itp._util.command import exit_code
from itp.errors import ModelError
from itp.models.load import Model, load_model
from itp.models.serving import serve
from itp.schema import SET_SCHEMA
from itp.sim.choice import Choice
from itp_training.config import TrainingConfig
from itp_training.errors import ConfigError
from itp_training.export import with_metadata, write_model
from itp_training.publish import fit
from itp_training.sets import publish
from itp_training.sets.config import SetConfig


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
        fitted = _fitted(model, model.metadata["training"]["config"])
    except (KeyError, TypeError, ConfigError) as error:
        raise ModelError(f"{path}: its metadata do not say how it was trained: {error}") from None
    metadata = {**model.metadata, **fitted}
    metadata.pop("sha256", None)
    write_model(path, with_metadata(onnx.load(path), metadata), metadata)
    guard, figures = metadata.get("guard"), metadata["calibration_figures"]
    said = f"guard {guard['rule']} x {guard['threshold']:g}; " if guard else ""
    print(
        f"{path}: {said}of held-out decisions "
        f"{figures['interval_coverage']:.1%} within the 90 % interval, "
        f"confidence off by {figures['confidence_error']:.3f}"
    )


def _fitted(model: Model, config: dict[str, Any]) -> dict[str, Any]:
    """What its metadata should hold of what is fitted, by the configuration that it was trained with."""
    served = serve(model)
    if model.schema == SET_SCHEMA:
        return publish.fit(served, SetConfig.from_dict(config))
    return fit(lambda guard: ModelWith(served, guard), TrainingConfig.from_dict(config))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("models", nargs="+", type=Path, metavar="MODEL.onnx")
    args = parser.parse_args()
    for path in args.models:
        refit(path)
    return 0


if __name__ == "__main__":
    sys.exit(exit_code("refit.py", main))
