"""A slow file operation delays its own file, and the streams that carry it: nothing else."""

import contextlib
import errno
import itertools
import logging
import os
import threading
from types import SimpleNamespace

import pytest
from blake3 import blake3

import itp
from itp.errors import TransportError
from itp.transport import Receiver, Sender
from itp.transport.protocol.frames import Kind
from transport_peers import Proxy, RawSender, eventually, leftovers

TIMEOUT_S = 30.0
SIZE = 300_000
FIRST_FILE = "-1.part"


@pytest.fixture
def arrivals(tmp_path):
    folder = tmp_path / "arrivals"
    folder.mkdir()
    yield folder
    assert leftovers(folder) == []


@pytest.fixture
def make_gate(monkeypatch):
    """Makes gates: calls of a function of ``os`` for one file wait until the gate is opened."""
    gates = []

    def make(function, file, thread="", skip=0):
        gate = SimpleNamespace(reached=threading.Event(), opened=threading.Event())
        gates.append(gate)
        real = getattr(os, function)
        calls = itertools.count()

        def gated(*args, **kwargs):
            concerned = threading.current_thread().name.startswith(thread) and path_of(args[0]).endswith(file)
            if concerned and next(calls) >= skip:
                gate.reached.set()
                assert gate.opened.wait(TIMEOUT_S)
            return real(*args, **kwargs)

        monkeypatch.setattr(os, function, gated)
        return gate

    yield make
    for gate in gates:
        gate.opened.set()


def path_of(file):
    """The path of a path or descriptor."""
    if isinstance(file, int):
        with contextlib.suppress(OSError):
            return os.readlink(f"/proc/self/fd/{file}").removesuffix(" (deleted)")
        return ""
    return os.fspath(file)


def make_files(folder, *names):
    for name in names:
        (folder / name).write_bytes(os.urandom(SIZE))
    return [folder / name for name in names]


@contextlib.contextmanager
def sending(arrivals, heuristic):
    with (
        Receiver(arrivals, port=0) as receiver,
        itp.TaskPartitioner(heuristic=heuristic) as partitioner,
        Sender(*receiver.address, partitioner=partitioner) as sender,
    ):
        yield sender


def check_that_others_arrive(tmp_path, arrivals, gate, heuristic):
    """Send one file that comes to the gate; others must arrive while it is closed."""
    slow_path, *other_paths = make_files(tmp_path, "slow", "a", "b", "c")
    with sending(arrivals, heuristic) as sender:
        slow = sender.submit(slow_path)
        assert gate.reached.wait(TIMEOUT_S)
        others = [sender.submit(path) for path in other_paths]
        results = [transfer.result(TIMEOUT_S) for transfer in others]
        assert not slow.done()
        gate.opened.set()
        results.append(slow.result(TIMEOUT_S))
    if heuristic == "round_robin":
        assert sorted(result.decision.stream_ids for result in results) == [(0,), (1,), (2,), (3,)]
    for path in (slow_path, *other_paths):
        assert (arrivals / path.name).read_bytes() == path.read_bytes()


# --- on the sender ---


@pytest.mark.parametrize("function", ["open", "fstat", "preadv", "close"])
def test_a_slow_worker_holds_up_no_stream(tmp_path, arrivals, make_gate, function):
    gate = make_gate(function, "/slow", "itp-file")
    check_that_others_arrive(tmp_path, arrivals, gate, "equal_split")


def test_a_slow_read_holds_up_its_own_streams_alone(tmp_path, arrivals, make_gate):
    gate = make_gate("preadv", "/slow", "itp-send")
    check_that_others_arrive(tmp_path, arrivals, gate, "round_robin")


def test_a_slow_look_for_changes_holds_up_its_own_streams_alone(tmp_path, arrivals, make_gate):
    # The first look is the one when the file is opened.
    gate = make_gate("fstat", "/slow", skip=1)
    check_that_others_arrive(tmp_path, arrivals, gate, "round_robin")


def test_a_slow_open_of_a_file_that_is_given_up_harms_nobody(tmp_path, arrivals, make_gate):
    gate = make_gate("open", "/slow")
    (slow_path,) = make_files(tmp_path, "slow")
    with Receiver(arrivals, port=0) as receiver, itp.TaskPartitioner() as partitioner:
        with Sender(*receiver.address, partitioner=partitioner) as sender:
            slow = sender.submit(slow_path)
            assert gate.reached.wait(TIMEOUT_S)
            closer = threading.Thread(target=sender.close)
            closer.start()
            with pytest.raises(TransportError, match="the sender was closed"):
                slow.result(TIMEOUT_S)
            gate.opened.set()
            closer.join()
        assert partitioner.metrics().in_flight == 0
    assert os.listdir(arrivals) == []


