"""Decisions by set models: any number of streams, within the cap, inside the support, by the preference."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import itp
from itp._core.choose import Cap, Support
from itp._core.decider import Decider, Served
from itp._core.setnet import SetNet
from itp.schema import CANDIDATE_FEATURES, CONTEXT_FEATURES, STREAM_FEATURES
from set_models import forward, random_arrays, set_file

pytestmark = pytest.mark.core

MB = 10**6


def decider(n=4, seed=0, *, order="fifo", arrays=None, served=None, clock=None, metrics=None, **options):
    """A decider by a set model of random weights; `metrics` are Mbit/s and ms of its streams."""
    network = itp.NetworkState(n, order, clock or itp.ManualClock())
    if metrics is None:
        metrics = [(200.0 / (1 + i), 5.0 + 10.0 * i) for i in range(n)]
    for i, (bandwidth_mbps, latency_ms) in enumerate(metrics):
        network.update_stream(i, bandwidth_mbps, latency_ms, success_rate=0.99)
    made = Decider(network, **options)
    net = SetNet(random_arrays(seed=seed) if arrays is None else arrays)
    made.serve(Served("random", set_net=net, **(served or {})))
    return made


def streams_of(mask):
    return tuple(i for i in range(16) if mask >> i & 1)


def constant(value=0.0, **rows):
    """Weights by which every candidate is worth `value`; keys like ``candidates_3`` add a feature's own."""
    arrays = {name: np.zeros_like(array) for name, array in random_arrays().items()}
    arrays["out.bias"][0] = value
    width = arrays["hidden.weight"].shape[0]
    for name, weight in rows.items():
        arrays["out.weight"][0, width + int(name.removeprefix("candidates_"))] = weight
    return arrays


# --- values ---


@settings(deadline=None, max_examples=120)
@given(
    paths=st.lists(
        st.tuples(st.floats(0.1, 1e5), st.floats(0.1, 1e4), st.floats(0.0, 1.0), st.booleans()),
        min_size=1,
        max_size=16,
    ).filter(lambda paths: any(up for *_, up in paths)),
    sizes=st.lists(st.integers(1, 2**62), min_size=1, max_size=4),
    order=st.sampled_from(["fifo", "srpt"]),
    prefer=st.floats(0.0, 1.0),
    seed=st.integers(0, 3),
)
def test_a_decision_takes_the_greatest_value(paths, sizes, order, prefer, seed):
    made = decider(len(paths), seed, order=order, prefer=prefer, served={"cap": Cap(idle_factor=np.inf)})
    for i, (bandwidth_mbps, latency_ms, success_rate, up) in enumerate(paths):
        made.network.update_stream(i, bandwidth_mbps, latency_ms, success_rate=success_rate)
        made.network.set_stream_up(i, up)
    for size in sizes:
        task = itp.Task("t", size)
        seen = made.features(task)
        d = made.decide(task)
        assert d.source == "native"
        assert d.model_version == "random"
        assert sum(d.chunk_sizes) == size
        for name in ("streams", "context", "candidates"):
            assert np.isfinite(seen[name]).all()
        assert seen["context"][17] == np.float32(prefer)
        assert seen["context"][16] == (order == "srpt")
        sets = [streams_of(mask) for mask in seen["masks"].tolist()]
        assert len(set(sets)) == len(sets)
        if len(sets) == 1:
            assert d.values is None
            assert d.q_value is None
            continue
        arrays = [seen[name][None] for name in ("streams", "context", "candidates", "members")]
        expected = forward(random_arrays(seed=seed), *arrays)[0]
        assert list(d.values) == sets
        np.testing.assert_allclose(list(d.values.values()), expected, rtol=1e-4, atol=1e-4)
        assert d.q_value == max(d.values.values())
        # Where nothing moves, every set counts as whole, and the chunks may leave streams out.
        assert d.expected_time_s == np.inf or d.q_value == d.values[d.stream_ids]


def test_the_order_of_the_streams_does_not_matter():
    rng = np.random.default_rng(1)
    for n in (2, 3, 5, 8):
        metrics = [(rng.uniform(5, 500), rng.uniform(1, 100)) for _ in range(n)]
        order = rng.permutation(n).tolist()
        values = []
        for places in (range(n), order):
            made = decider(n, metrics=[metrics[place] for place in places])
            for size in (MB, 30 * MB):
                d = made.decide(itp.Task("t", size))
            named = {tuple(sorted(places[i] for i in streams)): value for streams, value in d.values.items()}
            values.append(named)
        assert values[0].keys() == values[1].keys()
        for streams, value in values[0].items():
            assert value == pytest.approx(values[1][streams], rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 6, 8, 12, 16])
