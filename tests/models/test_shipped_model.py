"""The shipped model: what it says of itself holds."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest

import itp
from itp import policies
from itp.cli import main
from itp.models.load import SHIPPED, load_model, shipped_models
from itp.policies.served import ModelPolicy
from itp.sim import scenario

NAME = "dqn_v1"
ORDERS = {"fifo": NAME, "srpt": f"{NAME}-srpt"}


def test_it_is_there_once():
    assert shipped_models() == [NAME]


@pytest.mark.parametrize(("order", "stem"), ORDERS.items())
def test_its_metadata(order, stem):
    path = SHIPPED / f"{stem}.onnx"
    beside = json.loads(path.with_suffix(".json").read_text())
    model = load_model(NAME, order)
    assert model.path == path
    assert beside["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest() == model.sha256
    assert model.service_order == beside["service_order"] == order
    assert model.guard is not None
    assert model.calibration is not None
    assert model.version == beside["version"]
    assert beside["training"]["config"]["service_order"] == order
    assert beside["architecture"]["hidden"] == [128, 128, 64]


@pytest.mark.parametrize("order", ORDERS)
def test_it_decides(order):
    with itp.TaskPartitioner(model=NAME, service_order=order) as p:
        for k in range(40):
            p.update_stream(k % 4, bandwidth_mbps=20.0 + 5 * (k % 7), latency_ms=10.0 + k)
            d = p.partition_task(itp.Task(str(k), 50_000 * (k + 1) ** 2))
            assert d.source in ("native", "guard")
            assert d.model_version.startswith(ORDERS[order])
            low, high = d.expected_time_interval_s
            assert 0.0 < low <= d.expected_time_s <= high
            assert 0.0 <= d.confidence <= 1.0


@pytest.mark.parametrize(
    ("order", "rule", "ahead"), [("fifo", "single_best", 0.15), ("srpt", "least_completion_time", 0.0)]
)
@pytest.mark.parametrize("family", ["mixed", "heterogeneous", "trace-driven"])
def test_it_is_better_than_the_rule_in_test_worlds(order, rule, ahead, family):
    worlds = scenario.load(family).with_options(service_order=order)
    seeds = np.arange(policies.TEST_SEED, policies.TEST_SEED + 16, dtype=np.uint64)

    def slowdown(policy):
        sim = itp.Simulator(worlds, seeds=seeds)
        policy.begin(sim)
        return np.exp(policies.mean_log_slowdown(policies.run(sim, policy)))

    assert slowdown(ModelPolicy(NAME)) < (1.0 - ahead) * slowdown(policies.make(rule))


def test_info_describes_it(capsys):
    assert main(["info", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["shipped_models"]
    assert [(model["name"], model["service_order"]) for model in told] == [(NAME, "fifo"), (NAME, "srpt")]
    for model in told:
        assert model["sha256"] == load_model(NAME, model["service_order"]).sha256[:12]
    assert main(["info"]) == 0
    assert f"{told[0]['version']} for fifo" in capsys.readouterr().out
