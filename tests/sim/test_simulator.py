"""The simulator's physics against closed forms, and what it promises."""

import copy
import math
import pickle

import numpy as np
import pytest

from itp import PrioritizedReplayBuffer
from itp.policies.episodes import mean_log_slowdown, run
from itp.policies.rules import Rule
from itp.sim.choice import Choice
from itp.sim.scenario import FAMILIES, load
from itp.sim.simulator import SPLITS, Simulator, masks_of_actions
from reference import water_level, water_shares

pytestmark = pytest.mark.core

GOODPUT = 125000 * 1448 / 1500
MSS = 1448
WINDOW = 10 * MSS
MB = 10**6
# Nothing but the streams themselves: CUBIC without loss takes all of its link.
PLAIN = {"cc": "cubic", "rate_mbit": 100, "rtt_ms": 20}


def scenario(paths, workload=None, **top):
    return load({"paths": paths, "workload": {"estimate_noise": 0, "warm": True, **(workload or {})}, **top})


def outcomes(sim, action=0, split="water_filling"):
    """All outcomes of the episodes when every task goes the same way, by task."""
    parts = []
    while not sim.done.all():
        sim.step(np.full(sim.n_envs, action), split=split)
        parts.append(sim.completed())
    return np.sort(np.concatenate(parts), order=["env", "task"])


def taken_s(done):
    return done["completed_at_s"] - done["arrived_at_s"]


def one_task(paths, size_bytes, action=0, split="proportional", at_s=0.0, **top):
    world = scenario(paths, {"tasks": [[at_s, size_bytes]], **top.pop("workload", {})}, **top)
    return outcomes(Simulator(world), action, split)[0]


# --- one task ---


@pytest.mark.parametrize("size", [1, 1448, 100_000, 10**7, 10**9])
@pytest.mark.parametrize(("rate", "rtt"), [(10, 5), (100, 20), (1000, 150)])
def test_warm_stream_takes_size_over_rate_plus_latency(size, rate, rtt):
    done = one_task([{**PLAIN, "rate_mbit": rate, "rtt_ms": rtt}], size)
    assert taken_s(done) == pytest.approx(size / (rate * GOODPUT) + rtt * 5e-4, rel=1e-9)
    assert done["success"]
    assert done["retransmitted_bytes"] == 0


def rounds_s(size, rate, rtt, window, growth):
    """When bursts at the link's rate, a window a round-trip time, have sent so many bytes."""
    now, left = 0.0, size
    while window / rtt < rate and left > window:
        left -= window
        window *= growth
        now += rtt
    return now + left / rate


@pytest.mark.parametrize("size", [1000, 14_480, 14_481, 100_000, 10**6, 10**7])
@pytest.mark.parametrize(("rate", "rtt_ms"), [(20, 150), (100, 40), (200, 10)])
def test_cubic_starts_slowly_in_bursts(size, rate, rtt_ms):
    path = {**PLAIN, "rate_mbit": rate, "rtt_ms": rtt_ms}
    done = one_task([path], size, workload={"warm": False})
    rtt = rtt_ms * 1e-3
    expected_s = rounds_s(size, rate * GOODPUT, rtt, WINDOW, 2.0) + rtt / 2
    assert taken_s(done) == pytest.approx(expected_s, rel=1e-3)


def test_bbr_starts_slowly_and_paces():
    """A burst, a window at 1.5 times its even rate, then even windows, each 1.85 times the last."""
    rate, rtt = 100 * GOODPUT, 0.1
    path = {**PLAIN, "cc": "bbr", "rtt_ms": 100}
    windows = [WINDOW * 1.85**k for k in range(20)]
    in_third = windows[0] + windows[1] + 0.5 * windows[2]
    for size, expected_s in [
        (windows[0], windows[0] / rate),
        (windows[0] + 0.5 * windows[1], rtt + 0.5 * rtt / 1.5),
        (in_third, 2.5 * rtt),
    ]:
        done = one_task([path], int(size), workload={"warm": False})
        assert taken_s(done) == pytest.approx(expected_s + rtt / 2, rel=1e-3)
    k = next(k for k, window in enumerate(windows) if window / rtt >= rate)
    done = one_task([path], 50 * MB, workload={"warm": False})
    expected_s = k * rtt + (50 * MB - sum(windows[:k])) / rate + rtt / 2
    assert taken_s(done) == pytest.approx(expected_s, rel=1e-3)


def test_a_warm_bbr_stream_fills_its_link_at_once():
    done = one_task([{**PLAIN, "cc": "bbr"}], 50 * MB)
    assert taken_s(done) == pytest.approx(50 * MB / (100 * GOODPUT) + 0.01, rel=1e-9)


def test_proportional_split_ends_with_its_slowest_part():
    paths = [{**PLAIN, "rate_mbit": 50, "rtt_ms": 10}, {**PLAIN, "rate_mbit": 150, "rtt_ms": 60}]
    done = one_task(paths, 20 * MB, action=2)
    assert done["streams"] == 2
    assert taken_s(done) == pytest.approx(20 * MB / (200 * GOODPUT) + 0.03, rel=1e-6)
    # The two finish 25 ms apart: 20 MB at 200 Mbit/s, after 5 and after 30 ms.
    whole = 20 * MB / (200 * GOODPUT)
    assert done["imbalance"] == pytest.approx(1 - (whole + 0.005) / (whole + 0.03), rel=1e-6)


