"""The shipped models: what they say of themselves holds."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest

import itp
from itp import policies
from itp.cli import main
from itp.models.load import DEFAULT_MODEL, SHIPPED, load_model, shipped_models
from itp.policies.served import ModelPolicy
from itp.sim import scenario

NAME = "dqn_v1"
ORDERS = {"fifo": NAME, "srpt": f"{NAME}-srpt"}


SET = "set_v2"


def test_they_are_there_once():
    assert shipped_models() == [NAME, SET]
    assert DEFAULT_MODEL == SET


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
    assert [(model["name"], model["service_orders"]) for model in told] == [
        (NAME, ["fifo"]),
        (NAME, ["srpt"]),
        (SET, ["fifo", "srpt"]),
    ]
    for model in told:
        assert model["engine"] == "native"
        assert model["sha256"] == load_model(model["name"], model["service_orders"][0]).sha256[:12]
    assert main(["info"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert f"{told[0]['version']} for fifo" in printed
    assert f"{told[2]['version']} for fifo and srpt" in printed


def test_the_set_models_metadata():
    path = SHIPPED / f"{SET}.onnx"
    beside = json.loads(path.with_suffix(".json").read_text())
    model = load_model("default", "srpt")
    assert model.path == path
    assert model.schema == beside["schema"] == 2
    assert beside["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest() == model.sha256
    assert model.calibration is not None
    assert model.support is not None
    assert model.cap is not None
    assert model.cap.idle_factor <= 1.25
    assert 0.0 == model.preferences.typical < model.preferences.balanced < model.preferences.bulk == 1.0


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("n_streams", [1, 2, 3, 4, 6, 8, 12, 16])
def test_the_set_model_decides_for_any_number_of_streams(order, n_streams):
    clock = itp.ManualClock()
    with itp.TaskPartitioner("default", n_streams=n_streams, service_order=order, clock=clock) as p:
        for i in range(n_streams):
            p.update_stream(i, bandwidth_mbps=20.0 * (i + 1), latency_ms=5.0 + i)
        sizes = np.random.default_rng(n_streams).lognormal(13.0, 1.5, 60).astype(int) + 1
        by_model = 0
        for k, size in enumerate(sizes):
            clock.set(0.1 * (k + 1))
            d = p.partition_task(itp.Task(str(k), int(size)))
            assert sum(d.chunk_sizes) == size
            by_model += d.source == "native"
            p.report_outcome(d, 10.0, d.expected_time_s, True, streams={})
        assert by_model > 30 or n_streams == 1


@pytest.mark.parametrize(
    ("order", "rule", "ahead"), [("fifo", "single_best", 0.2), ("srpt", "least_completion_time", 0.05)]
)
@pytest.mark.parametrize("family", ["mixed", "heterogeneous", "inter-region", "lognormal-sizes"])
def test_the_set_model_is_better_than_the_rule_in_test_worlds(order, rule, ahead, family):
    worlds = scenario.load(family).with_options(service_order=order)
    seeds = np.arange(policies.TEST_SEED, policies.TEST_SEED + 16, dtype=np.uint64)

    def slowdown(policy):
        sim = itp.Simulator(worlds, seeds=seeds)
        policy.begin(sim)
        return np.exp(policies.mean_log_slowdown(policies.run(sim, policy)))

    assert slowdown(policies.make(f"{SET}:typical")) < (1.0 - ahead) * slowdown(policies.make(rule))


def test_a_long_steady_run_stays_within_what_training_saw():
    clock = itp.ManualClock()
    sizes = np.random.default_rng(0).lognormal(13.0, 1.0, 64).astype(int) + 1
    with itp.TaskPartitioner("default", clock=clock) as p:
        for i in range(4):
            p.update_stream(i, bandwidth_mbps=20.0 * (i + 1), latency_ms=5.0 + i)
        for k in range(20_000):
            clock.set(0.1 * (k + 1))
            d = p.partition_task(itp.Task("t", int(sizes[k % 64])))
            p.report_outcome(d, 10.0, d.expected_time_s, True, streams={})
        assert p.metrics().unsupported_decisions < 20
