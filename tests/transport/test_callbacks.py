"""Callbacks that fail, block or close what calls them; handlers of the log that fail."""

import contextlib
import logging
import os
import sys
import threading

import pytest

import itp
from itp.errors import TransportError
from itp.transport import Receiver, Sender
from itp.transport.protocol import frames, handshake
from itp.transport.protocol.frames import Kind
from transport_peers import RawSender, eventually, fake_receiver, leftovers

TIMEOUT_S = 30.0
FAILURES = [BrokenPipeError(32, "Broken pipe"), ValueError("I/O operation on closed file"), SystemExit(3)]


@pytest.fixture
def arrivals(tmp_path):
    folder = tmp_path / "arrivals"
    folder.mkdir()
    yield folder
    assert leftovers(folder) == []
    eventually(lambda: not any(t.name.startswith("itp-") for t in threading.enumerate()), "threads end")


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "f"
    path.write_bytes(os.urandom(300_000))
    return path


@contextlib.contextmanager
def sending(address):
    with itp.TaskPartitioner() as partitioner, Sender(*address, partitioner=partitioner) as sender:
        yield sender


def raising(error):
    def callback(_):
        raise error

    return callback


# --- failures ---


@pytest.mark.parametrize("error", FAILURES, ids=repr)
def test_a_callback_of_the_receiver_that_fails_changes_no_outcome(path, arrivals, caplog, error):
    (arrivals / "taken").mkdir()
    callback = raising(error)
    with Receiver(arrivals, port=0, on_file=callback, on_session=callback) as receiver:
        for _ in range(2):
            with sending(receiver.address) as sender:
                sender.submit(path).result(TIMEOUT_S)
                with pytest.raises(TransportError, match="Is a directory"):
                    sender.submit(path, name="taken").result(TIMEOUT_S)
    assert (arrivals / "f").read_bytes() == path.read_bytes()
    assert caplog.text.count("a callback of the receiver failed") == 6


@pytest.mark.parametrize("error", FAILURES, ids=repr)
def test_a_callback_of_a_transfer_that_fails_changes_no_outcome(path, arrivals, error):
    with Receiver(arrivals, port=0) as receiver, sending(receiver.address) as sender:
        for i in range(40):
            transfer = sender.submit(path, name=str(i % 3))
            transfer.add_done_callback(raising(error))
            transfer.result(TIMEOUT_S)
        assert sender.wait(TIMEOUT_S)
        assert all(status.up for status in sender.streams())


@pytest.mark.parametrize("state", ["broken", "closed"])
def test_a_broken_standard_stream_changes_no_outcome(path, arrivals, monkeypatch, state):
    read_end, write_end = os.pipe()
    os.close(read_end)
    broken = open(write_end, "w", buffering=1)  # noqa: SIM115
    if state == "closed":
        broken.close()

    def show(event):
        print(event)

    logger = logging.getLogger("itp.transport")
    handler = logging.StreamHandler(broken)
    logger.addHandler(handler)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", broken)
            patch.setattr(sys, "stderr", broken)
            with Receiver(arrivals, port=0, on_file=show, on_session=show) as receiver:
                with sending(receiver.address) as sender:
                    transfer = sender.submit(path)
                    transfer.add_done_callback(show)
                    assert transfer.result(TIMEOUT_S).size_bytes == path.stat().st_size
                (arrivals / "f").unlink()
    finally:
        logger.removeHandler(handler)
        with contextlib.suppress(BrokenPipeError):
            broken.close()


def test_a_handler_of_the_log_that_fails_ends_no_thread(path, arrivals):
    class Failing(logging.Handler):
        def handle(self, record):
            raise ValueError(record)

    logger = logging.getLogger("itp.transport")
    handler = Failing()
    logger.addHandler(handler)
    try:
        with Receiver(arrivals, port=0, on_file=raising(ValueError())) as receiver:
            with RawSender(receiver.address, version=9) as raw:
                assert raw.is_closed_by_peer()
            with sending(receiver.address) as sender:
                sender.submit(path).result(TIMEOUT_S)
    finally:
        logger.removeHandler(handler)


# --- callbacks that close ---


@pytest.mark.parametrize("which", ["on_file", "on_session"])
def test_a_receiver_may_be_closed_by_its_callback(path, arrivals, which):
    closed = threading.Event()

    def close(_):
        receiver.close()
        closed.set()

    receiver = Receiver(arrivals, port=0, **{which: close})
    with sending(receiver.address) as sender:
        sender.submit(path).result(TIMEOUT_S)
    assert closed.wait(TIMEOUT_S)
    receiver.close()
    assert (arrivals / "f").read_bytes() == path.read_bytes()
    with pytest.raises(TransportError, match="Connection refused"), sending(receiver.address):
        pass


def test_a_sender_may_be_closed_by_a_callback(path, arrivals):
    with Receiver(arrivals, port=0) as receiver, sending(receiver.address) as sender:
        transfers = [sender.submit(path, name=f"{i}") for i in range(20)]
        transfers[3].add_done_callback(lambda _: sender.close())
        for transfer in transfers:
            assert transfer.exception(TIMEOUT_S) is None or "the sender was closed" in str(
                transfer.exception()
            )
        assert transfers[3].exception() is None


def test_a_callback_may_wait_for_the_other_files_and_send_more(path, arrivals):
    more = []

    def wait_and_submit(_):
        assert sender.wait(TIMEOUT_S)
        more.append(sender.submit(path, name="more"))

    with Receiver(arrivals, port=0) as receiver:
        with sending(receiver.address) as sender:
            transfers = [sender.submit(path, name=f"{i}") for i in range(20)]
            transfers[0].add_done_callback(wait_and_submit)
        assert more[0].exception(0) is None
    assert (arrivals / "more").read_bytes() == path.read_bytes()


def test_a_callback_that_blocks_keeps_no_stream_from_sending(path, arrivals):
    reached, opened = threading.Event(), threading.Event()

    def block(_):
        reached.set()
        assert opened.wait(TIMEOUT_S)

    with Receiver(arrivals, port=0) as receiver, sending(receiver.address) as sender:
        first = sender.submit(path)
        first.add_done_callback(block)
        assert reached.wait(TIMEOUT_S)
        sender.submit(path, name="other").result(TIMEOUT_S)
        opened.set()


# --- the order in which things are closed ---


def test_a_partitioner_that_is_closed_first_keeps_no_byte_from_arriving(path, arrivals):
    with Receiver(arrivals, port=0) as receiver:
        partitioner = itp.TaskPartitioner()
        with Sender(*receiver.address, partitioner=partitioner, pace_mbps=[2] * 4) as sender:
            path.write_bytes(bytes(2_000_000))
            under_way = sender.submit(path)
            eventually(lambda: under_way.delivered_bytes, "the transfer is under way")
            partitioner.close()
            late = sender.submit(path, name="late")
            with pytest.raises(TransportError, match=r"late: .*closed"):
                late.result(TIMEOUT_S)
            assert under_way.result(TIMEOUT_S).size_bytes == 2_000_000


def test_a_receiver_that_never_hangs_up_does_not_keep_a_sender_from_closing(monkeypatch):
    monkeypatch.setattr("itp.transport.sender._CLOSING_TIMEOUT_S", 0.1)
    released = threading.Event()

    def greet_and_stay(sock):
        sock.sendall(handshake.encode_preface() + frames.encode_header(Kind.WELCOME))
        assert released.wait(TIMEOUT_S)

    with fake_receiver(greet_and_stay) as address:
        with sending(address):
            pass
        released.set()