def test_water_filling_ends_together():
    paths = [{**PLAIN, "rate_mbit": 50, "rtt_ms": 10}, {**PLAIN, "rate_mbit": 150, "rtt_ms": 60}]
    done = one_task(paths, 20 * MB, action=2, split="water_filling")
    level = (20 * MB + GOODPUT * (50 * 0.005 + 150 * 0.03)) / (200 * GOODPUT)
    assert taken_s(done) == pytest.approx(level, rel=1e-6)
    assert done["expected_time_s"] == pytest.approx(level, rel=1e-6)
    assert done["imbalance"] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("loss_pct", [0.05, 0.5, 2])
def test_cubic_under_loss_follows_mathis(loss_pct):
    path = {**PLAIN, "rate_mbit": 1000, "rtt_ms": 40, "loss_pct": loss_pct}
    sim = Simulator(scenario([path], {"tasks": [[0, 10**9]]}), n_envs=16)
    done = outcomes(sim)
    rates = (done["size_bytes"] + done["retransmitted_bytes"]) / taken_s(done)
    limit = 1.22 * MSS / (0.04 * math.sqrt(loss_pct / 100))
    assert rates.mean() == pytest.approx(limit, rel=0.08)


def test_cubic_minds_losses_that_begin_later():
    path = {**PLAIN, "rtt_ms": 40, "schedule": [[0, 100, None, 0], [1, 100, None, 1]]}
    done = one_task([path], 100 * MB)
    limit = 1.22 * MSS / (0.04 * 0.1)
    lossless = 50 * MB / (100 * GOODPUT)
    assert taken_s(done) > 2 * lossless + 0.5 * (100 * MB - 100 * GOODPUT) / limit


def test_lost_bytes_are_sent_again():
    world = scenario(
        [{**PLAIN, "cc": "bbr", "loss_pct": 2}],
        {"load": 0.1, "size": {"kind": "fixed", "bytes": MB}},
        tasks=400,
    )
    done = outcomes(Simulator(world, n_envs=4))
    share = done["retransmitted_bytes"].sum() / done["size_bytes"].sum()
    # 276,000 packets a world: the mean of p / (1 - p) is known to 1 %.
    assert share == pytest.approx(0.02 / 0.98, rel=0.03)


# --- shared links ---


def test_streams_of_a_shared_link_get_the_link_together():
    paths = [{**PLAIN, "rtt_ms": 10}, {**PLAIN, "rtt_ms": 90}]
    world = scenario(
        paths, {"tasks": [[0, 10 * MB], [0, 10 * MB]]}, shared=[{"paths": [1, 2], "rate_mbit": 80}]
    )
    sim = Simulator(world, record_timeline=True)
    sim.step([0])
    sim.step([1])
    first, second = np.sort(sim.timeline(), order="stream")
    assert max(first["end_s"], second["end_s"]) == pytest.approx(20 * MB / (80 * GOODPUT), rel=1e-6)
    # Until the first is through they share as 1 / sqrt(RTT): 3 to 1.
    assert first["end_s"] == pytest.approx(10 * MB / (60 * GOODPUT), rel=1e-3)


def test_a_stream_below_its_share_leaves_the_rest_to_others():
    paths = [{**PLAIN, "rate_mbit": 10}, PLAIN]
    world = scenario(
        paths, {"tasks": [[0, 10 * MB], [0, 10 * MB]]}, shared=[{"paths": [1, 2], "rate_mbit": 80}]
    )
    sim = Simulator(world, record_timeline=True)
    sim.step([0])
    sim.step([1])
    slow, fast = np.sort(sim.timeline(), order="stream")
    assert slow["end_s"] == pytest.approx(10 * MB / (10 * GOODPUT), rel=1e-6)
    assert fast["end_s"] == pytest.approx(10 * MB / (70 * GOODPUT), rel=1e-6)


# --- queues ---


def lone_queue(size, load_share, order="fifo", n_envs=40, tasks=4000):
    """One stream, no latency to speak of: a single server in the sense of queueing theory."""
    path = {"cc": "cubic", "rate_mbit": 100, "rtt_ms": 0.002}
    world = scenario(
        [path], {"load": load_share, "size": size, "priority": [0.5, 0.5]}, tasks=tasks, service_order=order
    )
    return outcomes(Simulator(world, n_envs=n_envs))


def batch_mean(values, envs):
    """Mean over environments, and its standard error."""
    means = np.array([values[envs == env].mean() for env in np.unique(envs)])
    return means.mean(), means.std(ddof=1) / math.sqrt(len(means))


@pytest.mark.parametrize("load_share", [0.3, 0.6, 0.8])
@pytest.mark.parametrize(
    "size",
    [
        {"kind": "fixed", "bytes": 1e5},
        {"kind": "exponential", "mean_bytes": 1e5},
        {"kind": "pareto", "shape": 1.5, "min_bytes": 3e4, "max_bytes": 3e6},
    ],
    ids=lambda size: size["kind"],
)
def test_mean_delay_of_fifo_is_pollaczek_khinchines(size, load_share):
    done = lone_queue(size, load_share)
    service_s = done["size_bytes"] / (100 * GOODPUT)
    # Moments of what was drawn, so that the heavy tail's own noise is out of the comparison.
    rate_per_s = load_share / service_s.mean()
    expected_s = rate_per_s * np.mean(service_s**2) / (2 * (1 - load_share))
    waited_s = taken_s(done) - service_s - 1e-6
    mean_s, error_s = batch_mean(waited_s, done["env"])
    assert abs(mean_s - expected_s) < 4 * error_s + 0.01 * expected_s
    # Sharper: Lindley's recursion, task by task.
    for env in range(3):
        mine = done["env"] == env
        arrived, service = done["arrived_at_s"][mine], service_s[mine]
        wait = 0.0
        for k in range(1, 300):
            wait = max(0.0, wait + service[k - 1] - (arrived[k] - arrived[k - 1]))
            assert waited_s[mine][k] == pytest.approx(wait, abs=1e-7)


