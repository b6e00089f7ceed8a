"""The experience log: complete, exact, never waited for, and whole after any end of the process."""

from __future__ import annotations

import collections
import errno
import gc
import itertools
import os
import signal
import stat
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import pytest

import itp
from itp.experience.log import ExperienceLog
from itp.experience.reader import read_log
from itp.experience.record import SOURCES, record_dtype
from itp.experience.segment import Segment, frame_dtype

pytestmark = pytest.mark.core
ignores_forks = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")

NEVER_S = 86_400.0


def report(p, task_id="task", success=True):
    decision = p.partition_task(itp.Task(task_id, 1000))
    p.report_outcome(decision, 50.0, 0.1, success)
    return decision


def run(folder, n=50, **options):
    with itp.TaskPartitioner(experience_log=folder, epsilon=0.3, seed=1, **options) as p:
        decisions = [p.partition_task(itp.Task(f"task-{k}", 1000 * (k + 1))) for k in range(n)]
        # Reported in another order than decided.
        rewards = [p.report_outcome(d, 50.0, 0.1, d.number % 3 != 0) for d in reversed(decisions)]
        states = [d.state for d in decisions]
    return decisions, states, rewards[::-1]


def becomes(condition, timeout_s=30.0):
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline_s:
            return False
        time.sleep(0.005)
    return True


class Disk:
    """Stands before ``Segment.write``: it can be shut, be full, or be broken."""

    def __init__(self, monkeypatch):
        self.open = threading.Event()
        self.open.set()
        self.entered = threading.Event()
        self.room = float("inf")
        self.error = None
        real = Segment.write

        def write(segment, parts):
            self.entered.set()
            self.open.wait(60)
            if self.error is not None:
                raise OSError(self.error, os.strerror(self.error))
            if self.room <= 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            room = min(self.room, sum(map(len, parts)))
            part = b"".join(parts)[: int(room)]
            written = real(segment, [memoryview(part)])
            self.room -= written
            return written

        monkeypatch.setattr(Segment, "write", write)


@pytest.fixture
def disk(monkeypatch):
    return Disk(monkeypatch)


# --- what is kept ---


def test_every_joined_experience_is_kept(tmp_path):
    decisions, states, rewards = run(tmp_path / "log")
    records = read_log(tmp_path / "log")
    assert records.dtype == record_dtype(4)
    records = records[np.argsort(records["number"])]
    assert records["number"].tolist() == list(range(1, 51))
    np.testing.assert_array_equal(records["state"], np.stack(states))
    np.testing.assert_array_equal(records["next_state"][:-1], np.stack(states[1:]))
    assert not records["next_state"][-1].any()
    np.testing.assert_array_equal(records["action"], [d.action for d in decisions])
    np.testing.assert_allclose(records["reward"], rewards, rtol=1e-6)
    np.testing.assert_allclose(records["propensity"], [d.propensity for d in decisions], rtol=1e-6)
    assert records["explored"].tolist() == [d.explored for d in decisions]
    assert records["done"].tolist() == [False] * 49 + [True]
    assert records["task_id"].tolist() == [f"task-{k}".encode() for k in range(50)]
    assert records["decided_at_s"].tolist() == [d.decided_at_s for d in decisions]
    assert records["completed_at_s"].tolist() == [d.completed_at_s for d in decisions]
    assert (records["source"] == SOURCES.index("heuristic")).all()
    assert (records["model_version"] == b"").all()


def test_the_record_names_who_decided(tmp_path):
    with itp.TaskPartitioner("dqn_v1", experience_log=tmp_path) as p:
        for k in range(4):
            p.update_stream(k, bandwidth_mbps=10.0 * (k + 1), latency_ms=20.0)
        decisions = [report(p, str(k)) for k in range(20)]
    records = read_log(tmp_path)
    assert [SOURCES[k] for k in records["source"]] == [d.source for d in decisions]
    assert [text.decode() for text in records["model_version"]] == [d.model_version for d in decisions]


