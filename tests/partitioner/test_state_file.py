"""What was learnt survives a restart; files that are damaged, hostile or of another site are refused."""

from __future__ import annotations

import json
import math
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import itp
from itp.state_file import _sha256

pytestmark = pytest.mark.core

MB = 10**6


def used(clock, n_streams=3, tasks=200, **options):
    """A partitioner that has decided and learnt for a while."""
    p = itp.TaskPartitioner(n_streams=n_streams, clock=clock, **options)
    for i in range(n_streams):
        p.update_stream(i, 100.0 / (1 + i), 20.0 + i, success_rate=0.98)
    for k in range(tasks):
        clock.set(clock.monotonic_s + 0.25 * (1 + k % 3))
        d = p.partition_task(itp.Task("t", MB + 1000 * k))
        p.report_outcome(d, 50.0, 0.3, success=k % 5 > 0)
    return p


def known(p):
    """What a partitioner has learnt, as far as it can be seen."""
    workload = p.network.workload(MB)
    streams = [p.network.stream(i) for i in range(p.n_streams)]
    return workload, streams, p.metrics().reliability


def close(a, b):
    """Equal but for rounding."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(close(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(close(x, y) for x, y in zip(a, b, strict=True))
    return a == pytest.approx(b, rel=1e-6, abs=1e-6) if isinstance(a, float) else a == b


@pytest.fixture
def saved(tmp_path):
    """A good file of three streams under fifo."""
    path = tmp_path / "state.json"
    with used(itp.ManualClock(1000.0, 5e8)) as p:
        p.save(path)
    return path


def start(path, **options):
    clock = itp.ManualClock(0.0, 5e8 + 151)
    return itp.TaskPartitioner(n_streams=3, clock=clock, restore=path, **options)


def test_what_was_learnt_survives_a_restart(tmp_path):
    path = tmp_path / "state.json"
    clock = itp.ManualClock(1e6, 1.7e9)
    for tasks in (0, 1, 7, 200):
        with used(clock, tasks=tasks) as p:
            p.save(path)
            before = known(p)
            # Another boot: its monotonic clock counts from another moment.
            again = itp.ManualClock(3.0, clock.unix_s)
            with itp.TaskPartitioner(n_streams=3, clock=again, restore=path) as q:
                assert close(known(q), before)
                assert q.network.queue_depth == 0
                assert q.metrics().total_decisions == 0
                # It goes on as the one before would have.
                for each, its_clock in ((p, clock), (q, again)):
                    its_clock.set(its_clock.monotonic_s + 0.5)
                    each.partition_task(itp.Task("t", 3 * MB))
                assert close(q.network.workload(MB), p.network.workload(MB))


def test_the_time_between_counts(tmp_path):
    path = tmp_path / "state.json"
    clock = itp.ManualClock(1000.0, 1.7e9)
    with used(clock, tasks=20) as p:
        gap_s = p.network.workload(MB)["gap_s"]
        p.save(path)
    for away_s in (-1e6, 0.0, 0.5, 3600.0, 7 * 86400.0, 1e9):
        later = itp.ManualClock(1.0, max(0.0, clock.unix_s + away_s))
        with itp.TaskPartitioner(n_streams=3, clock=later, restore=path) as q:
            found = q.network.workload(MB)
            q.partition_task(itp.Task("t", MB))
            # At most 32 mean gaps, and less than none where the clock went back.
            assert gap_s * 0.9 < found["gap_s"] < 4 * gap_s
            assert all(math.isfinite(value) for value in found.values())


def report(p, seconds, streams=True):
    """One task, and how long each of its streams took."""
    d = p.partition_task(itp.Task("t", 20 * MB))
    each = {i: (size, seconds) for i, size in zip(d.stream_ids, d.chunk_sizes, strict=True)}
    mbps = 160.0 / max(seconds, 1e-3)
    p.report_outcome(d, mbps, seconds, True, streams=each if streams else {})


@pytest.mark.parametrize("away_s", [0.0, 1.0, 20.0, 4000.0])
@pytest.mark.parametrize("measurements", [0, 1, 5])
@pytest.mark.parametrize("outcomes", [0, 1, 6])
def test_estimates_follow_outcomes_as_without_a_restart(tmp_path, measurements, outcomes, away_s):
    path, clock = tmp_path / "state.json", itp.ManualClock(1e5, 1.7e9)
    with itp.TaskPartitioner(n_streams=1, clock=clock) as p:
        for _ in range(measurements):
            clock.set(clock.monotonic_s + 2.0)
            p.update_stream(0, 100.0, 20.0, success_rate=0.9)
        for _ in range(outcomes):
            clock.set(clock.monotonic_s + 8.0)
            report(p, 7.0)
        p.save(path)
        clock.set(clock.monotonic_s + away_s, clock.unix_s + away_s)
        # This host has been up for a moment only: what was before has negative times on its clock.
        again = itp.ManualClock(0.5, clock.unix_s)
        with itp.TaskPartitioner(n_streams=1, clock=again, restore=path) as q:
            for seconds in (6.0, 9.0, 1.0, 30.0):
                assert close(q.network.stream(0), p.network.stream(0))
                for each, its_clock in ((p, clock), (q, again)):
                    its_clock.set(its_clock.monotonic_s + 31.0)
                    report(each, seconds)
            for each in (p, q):
                each.update_stream(0, 50.0, 30.0, success_rate=1.0)
                report(each, 1.0)
            assert close(q.network.stream(0), p.network.stream(0))


def test_what_the_caller_keeps_measuring_stays_after_a_restart(tmp_path):
    path, clock = tmp_path / "state.json", itp.ManualClock(1e5, 1.7e9)
    with itp.TaskPartitioner(n_streams=1, clock=clock) as p:
        for _ in range(5):
            clock.set(clock.monotonic_s + 2.0)
            p.update_stream(0, 100.0, 20.0, success_rate=0.9)
        p.save(path)
    for away_s, kept in ((1.0, True), (3.0, True), (5.0, False)):
        again = itp.ManualClock(0.5, clock.unix_s + away_s)
        with itp.TaskPartitioner(n_streams=1, clock=again, restore=path) as q:
            report(q, 7.0)
            assert (q.network.stream(0)["bandwidth_mbps"] == pytest.approx(100.0)) is kept


def test_a_stream_that_was_slow_is_tried_again_after_a_restart(tmp_path):
    path, clock = tmp_path / "state.json", itp.ManualClock(1e5, 1.7e9)
    with itp.TaskPartitioner(n_streams=2, clock=clock) as p:
        p.set_stream_up(1, False)
        for seconds in (2.0,) * 20 + (60.0,) * 3:
            clock.set(clock.monotonic_s + 100.0)
            report(p, seconds)
        # While others carry the tasks, it rises; how far it has come is kept.
        p.set_stream_up(1, True)
        p.set_stream_up(0, False)
        clock.set(clock.monotonic_s + 60.0, clock.unix_s + 60.0)
        slow_mbps = p.network.stream(0)["bandwidth_mbps"]
        report(p, 1.0, streams=False)
        risen_mbps = p.network.stream(0)["bandwidth_mbps"]
        assert risen_mbps > 1.1 * slow_mbps
        p.save(path)
        again = itp.ManualClock(0.5, clock.unix_s)
        with itp.TaskPartitioner(n_streams=2, clock=again, restore=path) as q:
            q.set_stream_up(0, False)
            report(q, 1.0, streams=False)
            assert q.network.stream(0)["bandwidth_mbps"] == pytest.approx(risen_mbps)
            for each, its_clock in ((p, clock), (q, again)):
                its_clock.set(its_clock.monotonic_s + 600.0)
                report(each, 1.0, streams=False)
            found_mbps = q.network.stream(0)["bandwidth_mbps"]
            assert found_mbps > 1.1 * risen_mbps
            assert found_mbps == pytest.approx(p.network.stream(0)["bandwidth_mbps"])


@pytest.mark.parametrize("bandwidth_Bps", [0, 1e-300, 1e30])
@pytest.mark.parametrize("evidence", [{"drift": 1.0}, {"drift": -1.0}, {"share": 1.0}, {"known": False}])
def test_extreme_values_stay_in_bounds(saved, bandwidth_Bps, evidence):
    def edit(whole):
        for stream in whole["state"]["streams"]:
            stream.update(bandwidth_Bps=bandwidth_Bps, variability=0.01, measured_age_s=1e12)
            stream["evidence"].update({"share": 0.0, "usual_Bps": 1e30, "recovered_age_s": 1e12, **evidence})
            for figure in FIGURES:
                stream["evidence"][figure].update(age_s=1e12, outcomes=1e30)

    change(saved, edit)
    with start(saved) as p:
        for seconds in (1e-3, 1e3, 5.0, 0.0, 1e300):
            report(p, seconds)
            report(p, seconds, streams=False)
            for i in range(3):
                stream = p.network.stream(i)
                assert all(math.isfinite(v) for v in stream.values() if isinstance(v, float))
                assert stream["bandwidth_mbps"] >= 0.0
        # What it comes to can be kept again.
        p.save(saved)
    start(saved).close()


def test_a_set_model_decides_on_as_before(tmp_path):
    from set_models import set_file

    model, path = set_file(tmp_path / "m.onnx"), tmp_path / "state.json"
    clock = itp.ManualClock(50.0, 1.7e9)
    with used(clock, model=model) as p:
        p.save(path)
        with itp.TaskPartitioner(
            model, n_streams=3, clock=itp.ManualClock(9.0, clock.unix_s), restore=path
        ) as q:
            task = itp.Task("t", 20 * MB)
            a, b = p._decider.features(task), q._decider.features(task)
            for name in ("streams", "context", "candidates"):
                assert a[name] == pytest.approx(b[name], abs=1e-5)


def test_without_a_file_nothing_is_known(tmp_path):
    with start(tmp_path / "missing.json") as p:
        assert p.network.workload(MB)["tasks"] == 0


def test_files_of_another_site_are_refused(saved):
    content = saved.read_bytes()
    with pytest.raises(itp.StateError, match="of 3 streams, not of 4"):
        itp.TaskPartitioner(n_streams=4, restore=saved)
    with pytest.raises(itp.StateError, match="'fifo', not by 'srpt'"):
        start(saved, service_order="srpt")
    assert saved.read_bytes() == content


def test_files_cut_short_are_refused(saved):
    content = saved.read_bytes()
    for length in [*range(0, len(content) - 2, 97), len(content) - 3]:
        saved.write_bytes(content[:length])
        with pytest.raises(itp.StateError, match="fresh start"):
            start(saved)


@settings(deadline=None, max_examples=150)
@given(data=st.data())
def test_a_changed_byte_is_refused_or_changes_nothing(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("state") / "state.json"
    with used(itp.ManualClock(1000.0, 5e8), tasks=5) as p:
        p.save(path)
    content = bytearray(path.read_bytes())
    with start(path) as p:
        before = known(p)
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    try:
        p = start(path)
    except itp.StateError:
        return
    with p:
        assert close(known(p), before)


def change(path, edit, *, sign=True):
    """Change a file's content as somebody would who knows the format."""
    whole = json.loads(path.read_text())
    edit(whole)
    if sign:
        whole["sha256"] = _sha256(whole["state"])
    path.write_text(json.dumps(whole))