def test_mean_delay_of_a_shared_link_is_that_of_processor_sharing():
    """Sixteen streams through one link, each task on an idle one: M/G/1-PS, E[T] = E[S] / (1 - rho)."""
    path = {"cc": "cubic", "rate_mbit": 100, "rtt_ms": 0.002}
    world = scenario(
        [path] * 16,
        {"load": 0.5, "size": {"kind": "pareto", "shape": 1.5, "min_bytes": 3e4, "max_bytes": 3e6}},
        shared=[{"paths": list(range(1, 17)), "rate_mbit": 100}],
        tasks=1500,
    )
    sim = Simulator(world, n_envs=40)
    parts, splits = [], np.zeros(sim.n_envs, np.int32)
    while not sim.done.all():
        idle = sim.waiting()["work_ahead_s"].argmin(axis=1)
        sim.step_masks((1 << idle).astype(np.uint32), splits)
        parts.append(sim.completed())
    done = np.concatenate(parts)
    stretch = taken_s(done).sum() / (done["size_bytes"].sum() / (100 * GOODPUT))
    per_env = [
        taken_s(done[done["env"] == e]).sum() / (done["size_bytes"][done["env"] == e].sum() / (100 * GOODPUT))
        for e in range(sim.n_envs)
    ]
    error = np.std(per_env, ddof=1) / math.sqrt(sim.n_envs)
    assert abs(stretch - 2.0) < 4 * error
    assert error < 0.1


@pytest.mark.parametrize("load_share", [0.5, 0.9])
def test_srpt_is_never_slower_on_average_on_one_stream(load_share):
    size = {"kind": "pareto", "shape": 1.2, "min_bytes": 3e4, "max_bytes": 1e7}
    fifo = lone_queue(size, load_share, tasks=300)
    srpt = lone_queue(size, load_share, order="srpt", tasks=300)
    assert np.array_equal(fifo["size_bytes"], srpt["size_bytes"])
    for env in range(40):
        # SRPT is optimal for every sequence of arrivals (Schrage, 1968).
        assert taken_s(srpt[srpt["env"] == env]).mean() <= taken_s(fifo[fifo["env"] == env]).mean() + 1e-9


@pytest.mark.parametrize("family", FAMILIES)
def test_srpt_is_faster_than_fifo_over_seeds(family):
    seeds = np.arange(30)
    means = {
        order: taken_s(
            run(Simulator(family, seeds=seeds, service_order=order), Rule("least_completion_time"))
        ).mean()
        for order in ("fifo", "srpt")
    }
    assert means["srpt"] < means["fifo"]


def test_nothing_starves():
    """Once of age a task waits for none but older ones, so a bound on its delay holds at any load."""
    world = scenario(
        [{"cc": "cubic", "rate_mbit": 10, "rtt_ms": 1}],
        {"load": 1.5, "size": {"kind": "pareto", "shape": 1.1, "min_bytes": 5e4, "max_bytes": 1e7}},
        tasks=1000,
        service_order="srpt",
    )
    done = outcomes(Simulator(world, n_envs=8))
    rate_Bps = 10 * GOODPUT
    for env in range(8):
        mine = done[done["env"] == env]
        unfinished = 0.0
        last_s = 0.0
        for task in mine:
            unfinished = (
                max(0.0, unfinished - (task["arrived_at_s"] - last_s) * rate_Bps) + task["size_bytes"]
            )
            last_s = task["arrived_at_s"]
            # Every preemption adds at most the path's standing queue, of a round-trip time.
            bound_s = 30.0 + unfinished / rate_Bps + 0.1
            assert task["completed_at_s"] - task["arrived_at_s"] <= bound_s
    assert taken_s(done).max() > 30


def test_stealing_and_pulling_leave_no_stream_idle():
    paths = [{**PLAIN, "rate_mbit": 100}, {**PLAIN, "rate_mbit": 50}]
    # The second stream is thought to be as fast as before, but its capacity has gone.
    paths[1] = {**PLAIN, "schedule": [[0, 50], [0.5, 5]]}
    rigid = one_task(paths, 40 * MB, action=2, split="proportional")
    pulled = one_task(paths, 40 * MB, action=2, split="pull")
    stolen = one_task(paths, 40 * MB, action=2, split="proportional", service_order="srpt")
    ideal = (40 * MB - 0.5 * 45 * GOODPUT) / (105 * GOODPUT)
    assert taken_s(rigid) > 3 * ideal
    assert taken_s(pulled) < 1.35 * ideal
    assert taken_s(stolen) < 1.35 * ideal


# --- slow start and outages ---


@pytest.mark.parametrize("idle_s", [0.1, 0.5, 3.0])
def test_cubic_slows_down_after_idling(idle_s):
    path = {**PLAIN, "rtt_ms": 40}
    rate, rtt, rto = 100 * GOODPUT, 0.04, 0.24
    first_s = MB / rate
    world = scenario([path], {"tasks": [[0, MB], [first_s + idle_s, MB]]})
    done = outcomes(Simulator(world))
    expected_s = MB / rate
    if idle_s > rto:
        expected_s = rounds_s(MB, rate, rtt, max(rate * rtt * 0.5 ** math.floor(idle_s / rto), WINDOW), 2.0)
    assert taken_s(done[1]) == pytest.approx(expected_s + rtt / 2, rel=1e-3)


