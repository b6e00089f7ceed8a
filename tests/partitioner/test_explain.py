"""What explanations say of a set model's decisions: the inputs that carried them, and what was believed."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest

import itp
from itp._core.choose import Cap, Support
from itp._core.decider import Decider, Served
from itp._core.features import CANDIDATE_NAMES, CONTEXT_NAMES, STREAM_NAMES
from itp._core.setnet import SetNet
from itp.explain import explain
from itp.schema import CANDIDATE_FEATURES, CONTEXT_FEATURES, STREAM_FEATURES
from set_models import forward, random_arrays, set_file

MB = 10**6
ARRAYS = ("streams", "context", "candidates", "members")


def decider(n=4, arrays=None, *, clock=None, support=None, cap=None, order="fifo", **options):
    """A decider by a set model, without a cap unless there is one."""
    network = itp.NetworkState(n, order, clock or itp.ManualClock())
    for i in range(n):
        network.update_stream(i, 200.0 / (1 + i), 5.0 + 10.0 * i, success_rate=0.99)
    made = Decider(network, **options)
    net = SetNet(random_arrays() if arrays is None else arrays)
    made.serve(Served("tried", set_net=net, support=support, cap=cap or Cap(idle_factor=np.inf)))
    return made


def values_of(feature, weight):
    """Weights by which a candidate is worth `weight` times one of its own figures, and nothing else."""
    arrays = {name: np.zeros_like(array) for name, array in random_arrays().items()}
    width = arrays["hidden.weight"].shape[0]
    arrays["out.weight"][0, width + CANDIDATE_NAMES.index(feature)] = weight
    return arrays


def support(low=-9.0, high=9.0, **ranges):
    """Every input from `low` to `high`; keys like ``context_3`` give one another range."""
    counts = {"streams": STREAM_FEATURES, "context": CONTEXT_FEATURES, "candidates": CANDIDATE_FEATURES}
    made = {kind: np.tile([low, high], (count, 1)).astype(np.float32) for kind, count in counts.items()}
    for name, given in ranges.items():
        kind, at = name.split("_")
        made[kind][int(at)] = given
    return Support(*made.values())


# --- what is kept of a decision ---


@pytest.mark.parametrize("n", [1, 2, 4, 7, 16])
@pytest.mark.parametrize("order", ["fifo", "srpt"])
def test_a_decision_keeps_what_the_model_saw(n, order):
    rng = np.random.default_rng(n)
    clock = itp.ManualClock()
    made = decider(n, order=order, clock=clock, prefer=0.3)
    kept = []
    for k in range(60):
        clock.set(clock.monotonic_s + rng.exponential(0.1))
        if n > 1:
            made.network.set_stream_up(k % (n - 1), bool(rng.integers(2)))
        task = itp.Task("t", int(rng.lognormal(14, 2)), deadline_s=float(rng.choice([0.1, 1e6])))
        believed = made.network.workload(task.size_bytes)
        streams = [made.network.stream(i) for i in range(n)]
        in_flight = made.network.queue_depth
        seen = made.features(task)
        d = made.decide(task)
        kept.append((d, seen, {**believed, "in_flight": in_flight, "preference": 0.3, "streams": streams}))
        if k % 3 == 0:
            made.report(kept[k // 3][0], 50.0, 0.3, True, 0)
    # Whatever has become of model, streams and workload since.
    made.serve(Served("later", set_net=SetNet(random_arrays(seed=1))))
    for i in range(n):
        made.network.update_stream(i, 1.0, 1.0)
    for d, seen, believed in kept:
        again = d.features()
        assert d.beliefs() == believed
        if len(seen["masks"]) == 1:
            assert again is None
            continue
        for name, array in seen.items():
            np.testing.assert_array_equal(again[name], array)
        found = d.set_net(*(again[name][None] for name in ARRAYS))[0]
        np.testing.assert_allclose(found, list(d.values.values()), rtol=1e-6)


def test_decisions_without_a_set_model_keep_nothing():
    p = itp.TaskPartitioner(n_streams=4)
    d = p.partition_task(itp.Task("t", MB))
    assert (d.features(), d.beliefs(), d.set_net, d.support) == (None, None, None, None)
    why = p.explain(d)
    assert (why.note, why.runner_up, why.margin, why.workload) == (None, None, None, None)
    assert why.reasons == why.outside == ()
    assert "carried by" not in str(why)
    assert "workload" not in str(why)
    p.close()


# --- what carried the choice ---


def test_the_only_input_that_counts_carries_the_whole_margin():
    made = decider(arrays=values_of("share of the rate", -2.0))
    d = made.decide(itp.Task("t", 100 * MB))
    why = explain(d)
    shares = np.array([200.0, 100.0, 200 / 3, 50.0]) / (200 + 100 + 200 / 3 + 50)
    assert (d.stream_ids, why.runner_up) == ((3,), (2,))
    assert why.margin == pytest.approx(2 * (shares[2] - shares[3]), rel=1e-5)
    (reason,) = why.reasons
    assert reason.name == "share of the rate"
    assert reason.stream_id is None
    assert (reason.value, reason.runner_up_value) == pytest.approx((shares[3], shares[2]), rel=1e-5)
    assert reason.effect == pytest.approx(why.margin, rel=1e-5)
    assert "carried by: share of the rate +0.08; ahead of 3 by 0.08" in str(why)


@pytest.mark.parametrize("supported", [False, True])
@pytest.mark.parametrize(("n", "seed"), [(2, 0), (4, 1), (9, 2)])
def test_effects_are_finite_differences_of_the_margin(n, seed, supported):
    arrays = random_arrays(seed=seed)
    made = decider(n, arrays, support=support(-3.0, 9.0) if supported else None)
    made.network.set_stream_up(0, n == 2)
    for size in (2 * MB, 30 * MB, 100 * MB):
        d = made.decide(itp.Task("t", size))
    assert d.source == "native"
    why, seen = explain(d), d.features()
    sets = list(d.values)
    ranked = sorted(d.values, key=d.values.__getitem__)
    assert why.runner_up == ranked[-2]
    assert why.margin == d.values[ranked[-1]] - d.values[ranked[-2]]
    pair = [sets.index(ranked[-1]), sets.index(ranked[-2])]

    def margin(changed):
        values = forward(arrays, *(changed[name][None] for name in ARRAYS))[0]
        return values[pair[0]] - values[pair[1]]

    expected = {}
    up = [i for i in range(n) if made.network.streams_up[i]]
    neutral = 3.0 if supported else 0.0
    for kind, names in (
        ("streams", STREAM_NAMES),
        ("context", CONTEXT_NAMES),
        ("candidates", CANDIDATE_NAMES),
    ):
        for j, f in itertools.product(range(len(up) if kind == "streams" else 1), range(len(names))):
            changed = {name: array.copy() for name, array in seen.items()}
            if kind == "streams":
                changed[kind][j, f] = neutral
            elif kind == "context":
                changed[kind][f] = neutral
            else:
                changed[kind][pair, f] = seen[kind][pair, f].mean()
            stream = up[j] if kind == "streams" else None
            expected[names[f], stream, kind == "candidates"] = margin(seen) - margin(changed)
    assert 1 < len(why.reasons) <= 8
    for r in why.reasons:
        known = expected.pop((r.name, r.stream_id, r.runner_up_value is not None))
        assert r.effect == pytest.approx(known, rel=1e-3, abs=1e-5)
        if r.stream_id is not None:
            assert r.value == seen["streams"][up.index(r.stream_id), STREAM_NAMES.index(r.name)]
    effects = [abs(r.effect) for r in why.reasons]
    assert effects == sorted(effects, reverse=True)
    if len(effects) == 8:
        assert max(abs(effect) for effect in expected.values()) <= effects[-1] + 1e-5


def test_what_a_hard_deadline_closed_is_no_runner_up():
    arrays = values_of("share of the rate", -1.0)
    slow = decider(arrays=arrays).decide(itp.Task("t", 100 * MB))
    for hard in (False, True):
        d = decider(arrays=arrays, hard_deadlines=hard).decide(itp.Task("t", 100 * MB, deadline_s=5.0))
        why = explain(d)
        planned = {a.stream_ids: a.expected_time_s for a in why.actions}
        assert (d.stream_ids == slow.stream_ids) != hard
        assert (planned[why.runner_up] <= 5.0) == hard
        assert why.note is None


# --- what else decided ---


def test_a_guarded_decision_names_the_choice_of_the_model():
    made = decider(arrays=values_of("share of the rate", -1.0), cap=Cap(idle_factor=3.0))
    d = made.decide(itp.Task("t", 100 * MB))
    why = explain(d)
    assert d.source == "guard"
    assert why.note == "the guard closed the model's own choice, 4, which was planned to take too long"
    assert why.note in str(why)
    # Among what was left the values carried the choice.
    assert d.values[why.runner_up] <= d.q_value
    assert why.margin >= 0.0
    assert why.workload is not None


def test_an_unsupported_decision_names_the_inputs_that_are_outside():
    task = itp.Task("t", 100 * MB)
    seen = decider().features(task)
    # The preference, and the latency of stream 3, which is none of the slowest; the rest is inside.
    latency = seen["streams"][:, 1]
    ranges = {"streams_1": (latency[0], latency[2]), "context_17": (2.0, 3.0), "candidates_2": (0.6, 0.9)}
    made = decider(support=support(**ranges), policy="single_best")
    d = made.decide(task)
    why = explain(d)
    assert d.unsupported
    assert (why.reasons, why.runner_up, why.margin) == ((), None, None)
    found = {(o.name, o.stream_id): o for o in why.outside}
    assert ("preference", None) in found
    assert found["preference", None].value == 0.5
    assert (found["preference", None].low, found["preference", None].high) == pytest.approx((1.9, 3.1))
    assert found["share of the streams", None].value == 0.25
    assert {name for name, _ in found} <= {"preference", "share of the streams", "latency"}
    for (name, stream), o in found.items():
        assert o.value < o.low or o.value > o.high
        if name == "latency":
            assert stream == 3
    assert why.note.startswith("the rule decided: the model was trained on no such case; preference is 0.5, ")
    assert json.loads(json.dumps(why.as_dict(), allow_nan=False))["outside"][0]["name"] == "preference"


def test_exploration_copies_and_single_streams_have_no_runner_up():
    drawn = explain(decider(epsilon=1.0, seed=1).decide(itp.Task("t", MB)))
    copies = explain(decider().decide(itp.Task("t", MB, redundancy=2)))
    alone = explain(decider(1).decide(itp.Task("t", MB)))
    assert drawn.note == "exploration drew the action: no values carried it"
    assert copies.note is alone.note is None
    for why in (drawn, copies, alone):
        assert (why.runner_up, why.margin, why.reasons) == (None, None, ())
        assert why.workload.tasks == 0
        assert "workload: no task seen before; preference 0.5" in str(why)


# --- what was believed ---


def test_the_workload_is_the_one_of_then(tmp_path):
    clock = itp.ManualClock()
    with itp.TaskPartitioner(set_file(tmp_path / "m.onnx"), n_streams=3, clock=clock, prefer="bulk") as p:
        for i in range(2):
            p.update_stream(i, 80.0, 20.0, success_rate=0.5)
        for _ in range(20):
            clock.set(clock.monotonic_s + 2.0)
            d = p.partition_task(itp.Task("t", MB))
            p.report_outcome(d, 50.0, 0.2, True)
        p.set_stream_up(2, False)
        clock.set(clock.monotonic_s + 2.0)
        expected = p.network.workload(3 * MB)
        streams = tuple(p.network.stream(i) for i in range(3))
        d = p.partition_task(itp.Task("t", 3 * MB))
        why = p.explain(d)
        text = str(why)
        p.swap_model(set_file(tmp_path / "other.onnx", random_arrays(seed=3)))
        for _ in range(5):
            p.partition_task(itp.Task("t", 10**9))
        p.update_stream(0, 1.0, 1.0)
        assert str(p.explain(d)) == text
        assert p.explain(d) == why
    found = why.workload
    for name, value in expected.items():
        assert getattr(found, name) == value
    assert (found.tasks, found.rank, found.in_flight, found.preference) == (20, 1.0, 0, 1.0)
    assert found.streams == streams
    assert found.gap_s == pytest.approx(2.0)
    # Two streams are up, and half of what each carries arrives.
    mbps = sum(streams[i]["bandwidth_mbps"] * streams[i]["success_rate"] for i in range(2))
    assert found.load_long == pytest.approx(expected["offered_long_mbps"] / mbps)
    assert "20 tasks seen" in text
    assert "larger than 100% of them" in text


def test_plain_values_are_strict_json():
    made = decider(3)
    for i in range(3):
        made.network.update_stream(i, 0.0, 5.0)
    d = made.decide(itp.Task("t", 100 * MB))
    assert d.expected_time_s == np.inf
    plain = json.loads(json.dumps(explain(d).as_dict(), allow_nan=False))
    assert plain["decision"]["expected_time_s"] is None
    assert plain["workload"]["streams"][0]["bandwidth_mbps"] == 0.0
    assert set(plain) == {
        "decision",
        "actions",
        "note",
        "runner_up",
        "margin",
        "reasons",
        "outside",
        "workload",
    }
    d = decider().decide(itp.Task("t", 100 * MB))
    plain = json.loads(json.dumps(explain(d).as_dict(), allow_nan=False))
    assert plain["reasons"][0].keys() == {"name", "stream_id", "value", "effect", "runner_up_value"}
    assert plain["runner_up"] == list(explain(d).runner_up)
    assert [a["stream_ids"] for a in plain["actions"] if a["chosen"]] == [list(d.stream_ids)]