def put(*keys, value):
    def edit(whole):
        place = whole
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = value

    return edit


WRONG = [
    (put("version", value=2), "of version 2"),
    (put("version", value="1"), "of version '1'"),
    (put("format", value="other"), "not a state file"),
    (put("state", value=None), "object with"),
    (put("state", "streams", value=[]), "list of 3"),
    (put("state", "streams", 1, value={}), "object with bandwidth_Bps"),
    (put("state", "extra", value=1), "object with"),
    (put("state", "saved_at_s", value=-1), "saved_at_s"),
    (put("state", "saved_at_s", value=1e300), "saved_at_s"),
    (put("state", "n_streams", value=10**400), "streams"),
    (put("state", "service_order", value=["fifo"]), "served by"),
    (put("state", "workload", "tasks", value=-1), "tasks"),
    (put("state", "workload", "tasks", value=10**30), "tasks"),
    (put("state", "workload", "tasks", value=5), "list of 5"),
    (put("state", "workload", "tasks", value=5.5), "tasks"),
    (put("state", "workload", "sizes_bytes", 3, value=0), "sizes_bytes"),
    (put("state", "workload", "sizes_bytes", 3, value=1e31), "sizes_bytes"),
    (put("state", "workload", "sizes_bytes", 3, value="1"), "sizes_bytes"),
    (put("state", "reliability", "hits", 0, value=1e9), "hits"),
    (put("state", "reliability", "outcomes", value=[1.0] * 9), "list of 10"),
]
WORKLOAD = [
    "gap_short_s",
    "gap_long_s",
    "gap_square_s2",
    "bytes_short",
    "weight_short",
    "weight_long",
    "age_s",
]
STREAM = ["bandwidth_Bps", "latency_s", "success_rate", "variability", "lateness", "measured_age_s"]
WRONG_NUMBERS = [-2.0, 1e300, float("nan"), float("inf"), None, "1", True, [1.0]]
WRONG += [(put("state", "workload", k, value=v), k) for k in WORKLOAD for v in WRONG_NUMBERS]
WRONG += [(put("state", "streams", 0, k, value=v), k) for k in STREAM for v in WRONG_NUMBERS]
EVIDENCE = ["share", "drift", "usual_Bps", "recovered_age_s"]
WRONG += [
    (put("state", "streams", 2, "evidence", k, value=v), rf"streams\[2\]: evidence: {k}")
    for k in EVIDENCE
    for v in WRONG_NUMBERS
]
WRONG += [(put("state", "streams", 2, "evidence", "known", value=v), "known") for v in (0, 1, None, "true")]
WRONG += [(put("state", "streams", 2, "evidence", value=v), "evidence") for v in (None, {}, [])]
FIGURES = ["bandwidth", "latency", "success"]
WRONG += [
    (put("state", "streams", 2, "evidence", figure, k, value=v), f"evidence: {figure}: {k}")
    for figure in FIGURES
    for k in ("age_s", "interval_s", "outcomes")
    for v in WRONG_NUMBERS
    # An age of null: never measured.
    if (k, v) != ("age_s", None)
]
WRONG += [(put("state", "streams", 2, "evidence", "latency", value=v), "latency") for v in (None, {}, 1.0)]
WRONG += [(put("state", "streams", 2, "evidence", "success", "interval_s", value=61), "interval_s")]