@pytest.mark.parametrize("cut_s", [0.5, 2.0, 5.0])
def test_an_outage_lasts_until_a_retry_gets_through(cut_s):
    path = {**PLAIN, "rtt_ms": 40, "queue_ms": 60, "outages": [[1.0, cut_s]]}
    done = one_task([path], 50 * MB)
    rate, rtt, round_trip_s = 100 * GOODPUT, 0.04, 0.1
    retry, rto = 1.0 + round_trip_s, round_trip_s + 0.2
    k = next(k for k in range(1, 20) if retry + rto * (2**k - 1) >= 1.0 + cut_s)
    lost = math.floor(rate * round_trip_s)
    assert done["retransmitted_bytes"] == lost
    expected_s = retry + rto * (2**k - 1) + 2 * rtt + (50 * MB - rate * 1.0 + lost) / rate + rtt / 2
    assert done["completed_at_s"] == pytest.approx(expected_s, rel=1e-6)


def test_a_task_that_meets_an_outage_waits_for_a_retry():
    path = {**PLAIN, "cc": "bbr", "rtt_ms": 40, "outages": [[1.0, 2.0]]}
    done = one_task([path], MB, at_s=1.5)
    retry = next(1.58 + 0.24 * (2**k - 1) for k in range(1, 20) if 1.58 + 0.24 * (2**k - 1) >= 3.0)
    assert done["retransmitted_bytes"] == 0
    assert done["completed_at_s"] == pytest.approx(retry + 0.08 + MB / (100 * GOODPUT) + 0.02, rel=1e-6)


def test_a_stall_is_noticed_after_its_time_out_and_forgotten_after_the_return():
    paths = [{**PLAIN, "outages": [[1.0, 2.0]]}, PLAIN]
    tasks = [[t, 1000] for t in (0.5, 1.1, 1.4, 1.6, 2.9, 3.1)]
    sim = Simulator(scenario(paths, {"tasks": tasks, "stall_timeout_s": 0.5}))
    seen = []
    while not sim.done.all():
        seen.append(bool(sim.action_masks[0, 0]))
        sim.step([1])
    assert seen == [True, True, True, False, False, True]


def test_cubic_survives_a_stall():
    path = {**PLAIN, "loss_pct": 1, "schedule": [[0, 100], [1, 0], [2, 100]]}
    done = one_task([path], 10 * MB)
    assert done["success"]
    limit = 1.22 * MSS / (0.02 * 0.1)
    assert taken_s(done) == pytest.approx(1 + 10 * MB * 1.01 / limit, rel=0.3)


def test_what_makes_no_progress_is_given_up():
    """Every window is lost before its acknowledgement can come: sent again for ever, but for the hour."""
    path = {"cc": "bbr", "rate_mbit": 100, "rtt_ms": 400, "outages": [[0.3, 0.6]], "outage_period_s": 1}
    done = one_task([path], 100 * MB)
    assert not done["success"]
    assert 3600 < done["completed_at_s"] < 8000


def test_what_never_completes_is_given_up():
    path = {**PLAIN, "schedule": [[0, 100], [1, 0]]}
    sim = Simulator(scenario([path, {**PLAIN}], {"tasks": [[0, 100 * MB], [0.5, MB]]}))
    sim.step([0])
    sim.step([1])
    done = np.sort(sim.completed(), order="task")
    assert sim.done.all()
    assert done["success"].tolist() == [False, True]
    assert np.isfinite(done["completed_at_s"]).all()
    assert sim.counters()["in_flight"].tolist() == [0]


# --- conservation ---


@pytest.mark.parametrize("order", ["fifo", "srpt"])
@pytest.mark.parametrize("family", FAMILIES)
def test_bytes_are_conserved(family, order):
    """Ten thousand episodes in all, every decision random."""
    sim = Simulator(family, n_envs=500, seed=7, service_order=order, tasks=25)
    rng = np.random.default_rng(1)
    delivered = np.zeros(sim.n_envs, np.int64)
    resent = np.zeros(sim.n_envs, np.int64)
    tasks = np.zeros(sim.n_envs, np.int64)
    while not sim.done.all():
        masks = rng.integers(1, 16, sim.n_envs).astype(np.uint32)
        sim.step_masks(masks, rng.integers(0, len(SPLITS), sim.n_envs).astype(np.int32))
        done = sim.completed()
        np.add.at(delivered, done["env"], done["size_bytes"])
        np.add.at(resent, done["env"], done["retransmitted_bytes"])
        np.add.at(tasks, done["env"], 1)
        assert (done["completed_at_s"] > done["arrived_at_s"]).all()
        assert np.isfinite(done["reward"]).all()
    totals = sim.counters()
    assert (tasks == 25).all()
    assert np.array_equal(totals["delivered_bytes"], delivered)
    assert np.array_equal(totals["resent_bytes"], resent)
    assert np.array_equal(totals["sent_bytes"], delivered + resent)
    assert not totals["in_flight"].any()
    # The fluid agrees with the count: rates integrated over time give the bytes sent.
    np.testing.assert_allclose(totals["carried_bytes"].sum(axis=1), delivered + resent, rtol=1e-9)


# --- determinism ---


def at_random(sim: Simulator) -> Choice:
    return sim.explore(sim.choose("single_best"), 1.0)