def test_rates_and_sizes_ten_times_as_large_give_the_same_decisions(n):
    rng = np.random.default_rng(n)
    metrics = [(rng.uniform(5, 500), rng.uniform(1, 100)) for _ in range(n)]
    sizes = rng.lognormal(np.log(3e6), 1.5, 40).astype(int)
    chosen = []
    for scale in (1, 10):
        clock = itp.ManualClock()
        rates = [(scale * bandwidth_mbps, latency_ms) for bandwidth_mbps, latency_ms in metrics]
        made = decider(n, clock=clock, metrics=rates, min_chunk_bytes=scale * 65536)
        kept = []
        for size in sizes:
            clock.set(clock.monotonic_s + 0.05)
            kept.append(made.decide(itp.Task("t", int(scale * size))))
        chosen.append([d.stream_ids for d in kept])
    assert chosen[0] == chosen[1]


def test_a_model_of_values_that_are_not_finite_leaves_it_to_the_rule():
    arrays = random_arrays()
    arrays["out.weight"][:] = 3e38
    arrays["hidden.bias"][:] = 3e38
    made = decider(arrays=arrays, policy="least_completion_time")
    d = made.decide(itp.Task("t", 10 * MB))
    assert (d.source, d.values, d.q_value, d.model_version) == ("heuristic", None, None, None)
    assert d.stream_ids == decider_of_rule().decide(itp.Task("t", 10 * MB)).stream_ids
    assert made.counts()["by_model"] == 0


def decider_of_rule(n=4, policy="least_completion_time", order="fifo"):
    network = itp.NetworkState(n, order, itp.ManualClock())
    for i in range(n):
        network.update_stream(i, 200.0 / (1 + i), 5.0 + 10.0 * i, success_rate=0.99)
    return Decider(network, policy=policy)


def test_copies_are_left_to_the_rule():
    d = decider().decide(itp.Task("t", MB, redundancy=2))
    assert (d.source, len(d.stream_ids), d.values) == ("heuristic", 2, None)


# --- the cap ---


@settings(deadline=None, max_examples=300)
@given(
    paths=st.lists(st.tuples(st.floats(1.0, 1e5), st.floats(0.1, 1e3)), min_size=1, max_size=16),
    size=st.floats(3, 11).map(lambda x: int(10**x)),
    order=st.sampled_from(["fifo", "srpt"]),
    seed=st.integers(0, 7),
    prefer=st.sampled_from(["typical", "balanced", "bulk"]),
)
def test_on_an_idle_host_no_task_is_planned_much_longer_than_the_fastest(paths, size, order, seed, prefer):
    made = decider(len(paths), seed, order=order, prefer=prefer)
    rule = decider_of_rule(len(paths), order=order)
    for i, (bandwidth_mbps, latency_ms) in enumerate(paths):
        for network in (made.network, rule.network):
            network.update_stream(i, bandwidth_mbps, latency_ms)
    d = made.decide(itp.Task("t", size))
    least_s = rule.decide(itp.Task("t", size)).expected_time_s
    assert d.expected_time_s <= 1.25 * least_s * (1 + 1e-6) + 1e-6
    if d.source == "guard":
        assert max(d.values.values()) > d.q_value


def test_a_host_stays_idle_between_tasks_that_hardly_load_it():
    clock = itp.ManualClock()
    # The more of the streams' rate a set has, the less it is worth.
    made = decider(arrays=constant(candidates_3=-1.0), clock=clock)
    for k in range(30):
        clock.set(1000.0 * k)
        d = made.decide(itp.Task("t", 100 * MB))
        assert d.source == "guard"
        least_s = min(seconds for _, seconds, *_ in d.estimates())
        assert d.expected_time_s <= 1.25 * least_s * (1 + 1e-6)
        made.report(d, 100.0, d.expected_time_s, True, 0)
    # With another task in flight it is not idle, and no cap binds.
    made.decide(itp.Task("t", 100 * MB))
    assert made.decide(itp.Task("t", 100 * MB)).stream_ids == (3,)
    assert made.counts()["guarded"] == 31


def test_the_general_cap_binds_where_the_host_is_busy():
    for factor in (1.0, 1.5, 3.0, 1e9):
        cap = Cap(idle_arrivals=0.0, idle_factor=factor, factor=factor)
        made = decider(order="srpt", arrays=constant(candidates_3=-1.0), served={"cap": cap})
        kept = [made.decide(itp.Task("t", 100 * MB)) for _ in range(12)]
        for d in kept:
            least_s = min(seconds for _, seconds, *_ in d.estimates())
            assert d.expected_time_s <= factor * least_s * (1 + 1e-6)
            assert (d.source == "guard") == (d.stream_ids != (3,))
        assert (factor == 1e9) == all(d.source == "native" for d in kept)


