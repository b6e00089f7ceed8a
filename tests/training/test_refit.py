"""Fitting guard and calibration of a model file again."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="the trainer needs PyTorch: pip install 'itp[train]'")

import itp
from itp.errors import ModelError
from itp.models.load import SHIPPED, load_model
from itp_overhead import dense_chain
from itp_training import publish

SCRIPT = Path(__file__).parents[2] / "training" / "refit.py"


@pytest.fixture
def refit(monkeypatch):
    monkeypatch.setattr(publish, "WORLDS", 4)
    spec = importlib.util.spec_from_file_location("refit", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.refit


def test_the_weights_stay_and_what_is_fitted_is_replaced(refit, tmp_path):
    path = Path(shutil.copy(SHIPPED / "dqn_v1.onnx", tmp_path))
    before = load_model(path)
    refit(path)
    after = load_model(path)
    states = np.random.default_rng(0).random((50, 20), dtype=np.float32)
    np.testing.assert_array_equal(before.net(states), after.net(states))
    assert after.version == before.version
    assert after.metadata["calibration"] != before.metadata["calibration"]
    assert after.metadata["training"] == before.metadata["training"]
    assert json.loads(path.with_suffix(".json").read_text())["sha256"] == after.sha256
    with itp.TaskPartitioner(path) as p:
        assert p.partition_task(itp.Task("t", 10**7)).expected_time_interval_s is not None


def test_a_model_that_does_not_say_how_it_was_trained_is_refused(refit, tmp_path):
    with pytest.raises(ModelError, match="do not say how it was trained"):
        refit(dense_chain(tmp_path / "net.onnx"))
