"""The experience log: complete, exact, and whole after any cut."""

from __future__ import annotations

import collections
import errno
import itertools
import math
import os
import signal
import threading
import time

import numpy as np
import pytest

import itp
from itp.experience.log import read_log, record_dtype

pytestmark = pytest.mark.core


def run(folder, n=50, **options):
    with itp.TaskPartitioner(experience_log=folder, epsilon=0.3, seed=1, **options) as p:
        decisions = [p.partition_task(itp.Task(f"task-{k}", 1000 * (k + 1))) for k in range(n)]
        # Reported in another order than decided.
        rewards = [p.report_outcome(d, 50.0, 0.1, d.number % 3 != 0) for d in reversed(decisions)]
        states = [d.state for d in decisions]
    return decisions, states, rewards[::-1]


def test_every_joined_experience_is_kept(tmp_path):
    decisions, states, rewards = run(tmp_path / "log")
    records = read_log(tmp_path / "log")
    assert len(records) == 50
    records = records[np.argsort(records["number"])]
    assert records["number"].tolist() == list(range(1, 51))
    np.testing.assert_array_equal(records["state"], np.stack(states))
    np.testing.assert_array_equal(records["next_state"][:-1], np.stack(states[1:]))
    np.testing.assert_array_equal(records["action"], [d.action for d in decisions])
    np.testing.assert_allclose(records["reward"], rewards, rtol=1e-6)
    np.testing.assert_allclose(records["propensity"], [d.propensity for d in decisions], rtol=1e-6)
    assert records["explored"].tolist() == [d.explored for d in decisions]
    assert records["done"].tolist() == [False] * 49 + [True]
    assert records["task_id"][7] == b"task-7"
    assert (records["completed_at_s"] >= records["decided_at_s"]).all()
    assert (records["source"] == 0).all()


def test_a_second_run_adds_to_the_folder(tmp_path):
    run(tmp_path, 10)
    run(tmp_path, 5)
    assert len(read_log(tmp_path)) == 15


def test_other_numbers_of_streams(tmp_path):
    run(tmp_path / "seven", 5, n_streams=7)
    assert read_log(tmp_path / "seven")["state"].shape == (5, 32)
    run(tmp_path / "seven", 5)
    with pytest.raises(itp.LogError, match="different numbers of streams"):
        read_log(tmp_path / "seven")


def test_long_and_odd_task_ids(tmp_path):
    with itp.TaskPartitioner(experience_log=tmp_path) as p:
        p.report_outcome(p.partition_task(itp.Task("é" * 100, 1)), 1.0, 1.0, True)
        p.report_outcome(p.partition_task(itp.Task("\ud800", 1)), 1.0, 1.0, True)
    records = read_log(tmp_path)
    assert records["task_id"][0] == ("é" * 32).encode()
    assert len(records) == 2