def test_limits_out_of_range():
    for wrong in ({"idle_arrivals": -1}, {"idle_factor": 0.5}, {"factor": 0.9}, {"factor": float("nan")}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Cap(**wrong)
    assert (Cap().idle_arrivals, Cap().idle_factor, Cap().factor) == (0.1, 1.25, float("inf"))


# --- the support ---


def ranges(low=-5.0, high=5.0):
    return [
        np.tile([low, high], (count, 1)).astype(np.float32)
        for count in (STREAM_FEATURES, CONTEXT_FEATURES, CANDIDATE_FEATURES)
    ]


def test_outside_of_the_support_the_rule_decides_and_it_is_counted():
    task = itp.Task("t", 100 * MB)
    for group, (name, count) in enumerate(
        (("streams", STREAM_FEATURES), ("context", CONTEXT_FEATURES), ("candidates", CANDIDATE_FEATURES))
    ):
        for k, side in itertools.product(range(count), (0, 1)):
            seen = decider().features(task)[name].reshape(-1, count)[:, k]
            for beyond in (False, True):
                support = ranges()
                # A range from end to end of what is seen, or one that ends well before it.
                support[group][k] = (seen.min(), seen.max())
                if beyond:
                    support[group][k] += (-9.0, -8.0) if side else (8.0, 9.0)
                made = decider(
                    arrays=constant(candidates_3=-1.0),
                    served={"support": Support(*support), "cap": Cap(idle_factor=np.inf)},
                    policy="single_best",
                )
                d = made.decide(task)
                assert d.unsupported == beyond, (name, k)
                assert d.source == ("guard" if beyond else "native")
                assert d.stream_ids == ((0, 1, 2, 3) if beyond else (3,))
                assert made.counts()["unsupported"] == made.counts()["guarded"] == beyond
                assert made.counts()["by_model"] == 1


def test_on_a_busy_host_the_rule_that_the_caller_chose_decides():
    for policy in ("single_best", "equal_split", "least_completion_time", "score"):
        made = decider(served={"support": Support(*ranges(8.0, 9.0))}, policy=policy)
        rule = decider_of_rule(policy=policy)
        kept = []
        for k in range(10):
            # One that is in flight on the same streams makes both hosts busy.
            for each in (made, rule):
                each.network.admit(2 * k + 1, 10**6, [k % 4], [10**6])
            a, b = (each.decide(itp.Task("t", 100 * MB)) for each in (made, rule))
            assert (a.unsupported, b.unsupported) == (True, False)
            assert k == 0 or a.chunk_sizes == b.chunk_sizes
            chosen = a.action == b.action and a.q_value == max(a.values.values())
            assert k == 0 or a.source == ("native" if chosen else "guard")
            kept += [a, b]


def test_the_support_has_a_margin_of_a_tenth():
    task = itp.Task("t", 100 * MB)
    at = float(decider().features(task)["context"][3])
    for low, inside in ((at - 1.0, True), (at + 0.09, True), (at + 0.12, False)):
        support = ranges()
        support[1][3] = (low, low + 1.0)
        assert decider(served={"support": Support(*support)}).decide(task).unsupported != inside
    support[1][3] = (at - 1.12, at - 0.12)
    assert decider(served={"support": Support(*support)}).decide(task).unsupported


def test_where_rule_and_model_agree_nothing_was_guarded():
    support = Support(*ranges(8.0, 9.0))
    made = decider(arrays=constant(candidates_1=-1.0), served={"support": support})
    d = made.decide(itp.Task("t", 100 * MB))
    # On an idle host the fastest set is taken, which is the model's own choice.
    assert (d.unsupported, d.source, len(d.stream_ids)) == (True, "native", 4)
    assert made.counts()["guarded"] == 0
    assert made.counts()["unsupported"] == 1


def test_wrong_ranges():
    good = ranges()
    for wrong in (good[0][:3], np.full_like(good[0], np.nan), good[0][:, ::-1]):
        with pytest.raises(ValueError, match="streams"):
            Support(wrong, *good[1:])


# --- the preference ---


def test_prefer_is_a_name_or_a_number_and_can_be_set(tmp_path):
    path = set_file(
        tmp_path / "m.onnx", metadata={"preferences": {"typical": 0.1, "balanced": 0.3, "bulk": 0.8}}
    )
    with itp.TaskPartitioner(path, n_streams=3) as p:
        task = itp.Task("t", MB)
        for prefer, number in (
            (None, 0.3),
            ("typical", 0.1),
            ("bulk", 0.8),
            (0, 0.0),
            (1.0, 1.0),
            (np.float32(0.5), 0.5),
        ):
            if prefer is not None:
                p.prefer = prefer
                assert p.prefer == prefer
            assert p._decider.preference == pytest.approx(number)
            assert p._decider.features(task)["context"][17] == np.float32(number)
        p.prefer = "bulk"
        p.swap_model(set_file(tmp_path / "plain.onnx"))
        assert p._decider.preference == 1.0
        for wrong, error in (
            ("fast", ValueError),
            (float("nan"), ValueError),
            (-0.1, ValueError),
            (1.1, ValueError),
            (float("inf"), ValueError),
            (None, TypeError),
            (True, TypeError),
            ([0.5], TypeError),
        ):
            with pytest.raises(error, match="prefer"):
                p.prefer = wrong
            with pytest.raises(error, match="prefer"):
                itp.TaskPartitioner(prefer=wrong)
        assert p.prefer == "bulk"
    with pytest.raises(itp.ClosedError):
        p.prefer = "bulk"


# --- served by a partitioner ---


@pytest.mark.parametrize("n", [1, 2, 3, 4, 6, 7, 12, 16])
def test_a_file_serves_any_number_of_streams(tmp_path, n):
    path = set_file(tmp_path / "m.onnx", metadata={"version": "any"})
    with itp.TaskPartitioner(path, n_streams=n, service_order="srpt") as p:
        assert p.engine == "native"
        kept = [p.partition_task(itp.Task(str(k), 10**k)) for k in range(12)]
        text = str(p.explain(kept[-1]))
        assert text.count("chosen") == 1
        metrics = p.metrics()
        assert metrics.total_decisions == metrics.model_decisions == 12
        assert metrics.unsupported_decisions == 0
        assert {d.model_version for d in kept} == {"any"}
        assert "unsupported" in kept[0].as_dict()
        with pytest.raises(ValueError, match="schema 2"):
            p.q_values(np.zeros((1, 20)))
        if n != 4:
            with pytest.raises(ValueError, match="schema 1"):
                p.swap_model("dqn_v1")
            assert p.partition_task(itp.Task("t", MB)).model_version == "any"


def test_explain_lists_the_candidates(tmp_path):
    path = set_file(tmp_path / "m.onnx")
    for n in (3, 9):
        with itp.TaskPartitioner(path, n_streams=n) as p:
            d = p.partition_task(itp.Task("t", 100 * MB))
            listed = {a.stream_ids: a for a in p.explain(d).actions}
            assert set(d.values) <= set(listed)
            for streams, value in d.values.items():
                assert listed[streams].q_value == value
                assert (listed[streams].why_not is None) == (streams == d.stream_ids)


def test_a_retracted_decision_is_not_counted_as_unsupported():
    made = decider(served={"support": Support(*ranges(8.0, 9.0))})
    mark = made.mark()
    d = made.decide(itp.Task("t", MB))
    assert made.counts()["unsupported"] == 1
    made.retract([d], mark)
    assert made.counts()["unsupported"] == made.counts()["decisions"] == 0


def test_the_default_model_is_named_where_it_is_missing(monkeypatch):
    monkeypatch.setattr("itp.models.load.DEFAULT_MODEL", "no_such_model")
    with pytest.raises(itp.ModelError, match="default"):
        itp.TaskPartitioner("default")


def test_exploration_draws_from_the_candidates():
    made = decider(3, epsilon=1.0, seed=0)
    counts = {}
    for _ in range(700):
        d = made.decide(itp.Task("t", 100 * MB))
        assert d.propensity == pytest.approx(1 / 7)
        counts[d.stream_ids] = counts.get(d.stream_ids, 0) + 1
        made.report(d, 1.0, 1.0, True, 0)
    assert len(counts) == 7
    assert min(counts.values()) > 60


# --- the candidates ---


def level(size, rates, delays, streams, least):
    """Water-filling over streams that all move: (streams kept, when they finish)."""
    while True:
        rate, work, filled = 0.0, float(size), []
        for i in sorted(streams, key=lambda i: (delays[i], i)):
            if work <= rate * delays[i]:
                break
            rate += rates[i]
            work += rates[i] * delays[i]
            filled.append(i)
        shares = {i: rates[i] * (work / rate - delays[i]) for i in filled}
        worst = min(shares, key=lambda i: (shares[i], -i))
        if len(filled) == 1 or shares[worst] >= least:
            return tuple(sorted(filled)), work / rate
        streams = [i for i in filled if i != worst]


@settings(deadline=None, max_examples=200)
@given(
    paths=st.lists(
        st.tuples(st.floats(0.1, 1e4), st.floats(0.1, 1e3), st.booleans()), min_size=1, max_size=16
    ).filter(lambda paths: any(up for *_, up in paths)),
    size=st.floats(0, 11).map(lambda x: int(10**x)),
    least=st.floats(0, 7).map(lambda x: int(10**x)),
)
def test_the_candidates_are_the_sets_that_keep_a_chunk_each(paths, size, least):
    made = decider(len(paths), min_chunk_bytes=least)
    for i, (bandwidth_mbps, latency_ms, up) in enumerate(paths):
        made.network.update_stream(i, bandwidth_mbps, latency_ms, success_rate=1.0)
        made.network.set_stream_up(i, up)
    d = made.decide(itp.Task("t", size))
    rates = [bandwidth_mbps * 125e3 for bandwidth_mbps, *_ in paths]
    delays = [latency_ms * 1e-3 for _, latency_ms, _ in paths]
    up = [i for i, (*_, up) in enumerate(paths) if up]
    expected = {}
    if len(paths) <= 6:
        for count in range(1, len(up) + 1):
            for streams in itertools.combinations(up, count):
                kept, time_s = level(size, rates, delays, streams, least)
                if kept == streams:
                    expected[streams] = time_s
    else:
        order = sorted(up, key=lambda i: (delays[i] + size / rates[i], i))
        prefixes = [order[:k] for k in range(1, len(order) + 1)]
        suffixes = [order[k:] for k in range(1, len(order))]
        for streams in [[i] for i in up] + prefixes + suffixes:
            kept, time_s = level(size, rates, delays, streams, least)
            expected.setdefault(kept, time_s)
    if len(expected) == 1:
        assert d.values is None
        return
    assert list(d.values) == list(expected)
    planned = {streams: time_s for streams, time_s, *_ in d.estimates() if streams in expected}
    assert planned == pytest.approx(expected, rel=1e-9)


# --- whatever comes ---


@settings(deadline=None, max_examples=150)
@given(
    n=st.integers(1, 16),
    order=st.sampled_from(["fifo", "srpt"]),
    tasks=st.lists(
        st.tuples(
            st.sampled_from([0.0, 1e-9, 0.01, 1.0, 604800.0, 3e8]),
            st.sampled_from([1, 1000, 10**6, 10**9, 10**12, 2**63 - 1]),
            st.sampled_from(["report", "keep", "drop", "down", "up", "measure", "ahead"]),
            st.floats(0.0, 1.0),
            st.sampled_from([None, 1e-6, 1.0, 1e12]),
        ),
        max_size=25,
    ),
)
def test_no_workload_makes_a_feature_or_a_value_that_is_not_finite(n, order, tasks):
    clock = itp.ManualClock(1e4, 1.7e9)
    made = decider(n, order=order, clock=clock)
    kept = []
    for gap_s, size, then, priority, deadline_s in tasks:
        clock.set(clock.monotonic_s + gap_s)
        task = itp.Task("t", size, priority=priority, deadline_s=deadline_s)
        seen = made.features(task)
        for name in ("streams", "context", "candidates"):
            assert np.isfinite(seen[name]).all(), name
            assert np.abs(seen[name]).max() < 100.0
        d = made.decide(task)
        assert d.values is None or np.isfinite(list(d.values.values())).all()
        assert d.source != "heuristic"
        assert sum(d.chunk_sizes) == size
        if then == "report":
            made.report(d, 10.0, 1.0, True, 0)
        elif then == "keep":
            kept.append(d)
        elif then == "down" and n > 1:
            made.network.set_stream_up(0, False)
        elif then == "up":
            made.network.set_stream_up(0, True)
        elif then == "measure":
            made.network.update_stream(
                0, 1e12 * priority, 1e6 * priority, congestion=priority, success_rate=priority
            )
        elif then == "ahead":
            # A caller's own clock is ahead of ours, which goes back for all that it measured.
            made.network.update_stream(0, 10.0, now_s=clock.monotonic_s + 1e5)


def test_more_streams_than_there_can_be():
    for n in (0, 17):
        with pytest.raises(ValueError, match="n_streams"):
            itp.TaskPartitioner("default", n_streams=n)


def test_a_clock_does_not_go_back():
    clock = itp.ManualClock(5.0)
    made = decider(clock=clock)
    made.decide(itp.Task("t", MB))
    with pytest.raises(ValueError, match="before the present"):
        clock.set(4.0)
    assert made.decide(itp.Task("t", MB)).source == "native"