def world_as_met(family, order, rule, seeds):
    """Arrivals, links and faults at every decision, with the policy in charge."""
    sim = Simulator(family, seeds=seeds, service_order=order, tasks=60)
    seen = []
    for _ in range(60):
        waiting, world = sim.waiting(), sim.world()
        seen.append(
            [waiting[key].tobytes() for key in ("size_bytes", "priority", "deadline_s", "arrived_at_s")]
            + [world[key].tobytes() for key in ("capacity_Bps", "outage")]
        )
        sim.step_masks(*sim.choose(rule))
    return hash(tuple(map(tuple, seen)))


@pytest.mark.parametrize("order", ["fifo", "srpt"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_policy_changes_nothing_of_the_world(family, order):
    rules = ("round_robin", "least_completion_time", "equal_split", "pull")
    assert len({world_as_met(family, order, rule, [3, 4, 5]) for rule in rules}) == 1
    assert world_as_met(family, order, "pull", [3, 4, 6]) != world_as_met(family, order, "pull", [3, 4, 5])


@pytest.mark.parametrize("order", ["fifo", "srpt"])
def test_a_batch_of_one_equals_a_batch_of_many(order):
    def episode(sim):
        states, rewards, done = [], [], []
        while not sim.done.all():
            states.append(sim.states.copy())
            rewards.append(sim.step_masks(*at_random(sim)))
            done.append(sim.completed())
        return states, rewards, done

    many = episode(Simulator("mixed", n_envs=4096, seed=50, service_order=order, tasks=30))
    threaded = episode(Simulator("mixed", n_envs=4096, seed=50, service_order=order, tasks=30, threads=3))
    for a, b in zip(many, threaded, strict=True):
        assert all(x.tobytes() == y.tobytes() for x, y in zip(a, b, strict=True))
    for env in (0, 1, 2047, 4095):
        one = episode(Simulator("mixed", n_envs=1, seed=50 + env, service_order=order, tasks=30))
        for k, (state, reward, done) in enumerate(zip(*one, strict=True)):
            assert state[0].tobytes() == many[0][k][env].tobytes()
            assert reward[0] == many[1][k][env]
            mine = many[2][k][many[2][k]["env"] == env]
            for field in done.dtype.names:
                if field not in ("env", "pad"):
                    assert np.array_equal(mine[field], done[field], equal_nan=True)


def test_next_episodes_are_those_of_the_next_seeds():
    sim = Simulator("flaky", n_envs=3, seed=10, tasks=5)
    outcomes(sim)
    assert sim.reset_done(np.array([True, False, True])) == 2
    assert sim.seeds.tolist() == [13, 11, 15]
    assert sim.done.tolist() == [False, True, False]
    fresh = Simulator("flaky", seeds=[13, 15], tasks=5)
    assert np.array_equal(sim.states[[0, 2]], fresh.states)
    sim.reset([11, 10, 12])
    assert np.array_equal(sim.states[1], Simulator("flaky", seed=10).states[0])
    sim.reset([20, 21, 22], only=np.array([False, True, False]))
    assert sim.seeds.tolist() == [11, 21, 12]
    sim.reset(only=np.zeros(3, dtype=bool))
    assert sim.seeds.tolist() == [11, 21, 12]


# --- what a policy sees, and what the trainer gets ---


def test_states_are_in_range_and_actions_masked():
    sim = Simulator("flaky", n_envs=64, seed=3)
    masked = 0
    while not sim.done.all():
        assert (sim.states >= 0).all()
        assert (sim.states <= 1).all()
        assert sim.action_masks.any(axis=1).all()
        masked += (~sim.action_masks).sum()
        sim.step_masks(*at_random(sim))
    assert masked > 0
    assert not sim.states.any()


@pytest.mark.parametrize("order", ["fifo", "srpt"])
def test_experiences_join_each_decision_to_its_own_outcome(order):
    sim = Simulator("mixed", n_envs=8, seed=5, service_order=order, tasks=80, keep_states=True)
    rng = np.random.default_rng(0)
    states = [sim.states.copy()]
    chosen, propensities, explored, experiences, rewards = [], [], [], [], []
    while not sim.done.all():
        chosen.append(rng.integers(0, 15, sim.n_envs))
        propensities.append(rng.random(sim.n_envs).astype(np.float32))
        explored.append(rng.random(sim.n_envs) < 0.5)
        rewards.append(sim.step(chosen[-1], propensities=propensities[-1], explored=explored[-1]))
        states.append(sim.states.copy())
        outcome, joined = sim.completed(), sim.experiences()
        assert np.array_equal(joined["reward"], outcome["reward"].astype(np.float32))
        experiences.append((outcome["env"], joined))
    joined = np.concatenate([part for _, part in experiences])
    envs = np.concatenate([env for env, _ in experiences])
    assert len(joined) == 8 * 80
    assert joined["done"].sum() == 8
    for env, one in zip(envs, joined, strict=True):
        k = int(one["number"])
        assert np.array_equal(one["state"], states[k][env])
        assert np.array_equal(one["next_state"], states[k + 1][env])
        assert one["done"] == (k == 79)
        assert one["propensity"] == propensities[k][env]
        assert one["explored"] == explored[k][env]
        assert masks_of_actions(4)[one["action"]] & ~masks_of_actions(4)[chosen[k][env]] == 0
        assert one["task_id"].decode() == f"{5 + env}/{k}"
    assert np.sum(rewards) == pytest.approx(joined["reward"].sum(), rel=1e-5)


def test_experiences_go_into_the_replay_buffer():
    sim = Simulator("heterogeneous", n_envs=16, tasks=50, keep_states=True)
    buffer = PrioritizedReplayBuffer(1000, n_actions=15)
    stored = 0
    while not sim.done.all():
        sim.step_masks(*at_random(sim))
        joined = sim.experiences()
        assert sim.store(buffer) == len(joined)
        stored += len(joined)
    assert stored == len(buffer) == 16 * 50
    batch = buffer.sample(64)
    assert (batch["next_state"][batch["done"].astype(bool)] == 0).all()
    assert batch["state"].max() <= 1


def test_states_are_kept_only_if_wanted():
    sim = Simulator("homogeneous")
    with pytest.raises(ValueError, match="keep_states"):
        sim.experiences()


def test_deadlines_and_priorities_are_drawn_as_asked():
    world = load("homogeneous")
    sim = Simulator(world, n_envs=50)
    done = outcomes(sim)
    with_deadline = np.isfinite(done["deadline_s"])
    assert with_deadline.mean() == pytest.approx(0.5, abs=0.02)
    slack = (done["deadline_s"] / done["reference_time_s"])[with_deadline]
    assert slack.min() >= 2
    assert slack.max() <= 20
    assert np.log(slack).mean() == pytest.approx(math.log(40) / 2, abs=0.02)
    late = taken_s(done) > done["deadline_s"]
    assert np.array_equal(done["success"], ~late)


def test_the_clairvoyant_is_ahead_of_the_rule_it_improves():
    for order in ("fifo", "srpt"):
        sim = Simulator("mixed", seeds=range(8), service_order=order, tasks=100)
        rule = mean_log_slowdown(run(sim, Rule("least_completion_time")))
        sim.reset()
        parts = []
        while not sim.done.all():
            sim.step_masks(*sim.look_ahead(20, "least_completion_time"))
            parts.append(sim.completed())
        assert mean_log_slowdown(np.concatenate(parts)) < rule - 0.1


def test_looking_ahead_leaves_no_trace():
    plain = Simulator("flaky", seed=4, service_order="srpt", tasks=50)
    looking = Simulator("flaky", seed=4, service_order="srpt", tasks=50)
    while not plain.done.all():
        looking.look_ahead(10, "single_best")
        for sim in (plain, looking):
            sim.step_masks(*sim.choose("proportional"))
        assert plain.completed().tobytes() == looking.completed().tobytes()


def test_the_timeline_tells_what_was_served():
    sim = Simulator("mixed", seed=2, service_order="srpt", tasks=60, record_timeline=True)
    done = outcomes(sim, action=14)
    line = sim.timeline()
    assert (line["end_s"] > line["start_s"]).all()
    for stream in range(4):
        mine = np.sort(line[line["stream"] == stream], order="start_s")
        assert (mine["start_s"][1:] >= mine["end_s"][:-1] - 1e-9).all()
    served = np.bincount(line["task"], weights=line["bytes"], minlength=60)
    np.testing.assert_allclose(served, done["size_bytes"] + done["retransmitted_bytes"], rtol=1e-6, atol=4)


# --- wrong use ---


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"n_envs": 0}, ValueError, "n_envs = 0: expected at least 1"),
        ({"n_envs": 2.0}, TypeError, "n_envs = 2.0: expected an integer"),
        ({"n_envs": 10**11}, MemoryError, "simulate fewer environments"),
        ({"seed": -1}, ValueError, "seed = -1"),
        ({"seeds": []}, ValueError, "at least one integer"),
        ({"seeds": [1.5]}, ValueError, "at least one integer"),
        ({"seeds": [-1]}, ValueError, "got -1"),
        ({"threads": 0}, ValueError, "threads = 0"),
        ({"service_order": "lifo"}, ValueError, "service_order"),
        ({"load": 0}, ValueError, "load"),
        ({"tasks": 0}, ValueError, "tasks"),
        ({"scenario": "mixt"}, ValueError, "mixed"),
    ],
)
def test_wrong_arguments_are_refused(arguments, error, match):
    with pytest.raises(error, match=match):
        Simulator(**arguments)


