"""Fitting guard and calibration of a model file again."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="the trainer needs PyTorch: pip install 'itp[train]'")
pytest.importorskip("onnx", reason="the trainer needs ONNX: pip install 'itp[train]'")

import onnx

import itp
from itp.errors import ModelError
from itp.models.load import SHIPPED, load_model
from itp_overhead import dense_chain
from itp_training import publish
from itp_training.export import with_metadata, write_model
from itp_training.sets.config import SetConfig
from itp_training.sets.publish import publish as publish_set
from itp_training.sets.trainer import SetTrainer

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


def test_tables_of_a_set_model_are_fitted_again(refit, tmp_path):
    config = SetConfig(
        streams=(2,),
        envs=(2,),
        batch_weights=(1.0,),
        tasks=15,
        widths=(16,) * 4,
        calibration_envs=8,
        validation_envs=2,
    )
    path = publish_set(SetTrainer(config), tmp_path, name="net")
    before = load_model(path)
    fitted = ("calibration", "calibration_figures")
    bare = {name: value for name, value in before.metadata.items() if name not in (*fitted, "sha256")}
    write_model(path, with_metadata(onnx.load(path), bare), bare)
    refit(path)
    after = load_model(path)
    assert {name: after.metadata[name] for name in fitted} == {name: before.metadata[name] for name in fitted}
    assert after.version == before.version