# --- on the receiver ---


@pytest.mark.parametrize("function", ["open", "posix_fallocate", "preadv", "fsync", "rename"])
def test_a_slow_target_holds_up_no_stream(tmp_path, arrivals, make_gate, function):
    gate = make_gate(function, FIRST_FILE, "itp-store")
    check_that_others_arrive(tmp_path, arrivals, gate, "equal_split")


@pytest.mark.parametrize("function", ["open", "posix_fallocate"])
def test_frames_that_cannot_be_held_wait_on_their_own_streams(
    tmp_path, arrivals, make_gate, monkeypatch, function
):
    monkeypatch.setattr("itp.transport.session._MAX_HELD_BYTES", 1000)
    gate = make_gate(function, FIRST_FILE)
    check_that_others_arrive(tmp_path, arrivals, gate, "round_robin")


def test_a_slow_write_holds_up_its_own_streams_alone(tmp_path, arrivals, make_gate):
    gate = make_gate("pwrite", FIRST_FILE)
    check_that_others_arrive(tmp_path, arrivals, gate, "round_robin")


@contextlib.contextmanager
def two_streams(arrivals, **options):
    """Two streams of one session, by hand."""
    with (
        Receiver(arrivals, port=0, **options) as receiver,
        RawSender(receiver.address) as first,
        RawSender(receiver.address) as second,
    ):
        first.greet(stream=0, n_streams=2)
        second.greet(stream=1, n_streams=2)
        yield first, second


def send_file(raw, file_id, name, content):
    raw.send(Kind.FILE, file_id, len(content), name)
    raw.send(Kind.DATA, file_id, 0, content)
    raw.send(Kind.END, file_id, 0, blake3(content).digest())


def test_a_slow_removal_holds_up_no_other_stream(arrivals, make_gate):
    gate = make_gate("unlink", FIRST_FILE)
    with two_streams(arrivals) as (first, second):
        first.send(Kind.FILE, 1, 4, b"given up")
        first.send(Kind.ABORT, 1)
        assert gate.reached.wait(TIMEOUT_S)
        send_file(second, 2, b"f", b"data")
        assert second.reply_of(Kind.FILE_DONE)[0].file_id == 2
        gate.opened.set()
        assert first.reply_of(Kind.FILE_FAILED)[1] == b"the sender gave up"
    assert os.listdir(arrivals) == ["f"]


def test_chunks_of_a_file_that_is_still_being_opened_wait_for_it(arrivals, make_gate):
    gate = make_gate("open", FIRST_FILE)
    with two_streams(arrivals) as (first, second):
        first.send(Kind.FILE, 1, 8, b"f")
        first.send(Kind.DATA, 1, 0, b"1234")
        assert gate.reached.wait(TIMEOUT_S)
        second.send(Kind.FILE, 1, 8, b"f")
        assert second.reply()[0][:4] == (Kind.ACK, 0, 1, 1)
        second.send(Kind.DATA, 1, 4, b"5678")
        second.send(Kind.END, 1, 0, blake3(b"12345678").digest())
        gate.opened.set()
        assert first.reply_of(Kind.FILE_DONE)[0].file_id == 1
        assert [second.reply()[0].kind for _ in range(3)].count(Kind.NACK) == 0
    assert (arrivals / "f").read_bytes() == b"12345678"


def test_a_file_that_cannot_be_opened_fails_with_the_data_that_came_meanwhile(
    arrivals, make_gate, monkeypatch
):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    gate = make_gate("posix_fallocate", FIRST_FILE)
    with Receiver(arrivals, port=0) as receiver, RawSender(receiver.address) as raw:
        raw.greet()
        send_file(raw, 1, b"f", b"data")
        assert gate.reached.wait(TIMEOUT_S)
        assert [raw.reply()[0].kind for _ in range(3)] == [Kind.ACK] * 3
        gate.opened.set()
        assert raw.reply_of(Kind.FILE_FAILED)[1] == b"No space left on device"
        (session,) = receiver._sessions.values()
        eventually(lambda: session._held_bytes == 0, "the memory is released")
    assert os.listdir(arrivals) == []


def test_a_file_that_is_given_up_while_it_is_opened_leaves_nothing(arrivals, make_gate):
    gate = make_gate("posix_fallocate", FIRST_FILE)
    reports = []
    with two_streams(arrivals, on_file=reports.append) as (first, second):
        first.send(Kind.FILE, 1, 8, b"f")
        assert gate.reached.wait(TIMEOUT_S)
        second.send(Kind.ABORT, 1, 0, b"no reason")
        assert second.reply_of(Kind.FILE_FAILED)[1] == b"the sender gave up: no reason"
        gate.opened.set()
        first.send(Kind.DATA, 1, 0, b"12345678")
        send_file(first, 2, b"next", b"data")
        assert first.reply_of(Kind.FILE_DONE)[0].file_id == 2
    assert os.listdir(arrivals) == ["next"]
    assert [report.error for report in reports] == ["the sender gave up: no reason", None]