def test_wrong_decisions_are_refused():
    sim = Simulator("homogeneous", n_envs=2)
    for actions in ([0], [0, 15], [-1, 0], [0.0, 1.0]):
        with pytest.raises(ValueError, match="actions: expected"):
            sim.step(actions)
    with pytest.raises(ValueError, match="split = 'half'"):
        sim.step([0, 0], split="half")
    with pytest.raises(ValueError, match=r"expected \[2\] each"):
        sim.step_masks(np.ones(1, np.uint32), np.zeros(2, np.int32))
    with pytest.raises(TypeError, match="expected uint32 and int32; got int64"):
        sim.step_masks(np.ones(2, np.int64), np.zeros(2, np.int32))
    with pytest.raises(ValueError, match="splits: expected"):
        sim.step_masks(np.ones(2, np.uint32), np.full(2, 9, np.int32))
    with pytest.raises(ValueError, match="no rule is named 'best'"):
        sim.choose("best")
    with pytest.raises(ValueError, match="horizon = 0"):
        sim.look_ahead(0, "pull")


def test_a_load_over_one_runs_and_queues_grow():
    world = load("homogeneous").with_options(load=1.4, tasks=400)
    assert any("without bound" in text for text in world.warnings)
    sim = Simulator(world, n_envs=4)
    depth = []
    while not sim.done.all():
        depth.append(sim.counters()["in_flight"].mean())
        sim.step_masks(*sim.choose("least_completion_time"))
    assert np.mean(depth[-50:]) > 3 * np.mean(depth[:50])