def test_a_second_run_adds_to_the_folder(tmp_path):
    run(tmp_path, 10)
    run(tmp_path, 5)
    assert len(read_log(tmp_path)) == 15


@pytest.mark.parametrize("n_streams", [1, 7, 16])
def test_other_numbers_of_streams(tmp_path, n_streams):
    decisions, states, _ = run(tmp_path, 5, n_streams=n_streams)
    records = np.sort(read_log(tmp_path), order="number")
    assert records.dtype == record_dtype(n_streams)
    np.testing.assert_array_equal(records["state"], np.stack(states))
    np.testing.assert_array_equal(records["next_state"][:-1], np.stack(states[1:]))
    assert records["action"].tolist() == [d.action for d in decisions]


@pytest.mark.parametrize(
    ("task_id", "kept"),
    [
        ("é" * 100, "é" * 32),
        ("a" + "é" * 100, "a" + "é" * 31),
        ("日" * 40, "日" * 21),
        ("x" * 64, "x" * 64),
        ("\ud800", "?"),
        ("\ud800" * 70, "?" * 64),
        ("", ""),
    ],
)
def test_task_ids_are_cut_between_two_characters(tmp_path, task_id, kept):
    with itp.TaskPartitioner(experience_log=tmp_path) as p:
        report(p, task_id)
    assert read_log(tmp_path)["task_id"][0] == kept.encode()


def test_only_reported_decisions_of_as_many_streams_are_kept(tmp_path):
    with ExperienceLog(tmp_path, 4) as log, itp.TaskPartitioner() as p, itp.TaskPartitioner(n_streams=3) as q:
        with pytest.raises(ValueError, match="report the outcome"):
            log.add(p.partition_task(itp.Task("open", 1)))
        with pytest.raises(ValueError, match="3 streams"):
            log.add(report(q))
        log.add(report(p))
    with pytest.raises(itp.LogError, match="closed"):
        log.add(report(itp.TaskPartitioner()))
    assert len(read_log(tmp_path)) == 1


def test_one_log_of_several_partitioners(tmp_path):
    partitioners = [itp.TaskPartitioner() for _ in range(3)]
    with ExperienceLog(tmp_path, 4) as log:
        for k in range(10):
            for p in partitioners:
                log.add(report(p, f"{k}"))
    records = read_log(tmp_path)
    assert sorted(records["number"]) == sorted([*range(1, 11)] * 3)
    assert records["done"].sum() == 3


# --- when it is written ---


def test_no_segment_and_no_thread_before_the_first_record(tmp_path):
    before = threading.active_count()
    with itp.TaskPartitioner(experience_log=tmp_path / "log") as p:
        p.partition_task(itp.Task("open", 1))
        p._log.flush()
        assert threading.active_count() == before
    assert list((tmp_path / "log").iterdir()) == []


def test_what_is_flushed_is_on_the_disk(tmp_path):
    with itp.TaskPartitioner(experience_log=tmp_path, experience_interval_s=NEVER_S) as p:
        for k in range(3):
            report(p, str(k))
        assert len(read_log(tmp_path)) == 0
        p._log.flush()
        records = read_log(tmp_path)
        assert records["number"].tolist() == [1, 2, 3]
        assert records["done"].tolist() == [False, False, True]
    assert p._log._writer.thread.is_alive() is False