def test_a_file_that_is_about_to_get_its_name_is_not_given_up(arrivals, make_gate):
    gate = make_gate("rename", FIRST_FILE)
    reports = []
    with two_streams(arrivals, on_file=reports.append) as (first, second):
        send_file(first, 1, b"f", b"data")
        assert gate.reached.wait(TIMEOUT_S)
        second.send(Kind.ABORT, 1)
        assert second.reply()[0].kind is Kind.ACK
        gate.opened.set()
        assert second.reply()[0].kind is Kind.FILE_DONE
    assert (arrivals / "f").read_bytes() == b"data"
    assert [report.error for report in reports] == [None]


# --- the rule itself ---


class _TrackedLock:
    """A lock that knows whether the present thread holds one of its kind."""

    held = threading.local()
    make = staticmethod(threading.Lock)

    def __init__(self):
        self._lock = self.make()

    def acquire(self, *args, **kwargs):
        acquired = self._lock.acquire(*args, **kwargs)
        if acquired:
            self.held.count = self.count() + 1
        return acquired

    def release(self):
        self.held.count -= 1
        self._lock.release()

    def locked(self):
        return self._lock.locked()

    def __enter__(self):
        return self.acquire()

    def __exit__(self, *_):
        self.release()

    @classmethod
    def count(cls):
        return getattr(cls.held, "count", 0)


NEEDED_OPERATIONS = {
    *("open", "close", "stat", "fstat", "preadv", "pwrite", "posix_fallocate", "fsync", "rename", "unlink")
}
OTHER_OPERATIONS = {"pread", "ftruncate", "mkdir", "listdir", "scandir", "lseek", "read", "write"}


def watched(seen, name, real):
    def function(*args, **kwargs):
        seen.add((name, _TrackedLock.count() > 0))
        return real(*args, **kwargs)

    return function


@pytest.fixture
def operations(monkeypatch):
    """What was called: (function, whether under a lock)."""
    seen = set()
    monkeypatch.setattr(threading, "Lock", _TrackedLock)
    for name in NEEDED_OPERATIONS | OTHER_OPERATIONS:
        monkeypatch.setattr(os, name, watched(seen, name, getattr(os, name)))
    handler = logging.Handler(logging.INFO)
    handler.emit = lambda _: seen.add(("log", _TrackedLock.count() > 0))
    logger = logging.getLogger("itp.transport")
    monkeypatch.setattr(logger, "level", logging.INFO)
    logger.addHandler(handler)
    yield seen
    logger.removeHandler(handler)


def test_the_watch_over_locks_works(operations):
    with threading.Lock():
        os.stat(".")
    os.listdir(".")
    assert {("stat", True), ("listdir", False)} <= operations
    assert ("listdir", True) not in operations


def test_nothing_slow_is_done_under_a_lock(tmp_path, arrivals, operations):
    def note(_):
        operations.add(("callback", _TrackedLock.count() > 0))

    paths = make_files(tmp_path, *"abcdefgh")
    (arrivals / "taken").mkdir()
    changing = tmp_path / "changing"
    changing.write_bytes(bytes(3_000_000))
    with (
        Receiver(arrivals, port=0, on_file=note, on_session=note) as receiver,
        Proxy(receiver.address, cut_after={1: 300_000}, damage_at=200_000) as proxy,
        itp.TaskPartitioner(heuristic="equal_split") as partitioner,
    ):
        with Sender(*proxy.address, partitioner=partitioner, max_in_flight=2) as sender:
            transfers = [sender.submit(path) for path in paths]
            refused = sender.submit(paths[0], name="taken")
            missing = sender.submit(tmp_path / "missing")
            for transfer in (*transfers, refused, missing):
                transfer.add_done_callback(note)
        assert not any(transfer.exception() for transfer in transfers)
        assert refused.exception()
        assert missing.exception()
        with Sender(*receiver.address, partitioner=partitioner, pace_mbps=[5] * 4) as sender:
            changed = sender.submit(changing)
            eventually(lambda: changed.delivered_bytes, "the transfer is under way")
            os.truncate(changing, 10)
            assert changed.exception(TIMEOUT_S)
            sender.submit(paths[0], name="unfinished")
            sender.close()
    assert {*NEEDED_OPERATIONS, "log", "callback"} <= {name for name, _ in operations}
    assert {name for name, locked in operations if locked} == set()