# --- planned times ---


def planned_s(size, rates, delays, min_chunk):
    """When water-filling is through, exactly; the smallest share under the least chunk is left out."""
    left = list(range(len(rates)))
    while True:
        of_left = [rates[i] for i in left], [delays[i] for i in left]
        shares = water_shares(size, *of_left)
        smallest = min(range(len(left)), key=shares.__getitem__)
        if len(left) == 1 or shares[smallest] >= min_chunk:
            return float(water_level(size, *of_left))
        del left[smallest]


def test_expected_times_are_those_of_water_filling():
    path = {"rate_mbit": {"uniform": [20, 90]}, "random_outages": {"up_s": 1.0, "down_s": 1.0}}
    world = load({"paths": [{**path, "rtt_ms": rtt} for rtt in (5, 20, 60, 150)]})
    sim = Simulator(world, n_envs=20, tasks=30)
    masks = np.tile(np.arange(16, dtype=np.uint32), (sim.n_envs, 1))
    planned, nothing, dropped = [], 0, 0
    while not sim.done.any():
        times, seen = sim.expected_times(masks), sim.waiting()
        for env in range(0, sim.n_envs, 5):
            for mask in range(16):
                streams = [i for i in range(4) if mask & seen["up"][env] & (1 << i)]
                if not streams:
                    assert times[env, mask] == math.inf
                    nothing += 1
                    continue
                rates = seen["rate_Bps"][env, streams]
                delays = (seen["latency_s"] + seen["work_ahead_s"])[env, streams]
                size = int(seen["size_bytes"][env])
                expected = planned_s(size, rates, delays, 65536)
                dropped += expected > planned_s(size, rates, delays, 0)
                # Chunks are whole bytes.
                assert times[env, mask] == pytest.approx(expected, rel=1e-9, abs=1 / rates.min())
        action = sim.action_masks.argmax(axis=1)
        planned.append(times[np.arange(sim.n_envs), masks_of_actions(4)[action]])
        sim.step(action)
        # An outcome remembers what was expected of it.
        done = sim.completed()
        expected = [planned[row["task"]][row["env"]] for row in done]
        np.testing.assert_array_equal(done["expected_time_s"], expected)
    assert nothing > 0
    assert dropped > 0


def test_nothing_is_expected_when_an_episode_is_over():
    sim = Simulator(scenario([PLAIN]), n_envs=2, tasks=1)
    masks = np.ones((2, 3), dtype=np.uint32)
    assert np.isfinite(sim.expected_times(masks)).all()
    outcomes(sim)
    assert (sim.expected_times(masks) == math.inf).all()


@pytest.mark.parametrize(
    "masks", [np.ones((3, 1), np.uint32), np.ones(2, np.uint32), np.ones((2, 1), np.int64)]
)
def test_masks_of_another_shape_or_type_are_refused(masks):
    with pytest.raises(ValueError, match=r"masks: expected uint32\[2, k\]"):
        Simulator(scenario([PLAIN]), n_envs=2).expected_times(masks)


# --- copies that go on from now ---


def advanced(order, tasks, n_envs=6):
    sim = Simulator("mixed", n_envs=n_envs, seed=40, service_order=order)
    for _ in range(tasks):
        sim.step_masks(*sim.choose("single_best"))
    return sim


def run_on(sim):
    parts = [sim.completed()]
    while not sim.done.all():
        sim.step_masks(*sim.choose("least_completion_time"))
        parts.append(sim.completed())
    return np.sort(np.concatenate(parts), order=["env", "task"])


@pytest.mark.parametrize("order", ["fifo", "srpt"])
def test_a_branch_goes_on_as_the_world_itself_does(order):
    sim = advanced(order, 60)
    copies = sim.branch([4, 1, 4], 200)
    np.testing.assert_array_equal(copies.states, sim.states[[4, 1, 4]])
    np.testing.assert_array_equal(copies.seeds, sim.seeds[[4, 1, 4]])
    before = sim.states.copy()
    of_copies = run_on(copies)
    # What happens in copies leaves the world as it was.
    np.testing.assert_array_equal(sim.states, before)
    assert not sim.done.any()
    itself = run_on(sim)
    for k, env in enumerate([4, 1, 4]):
        mine, wanted = of_copies[of_copies["env"] == k], itself[itself["env"] == env]
        # Tasks that were through before it began to run on are in neither.
        wanted = wanted[np.isin(wanted["task"], mine["task"])]
        mine = mine[np.isin(mine["task"], wanted["task"])]
        assert len(mine) >= 140
        for name in ("task", "completed_at_s", "mask", "reward", "retransmitted_bytes"):
            np.testing.assert_array_equal(mine[name], wanted[name])


def test_a_branch_outlives_the_worlds_it_came_from():
    sim = advanced("fifo", 20)
    copies, twin = sim.branch([0, 2], 30), sim.branch([0, 2], 30)
    wanted = run_on(twin)
    sim.reset(np.arange(6, dtype=np.uint64) + 500)
    del sim
    np.testing.assert_array_equal(run_on(copies), wanted)