def test_the_newest_decision_gets_its_next_state_once_there_is_one(tmp_path):
    with itp.TaskPartitioner(experience_log=tmp_path, experience_interval_s=NEVER_S) as p:
        late = [p.partition_task(itp.Task(str(k), 1000)) for k in range(3)]
        newest = report(p, "newest")
        p._log.flush()
        assert read_log(tmp_path)["done"].tolist() == [True]
        # Older decisions, reported later, come between its two records.
        for decision in late:
            p.report_outcome(decision, 1.0, 1.0, True)
            p._log.flush()
        assert read_log(tmp_path)["done"].sum() == 1
        following = report(p, "following")
        p._log.flush()
        records = read_log(tmp_path)
    assert len(read_log(tmp_path)) == len(records) == 5
    (record,) = records[records["number"] == newest.number]
    assert not record["done"]
    np.testing.assert_array_equal(record["next_state"], following.state)
    assert records["number"][records["done"]].tolist() == [following.number]


def test_records_reach_the_disk_within_the_interval(tmp_path):
    with itp.TaskPartitioner(experience_log=tmp_path, experience_interval_s=0.01) as p:
        for n in (1, 3, 10):
            for _ in range(n - len(read_log(tmp_path))):
                report(p)
            assert becomes(lambda n=n: len(read_log(tmp_path)) == n)


def test_full_chunks_do_not_wait_for_the_interval(tmp_path, monkeypatch):
    monkeypatch.setattr("itp.experience.log.CHUNK_BYTES", 1000)  # 3 records
    with itp.TaskPartitioner(experience_log=tmp_path, experience_interval_s=NEVER_S) as p:
        for k in range(10):
            report(p, str(k))
        assert becomes(lambda: len(read_log(tmp_path)) >= 9)


def test_what_is_on_the_disk_survives_a_kill(tmp_path):
    code = """
    import sys, time, itp
    p = itp.TaskPartitioner(experience_log=sys.argv[1], experience_interval_s=0.1)
    for k in range(5000):
        p.report_outcome(p.partition_task(itp.Task(str(k), 1000)), 1.0, 1.0, True)
    print("reported", flush=True)
    time.sleep(600)
    """
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    with child:
        assert child.stdout.readline() == "reported\n"
        assert becomes(lambda: len(read_log(tmp_path)) == 5000)
        child.kill()
    assert read_log(tmp_path)["number"].tolist() == list(range(1, 5001))


def test_a_kill_while_records_are_written_leaves_a_whole_log(tmp_path):
    code = """
    import sys, itp
    p = itp.TaskPartitioner(experience_log=sys.argv[1], experience_interval_s=0.001)
    k = 0
    while True:
        p.report_outcome(p.partition_task(itp.Task(str(k), 1000)), 1.0, 1.0, True)
        k += 1
    """
    for _ in range(3):
        with subprocess.Popen([sys.executable, "-c", textwrap.dedent(code), str(tmp_path)]) as child:
            count = len(read_log(tmp_path))
            assert becomes(lambda count=count: len(read_log(tmp_path)) > count + 1000)
            child.kill()
        records = read_log(tmp_path)
        assert len(np.unique(records[["number", "decided_at_s"]])) == len(records)


def test_segments_roll_over(tmp_path, monkeypatch):
    monkeypatch.setattr("itp.experience.log.SEGMENT_BYTES", 1000)
    with itp.TaskPartitioner(experience_log=tmp_path, experience_interval_s=NEVER_S) as p:
        for k in range(30):
            report(p, str(k))
            p._log.flush()
    assert len(list(tmp_path.glob("*.itplog"))) > 5
    records = read_log(tmp_path)
    assert sorted(records["number"]) == list(range(1, 31))
    assert records["done"].sum() == 1


# --- a disk that is slow, full or broken ---


def test_no_report_waits_for_the_disk(tmp_path, disk):
    with itp.TaskPartitioner(experience_log=tmp_path, experience_interval_s=0.001) as p:
        disk.open.clear()
        report(p)
        assert disk.entered.wait(30)
        for k in range(3000):
            report(p, str(k))
        assert len(read_log(tmp_path)) == 0
        disk.open.set()
    assert len(read_log(tmp_path)) == 3001