def test_any_cut_keeps_the_whole_records(tmp_path):
    run(tmp_path, 6)
    (segment,) = tmp_path.glob("*.itplog")
    content = segment.read_bytes()
    size = record_dtype(4).itemsize
    header = content.index(b"\n") + 1
    assert len(content) == header + 6 * size
    for length in [0, 1, header - 1, header, *range(header, len(content), size // 3)]:
        segment.write_bytes(content[:length])
        assert len(read_log(tmp_path)) == max(0, (length - header) // size)


def test_damage_is_told(tmp_path):
    run(tmp_path, 6)
    (segment,) = tmp_path.glob("*.itplog")
    content = bytearray(segment.read_bytes())
    content[-700] ^= 1
    segment.write_bytes(content)
    with pytest.raises(itp.LogError, match="damaged"):
        read_log(tmp_path)
    for garbage in (b"x" * 1000, b"{}\n" + b"x" * 1000, b"[1]\n", b'{"format": "other"}\n', b"\xff\n"):
        segment.write_bytes(garbage)
        with pytest.raises(itp.LogError):
            read_log(tmp_path)


def test_missing_or_impossible_folders(tmp_path):
    with pytest.raises(itp.LogError, match="no such folder"):
        read_log(tmp_path / "none")
    assert len(read_log(tmp_path)) == 0
    (tmp_path / "file").write_text("x")
    with pytest.raises(itp.LogError):
        itp.TaskPartitioner(experience_log=tmp_path / "file")


def test_records_reach_the_disk_before_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr("itp.experience.log.FLUSH_BYTES", 1)
    p = itp.TaskPartitioner(experience_log=tmp_path)
    for k in range(10):
        p.report_outcome(p.partition_task(itp.Task(str(k), 1)), 1.0, 1.0, True)
    assert len(read_log(tmp_path)) == 9  # the tenth waits for its next state
    p.close()
    assert len(read_log(tmp_path)) == 10
    assert math.isfinite(read_log(tmp_path)["reward"].sum())


def test_records_reach_the_disk_while_nothing_more_is_reported(tmp_path, monkeypatch):
    monkeypatch.setattr("itp.experience.log.FLUSH_S", 0.01)
    with itp.TaskPartitioner(experience_log=tmp_path) as p:
        for k in range(2):
            p.report_outcome(p.partition_task(itp.Task(str(k), 1)), 1.0, 1.0, True)
        for _ in range(500):
            if len(read_log(tmp_path)) == 1:
                break
            time.sleep(0.01)
        assert len(read_log(tmp_path)) == 1


class FullDisk:
    """A file that takes some bytes and then has no room."""

    def __init__(self, file, room):
        self.file, self.room = file, room

    def write(self, data):
        if self.room <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = self.file.write(bytes(data[: self.room]))
        self.room -= written
        return written

    def __getattr__(self, name):
        return getattr(self.file, name)


def test_a_full_disk_disturbs_no_report_and_loses_nothing_once_there_is_room(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("itp.experience.log.FLUSH_BYTES", 1)
    with itp.TaskPartitioner(experience_log=tmp_path) as p:
        p._log._file = disk = FullDisk(p._log._file, 2 * record_dtype(4).itemsize + 100)
        for k in range(20):
            p.report_outcome(p.partition_task(itp.Task(str(k), 1)), 1.0, 1.0, True)
        assert len(read_log(tmp_path)) == 2  # and a part of the third
        assert caplog.text.count("No space left on device") == 1
        disk.room = 10**9
    assert len(read_log(tmp_path)) == 20


def test_a_disk_that_stays_full_is_told_at_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr("itp.experience.log.FLUSH_BYTES", 1)
    monkeypatch.setattr("itp.experience.log.PENDING_BYTES", 2000)
    p = itp.TaskPartitioner(experience_log=tmp_path)
    p._log._file = FullDisk(p._log._file, 0)
    for k in range(20):
        p.report_outcome(p.partition_task(itp.Task(str(k), 1)), 1.0, 1.0, True)
    with pytest.raises(itp.LogError, match=r"No space left on device; 20 records are lost"):
        p.close()
    p.close()
    assert len(read_log(tmp_path)) == 0


def test_a_live_writers_folder_can_be_read(tmp_path):
    run(tmp_path, 5, n_streams=7)
    with itp.TaskPartitioner(experience_log=tmp_path, n_streams=7):
        (tmp_path / "experience-0-0-000.itplog").write_bytes(b"")
        assert len(read_log(tmp_path)) == 5


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_writes_its_own_segment(tmp_path):
    p = itp.TaskPartitioner(experience_log=tmp_path)
    for k in range(3):
        p.report_outcome(p.partition_task(itp.Task(f"parent-{k}", 1)), 1.0, 1.0, True)
    pid = os.fork()
    if pid == 0:
        try:
            p.report_outcome(p.partition_task(itp.Task("child", 1)), 1.0, 1.0, True)
            p.close()
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    p.close()
    ids = [task_id.decode() for task_id in read_log(tmp_path)["task_id"]]
    assert sorted(ids) == ["child", "parent-0", "parent-1", "parent-2"]


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_children_forked_while_threads_report(tmp_path):
    p = itp.TaskPartitioner(experience_log=tmp_path)
    stop = threading.Event()
    counts = []

    def report():
        for k in itertools.count():
            if stop.is_set():
                counts.append(k)
                return
            p.report_outcome(p.partition_task(itp.Task("parent", 1)), 1.0, 1.0, True)

    threads = [threading.Thread(target=report) for _ in range(4)]
    for t in threads:
        t.start()
    try:
        for child in range(10):
            pid = os.fork()
            if pid == 0:
                signal.alarm(30)  # for a lock that nobody will release
                p.report_outcome(p.partition_task(itp.Task(f"child-{child}", 1)), 1.0, 1.0, True)
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


def test_an_empty_folder_name():
    with pytest.raises(ValueError, match="experience_log"):
        itp.TaskPartitioner(experience_log="")


def test_segments_roll_over(tmp_path, monkeypatch):
    monkeypatch.setattr("itp.experience.log.FLUSH_BYTES", 1)
    monkeypatch.setattr("itp.experience.log.SEGMENT_BYTES", 1000)
    run(tmp_path, 30)
    assert len(list(tmp_path.glob("*.itplog"))) > 5
    records = read_log(tmp_path)
    assert sorted(records["number"]) == list(range(1, 31))