@pytest.mark.parametrize("order", ["fifo", "srpt"])
def test_branches_find_what_the_oracle_finds(order):
    sim = advanced(order, 50)
    effective = sim.effective_actions
    env, action = np.nonzero(effective == np.arange(15))
    future = sim.branch(env, 30)
    future.step(action)
    outcomes = run_on(future)
    cost = np.full((6, 15), np.inf)
    taken_s = outcomes["completed_at_s"] - outcomes["arrived_at_s"]
    total = np.bincount(outcomes["env"], np.log(taken_s / outcomes["reference_time_s"]), minlength=len(env))
    cost[env, action] = total
    chosen, *_ = sim.look_ahead(30, "least_completion_time")
    np.testing.assert_array_equal(masks_of_actions(4)[cost.argmin(axis=1)], chosen)


def test_a_branch_ends_after_its_horizon():
    sim = advanced("fifo", 190)
    assert len(run_on(sim.branch([0], 3))) <= 3 + sim.counters()["in_flight"][0]
    copies = sim.branch([0, 1], 1)
    copies.step([0, 3])
    assert copies.done.all()
    np.testing.assert_array_equal(
        sim.branch([0], 10_000).effective_actions, sim.branch([0], 10).effective_actions
    )


# --- copies of the whole ---


def pickled(sim):
    return pickle.loads(pickle.dumps(sim))


@pytest.mark.parametrize("copied", [copy.deepcopy, pickled, lambda sim: pickled(copy.deepcopy(sim))])
@pytest.mark.parametrize("order", ["fifo", "srpt"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_copy_goes_on_exactly(family, order, copied):
    options = {"service_order": order, "tasks": 60, "keep_states": True, "record_timeline": True}
    sim = Simulator(family, n_envs=4, seed=3, threads=2, **options)
    for k in range(30):
        # A rule of every kind, so that slots and steals of every kind are in flight.
        sim.step_masks(*sim.choose(("pull", "single_best", "least_completion_time", "equal_split")[k % 4]))
    other = copied(sim)
    assert other.n_tasks == 60
    rng = np.random.default_rng(0)
    for k in range(90):
        if k == 10:  # other worlds, in some of the environments
            for each in (sim, other):
                each.reset([7, 8, 9, 10], only=np.array([True, False, False, True]))
        for left, right in (
            (sim.states, other.states),
            (sim.seeds, other.seeds),
            (sim.done, other.done),
            (sim.completed(), other.completed()),
            (sim.experiences(), other.experiences()),
            (sim.timeline(), other.timeline()),
            *zip(sim.counters().values(), other.counters().values(), strict=True),
            *zip(sim.world().values(), other.world().values(), strict=True),
        ):
            np.testing.assert_array_equal(left, right)
        actions, propensities = rng.integers(0, 15, 4), rng.random(4)
        rewards = [each.step(actions, propensities=propensities) for each in (sim, other)]
        np.testing.assert_array_equal(*rewards)
    assert sim.done.all()
    assert other.reset_done() == 4


def test_equal_simulators_are_pickled_as_equal_bytes():
    sim, twin = (advanced("srpt", 20) for _ in range(2))
    batch = sim._batch.__reduce__()[1][3]
    np.testing.assert_array_equal(batch, twin._batch.__reduce__()[1][3])
    np.testing.assert_array_equal(batch, pickled(sim)._batch.__reduce__()[1][3])


def test_a_copy_takes_many_tasks_in_flight_along():
    burst = [[0.001 * k, 100_000] for k in range(400)]
    sim = Simulator(scenario([PLAIN, PLAIN], {"tasks": burst}))
    for _ in range(300):
        sim.step([0])
    other = copy.deepcopy(sim)
    assert other.counters()["in_flight"][0] > 250
    np.testing.assert_array_equal(outcomes(sim), outcomes(other))


def test_a_copy_of_a_branch_ends_where_the_branch_does():
    branch = advanced("fifo", 50).branch([0, 3], 5)
    other = pickled(branch)
    np.testing.assert_array_equal(run_on(branch), run_on(other))


def test_effective_actions_are_what_their_actions_come_to():
    sim = advanced("fifo", 30, n_envs=40)
    effective, small = sim.effective_actions, sim.waiting()["size_bytes"] < 2 * 65_536
    assert 0 < small.sum() < 40
    assert (effective[small] < 4).all()
    rng = np.random.default_rng(0)
    for _ in range(20):
        given = rng.integers(0, 15, 40)
        one, other = sim.branch(range(40), 5), sim.branch(range(40), 5)
        one.step(given)
        other.step(effective[np.arange(40), given])
        mine, theirs = run_on(one), run_on(other)
        np.testing.assert_array_equal(mine["completed_at_s"], theirs["completed_at_s"])


@pytest.mark.parametrize("envs", [[], [6], [-1], [[0]]])
def test_what_cannot_be_branched_is_refused(envs):
    with pytest.raises(ValueError, match="envs: expected"):
        advanced("fifo", 1).branch(envs, 5)
    with pytest.raises(ValueError, match="horizon = 0"):
        advanced("fifo", 1).branch([0], 0)


def test_a_pickle_damaged_anywhere_is_refused():
    sim = Simulator("mixed", n_envs=2, seed=1, tasks=10)
    for _ in range(4):
        sim.step_masks(*at_random(sim))
    load, (worlds, options, *rest) = sim._batch.__reduce__()
    assert (load(worlds, options, *rest).states == sim.states).all()
    for k, table in enumerate(worlds):
        if table.size:
            damaged = table.copy()
            damaged.view(np.uint8).reshape(-1)[-1] ^= 1
            with pytest.raises(ValueError, match="damaged"):
                load((*worlds[:k], damaged, *worlds[k + 1 :]), options, *rest)
    with pytest.raises(ValueError, match="damaged"):
        load(worlds, options | {"n_tasks": 11}, *rest)