def test_hostile_values_are_refused(saved):
    content = saved.read_bytes()
    for edit, text in WRONG:
        saved.write_bytes(content)
        change(saved, edit)
        with pytest.raises(itp.StateError, match=text):
            start(saved)


def test_other_content_is_refused(saved):
    for content in (
        b"",
        b"[]",
        b"null",
        b"{}",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"format": "itp state", "version": 1}',
        b" " * (2**20 + 1),
    ):
        saved.write_bytes(content)
        with pytest.raises(itp.StateError):
            start(saved)
    saved.unlink()
    saved.mkdir()
    with pytest.raises(itp.StateError, match="cannot be read"):
        start(saved)
    with pytest.raises(itp.StateError, match="cannot be read"):
        start("a\0b")


def test_a_file_that_cannot_be_written_leaves_the_old_one(saved, monkeypatch):
    content = saved.read_bytes()
    with start(saved) as p:
        with pytest.raises(itp.StateError, match="cannot be written"):
            p.save(saved.parent / "none" / "state.json")

        def full(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(itp.StateError, match="No space left"):
            p.save(saved)
    assert saved.read_bytes() == content
    assert [file.name for file in saved.parent.iterdir()] == [saved.name]
    with pytest.raises(itp.ClosedError):
        p.save(saved)


def test_a_state_error_is_a_value_error():
    assert issubclass(itp.StateError, (itp.ItpError, ValueError))