def test_the_newest_are_lost_and_counted_when_the_disk_is_too_slow(tmp_path, disk, monkeypatch, caplog):
    monkeypatch.setattr("itp.experience.log.PENDING_BYTES", 10 * frame_dtype(4).itemsize)
    p = itp.TaskPartitioner(experience_log=tmp_path, experience_interval_s=0.001)
    disk.open.clear()
    report(p, "first")
    assert disk.entered.wait(30)
    made = [report(p, str(k)) for k in range(100)]
    report(p, "last")
    assert p.metrics().lost_records == p._log.lost_records == 92
    disk.open.set()
    p._log.flush()
    assert caplog.text.count("records were lost so far") == 1
    assert read_log(tmp_path)["number"].tolist() == [1, *(d.number for d in made[:8]), 102]
    with pytest.raises(itp.LogError, match="92 records were lost: the disk did not keep up"):
        p.close()
    p.close()
    assert p._log.lost_records == 92


def test_a_full_disk_disturbs_no_report_and_loses_nothing_once_there_is_room(tmp_path, disk, caplog):
    with itp.TaskPartitioner(experience_log=tmp_path, experience_interval_s=0.001) as p:
        report(p, "first")
        p._log.flush()
        disk.room = 2 * frame_dtype(4).itemsize + 100
        for k in range(20):
            report(p, str(k))
        with pytest.raises(itp.LogError, match="No space left on device"):
            p._log.flush()
        assert 1 <= len(read_log(tmp_path)) <= 3  # and a part of the next one
        assert caplog.text.count("No space left on device") == 1
        disk.room = float("inf")
        p._log.flush()
        assert caplog.text.count("can be written again; 0 records were lost") == 1
    assert sorted(read_log(tmp_path)["number"]) == list(range(1, 22))
    assert len(list(tmp_path.iterdir())) == 1


def test_a_disk_that_stays_full_is_said_at_the_end(tmp_path, disk, monkeypatch):
    monkeypatch.setattr("itp.experience.log.PENDING_BYTES", 2000)
    p = itp.TaskPartitioner(experience_log=tmp_path, experience_interval_s=NEVER_S)
    disk.room = 0
    for k in range(20):
        report(p, str(k))
    with pytest.raises(itp.LogError, match=r"No space left on device; 20 records are lost"):
        p.close()
    p.close()
    assert p._log.lost_records == 20
    assert list(tmp_path.iterdir()) == []


def test_after_an_error_the_log_goes_on_in_another_segment(tmp_path, disk):
    with itp.TaskPartitioner(experience_log=tmp_path, experience_interval_s=NEVER_S) as p:
        decisions = [p.partition_task(itp.Task(str(k), 1000)) for k in range(11)]
        for decision in decisions[:4]:
            p.report_outcome(decision, 1.0, 1.0, True)
        p._log.flush()
        for decision in decisions[4:10]:
            p.report_outcome(decision, 1.0, 1.0, True)
        disk.room = frame_dtype(4).itemsize + 50
        with pytest.raises(itp.LogError, match="No space"):
            p._log.flush()
        disk.room, disk.error = float("inf"), errno.EIO
        with pytest.raises(itp.LogError, match="Input/output error"):
            p._log.flush()
        disk.error = None
        p._log.flush()
        assert sorted(read_log(tmp_path)["number"]) == list(range(1, 11))
    assert len(list(tmp_path.iterdir())) == 2


def test_a_removed_segment_or_folder_is_made_again(tmp_path, caplog):
    folder = tmp_path / "log"
    with itp.TaskPartitioner(experience_log=folder, experience_interval_s=NEVER_S) as p:
        report(p, "gone")
        p._log.flush()
        for segment in folder.iterdir():
            segment.unlink()
        folder.rmdir()
        report(p, "kept")
        p._log.flush()
    assert "was removed" in caplog.text
    # The first one's next state is known by now, so its record is whole only here.
    assert read_log(folder)["task_id"].tolist() == [b"gone", b"kept"]


