"""Workers, and a system that has no threads left."""

import os
import threading

import pytest

import itp
from itp.transport import Receiver, Sender
from itp.transport.workers import Workers
from transport_peers import RawSender

TIMEOUT_S = 30.0


@pytest.fixture
def refuse_threads(monkeypatch):
    """Makes threads with such names fail to start."""
    prefixes = []
    real = threading.Thread.start

    def start(thread):
        if thread.name.startswith(tuple(prefixes)):
            raise RuntimeError("can't start new thread")
        real(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    return prefixes


def send(receiver, path):
    with itp.TaskPartitioner() as partitioner, Sender(*receiver.address, partitioner=partitioner) as sender:
        return sender.submit(path).result(TIMEOUT_S)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "f"
    path.write_bytes(os.urandom(300_000))
    return path


def test_every_job_runs_even_if_some_fail_or_close_the_workers():
    workers = Workers(3, "test")
    done = []

    def fail():
        raise SystemExit

    for i in range(50):
        workers.run(lambda i=i: done.append(i))
        workers.run(fail)
    workers.run(workers.close)
    workers.close()
    assert sorted(done) == list(range(50))
    workers.run(lambda: done.append("late"))
    assert done[-1] == "late"


def test_waiting_for_jobs_is_bounded():
    workers = Workers(1, "test")
    opened = threading.Event()
    workers.run(opened.wait)
    assert not workers.wait(0.01)
    opened.set()
    assert workers.wait(TIMEOUT_S)
    workers.close()


def test_without_workers_files_still_arrive(tmp_path, path, refuse_threads):
    refuse_threads += ["itp-file", "itp-store"]
    folder = tmp_path / "arrivals"
    folder.mkdir()
    with Receiver(folder, port=0) as receiver:
        send(receiver, path)
    assert (folder / "f").read_bytes() == path.read_bytes()


def test_a_receiver_without_threads_refuses_connections_until_there_are_some(tmp_path, path, refuse_threads):
    folder = tmp_path / "arrivals"
    folder.mkdir()
    with Receiver(folder, port=0) as receiver:
        refuse_threads.append("itp-recv")
        with RawSender(receiver.address) as raw:
            assert raw.is_closed_by_peer()
        refuse_threads.clear()
        send(receiver, path)


def test_a_sender_without_threads_fails_and_leaves_none(tmp_path, path, refuse_threads):
    folder = tmp_path / "arrivals"
    folder.mkdir()
    refuse_threads.append("itp-reply-2")
    with Receiver(folder, port=0) as receiver:
        with pytest.raises(RuntimeError, match="can't start new thread"):
            send(receiver, path)
        assert not [t for t in threading.enumerate() if t.name.startswith(("itp-send", "itp-reply"))]