def test_without_a_thread_flush_and_close_write(tmp_path, monkeypatch, caplog):
    def refuse(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with itp.TaskPartitioner(experience_log=tmp_path) as p:
        report(p, "0")
        p._log.flush()
        assert len(read_log(tmp_path)) == 1
        report(p, "1")
    assert len(read_log(tmp_path)) == 2
    assert "can't start new thread" in caplog.text


# --- the end of a log, of a process ---


def test_a_log_that_is_dropped_is_written(tmp_path):
    p = itp.TaskPartitioner(experience_log=tmp_path, experience_interval_s=NEVER_S)
    report(p)
    thread = p._log._writer.thread
    del p
    gc.collect()
    thread.join(30)
    assert not thread.is_alive()
    assert len(read_log(tmp_path)) == 1


@pytest.mark.parametrize("ending", ["", "raise SystemExit(3)", "1 / 0", "p.close()"])
def test_an_interpreter_that_ends_writes_what_it_has(tmp_path, ending):
    code = f"""
    import sys, itp
    p = itp.TaskPartitioner(experience_log=sys.argv[1], experience_interval_s=1000.0)
    for k in range(100):
        p.report_outcome(p.partition_task(itp.Task(str(k), 1000)), 1.0, 1.0, True)
    {ending}
    """
    subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)], timeout=60, capture_output=True
    )
    assert read_log(tmp_path)["number"].tolist() == list(range(1, 101))


@pytest.mark.parametrize("when", ["atexit.register(last)", "keep = Last()"])
def test_reports_at_the_very_end_are_written_or_do_not_hang(tmp_path, when):
    code = f"""
    import atexit, sys, itp

    def last():
        p.report_outcome(p.partition_task(itp.Task("last", 1000)), 1.0, 1.0, True)
        p.close()

    class Last:
        def __del__(self):
            last()

    p = itp.TaskPartitioner(experience_log=sys.argv[1])
    {when}
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code), str(tmp_path)], timeout=60, check=True)
    assert len(read_log(tmp_path)) == 1


def test_a_disk_that_hangs_does_not_keep_the_interpreter(tmp_path):
    code = """
    import sys, time, itp
    import itp.experience.log as log

    log.EXIT_S = 0.1
    log.Segment.write = lambda segment, parts: time.sleep(600)
    p = itp.TaskPartitioner(experience_log=sys.argv[1])
    p.report_outcome(p.partition_task(itp.Task("t", 1000)), 1.0, 1.0, True)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)],
        timeout=60,
        check=True,
        capture_output=True,
        text=True,
    )
    assert "Traceback" not in done.stderr


def test_many_threads_report_flush_and_one_closes(tmp_path):
    p = itp.TaskPartitioner(experience_log=tmp_path, experience_interval_s=0.001)
    counts = []

    def work():
        for k in range(500):
            report(p, str(k))
            if k % 50 == 0:
                p._log.flush()
        counts.append(500)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    closing = [threading.Thread(target=p.close) for _ in range(3)]
    for thread in closing:
        thread.start()
    for thread in closing:
        thread.join()
    assert sorted(read_log(tmp_path)["number"]) == list(range(1, sum(counts) + 1))


# --- forks ---


@ignores_forks
def test_a_forked_child_writes_its_own_segment(tmp_path):
    p = itp.TaskPartitioner(experience_log=tmp_path, experience_interval_s=NEVER_S)
    for k in range(3):
        report(p, f"parent-{k}")
    pid = os.fork()
    if pid == 0:
        try:
            report(p, "child")
            p.close()
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    p.close()
    ids = [task_id.decode() for task_id in read_log(tmp_path)["task_id"]]
    assert sorted(ids) == ["child", "parent-0", "parent-1", "parent-2"]
    assert len(list(tmp_path.iterdir())) == 2


@ignores_forks
def test_a_child_loses_nothing_of_its_parents(tmp_path, disk, monkeypatch):
    monkeypatch.setattr("itp.experience.log.PENDING_BYTES", 1000)
    p = itp.TaskPartitioner(experience_log=tmp_path, experience_interval_s=NEVER_S)
    disk.open.clear()
    for k in range(10):
        report(p, str(k))
    assert p._log.lost_records == 6
    pid = os.fork()
    if pid == 0:
        disk.open.set()
        lost = p._log.lost_records
        report(p, "child")
        p.close()
        os._exit(lost)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    disk.open.set()
    with pytest.raises(itp.LogError, match="6 records were lost"):
        p.close()


@ignores_forks
def test_children_forked_while_threads_report(tmp_path):
    p = itp.TaskPartitioner(experience_log=tmp_path, experience_interval_s=0.001)
    stop = threading.Event()
    counts = []

    def work():
        for k in itertools.count():
            if stop.is_set():
                counts.append(k)
                return
            report(p, "parent")
            time.sleep(0.0001)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads:
        t.start()
    try:
        for child in range(10):
            pid = os.fork()
            if pid == 0:
                signal.alarm(30)  # for a lock that nobody will release
                report(p, f"child-{child}")
                p._log.flush()
                p.close()
                os._exit(0)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    finally:
        stop.set()
        for t in threads:
            t.join()
    p.close()
    ids = collections.Counter(task_id.decode() for task_id in read_log(tmp_path)["task_id"])
    assert ids == {"parent": sum(counts), **{f"child-{child}": 1 for child in range(10)}}


# --- arguments ---


def test_impossible_folders(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(itp.LogError, match="no log can be kept here"):
        itp.TaskPartitioner(experience_log=tmp_path / "file")
    with pytest.raises(ValueError, match="experience_log"):
        itp.TaskPartitioner(experience_log="")


@pytest.mark.parametrize("interval_s", [0, -1.0, float("nan"), float("inf"), 1e6])
def test_impossible_intervals(tmp_path, interval_s):
    with pytest.raises(ValueError, match="interval_s"):
        itp.TaskPartitioner(experience_log=tmp_path, experience_interval_s=interval_s)


@pytest.mark.parametrize("interval_s", ["1", None, True])
def test_intervals_are_numbers(tmp_path, interval_s):
    with pytest.raises(TypeError, match="interval_s"):
        itp.TaskPartitioner(experience_log=tmp_path, experience_interval_s=interval_s)


def test_a_failed_fsync_counts_what_may_be_lost(tmp_path, monkeypatch):
    # After it the system may have dropped the pages, and reports success the next time.
    failures = [OSError(errno.EIO, "Input/output error")]
    real = os.fsync

    def fsync(fd):
        if failures and not stat.S_ISDIR(os.fstat(fd).st_mode):
            raise failures.pop()
        real(fd)

    p = itp.TaskPartitioner(experience_log=tmp_path, experience_interval_s=60.0)
    for k in range(10):
        p.report_outcome(p.partition_task(itp.Task(str(k), 10**6)), 1.0, 1.0, True)
    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(itp.LogError, match="Input/output error"):
        p._log.flush()
    assert p.metrics().lost_records >= 9
    p._log.flush()
    with pytest.raises(itp.LogError, match="records were lost"):
        p.close()


def test_a_cut_segment_is_left(tmp_path):
    with itp.TaskPartitioner(experience_log=tmp_path, experience_interval_s=60.0) as p:
        for k in range(4):
            p.report_outcome(p.partition_task(itp.Task(str(k), 10**6)), 1.0, 1.0, True)
            p._log.flush()
            if k == 1:
                (segment,) = tmp_path.glob("*.itplog")
                os.truncate(segment, 0)  # as logrotate's copytruncate does
    assert len(list(tmp_path.glob("*.itplog"))) == 2
    assert {2, 3} <= {int(task) for task in read_log(tmp_path)["task_id"]}
