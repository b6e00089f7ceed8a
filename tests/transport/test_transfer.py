"""Sender and Receiver over real loopback sockets, in fair weather and foul."""

import contextlib
import errno
import os
import random
import socket
import subprocess
import threading
from pathlib import Path

import pytest
from blake3 import blake3

import itp
from itp.errors import ClosedError, TransportError
from itp.transport import Receiver, Sender
from itp.transport.protocol import frames, handshake, messages
from itp.transport.protocol.frames import Kind
from transport_peers import Proxy, RawSender, eventually, fake_receiver, leftovers

TIMEOUT_S = 30.0
# A second or so: Linux does not pace the first ten segments, which are of 64 KiB on loopback.
SLOW_MBPS = (5, 5, 5, 5)
SLOW_FILE_BYTES = 5_000_000


@pytest.fixture
def arrivals(tmp_path):
    folder = tmp_path / "arrivals"
    folder.mkdir()
    return folder


@pytest.fixture
def reports():
    """The events of a receiver."""
    return {"files": [], "sessions": []}


@pytest.fixture
def receiver(arrivals, reports):
    with Receiver(
        arrivals,
        port=0,
        on_file=reports["files"].append,
        on_session=reports["sessions"].append,
        hello_timeout_s=0.3,
    ) as receiver:
        yield receiver
    assert leftovers(arrivals) == []
    eventually(lambda: not any(t.name.startswith("itp-") for t in threading.enumerate()), "threads end")


@contextlib.contextmanager
def sending(address, **options):
    n_streams = options.get("n_streams", 4)
    with itp.TaskPartitioner(
        n_streams=n_streams, heuristic=options.pop("heuristic", "equal_split")
    ) as partitioner:
        with Sender(*address, partitioner=partitioner, **options) as sender:
            yield sender
        metrics = partitioner.metrics()
        assert metrics.in_flight == 0
        assert metrics.total_outcomes == metrics.total_decisions


def make_file(folder, name, size):
    path = folder / name
    path.write_bytes(os.urandom(size))
    return path


def send_one(address, path, **options):
    with sending(address, **options) as sender:
        return sender.submit(path).result(TIMEOUT_S)


# --- fair weather ---


@pytest.mark.parametrize("size", [0, 1, frames.MAX_PAYLOAD, frames.MAX_PAYLOAD + 1, 3_000_001])
@pytest.mark.parametrize("n_streams", [1, 4])
def test_a_file_arrives_whole(tmp_path, arrivals, receiver, reports, size, n_streams):
    path = make_file(tmp_path, "a file é.bin", size)
    result = send_one(receiver.address, path, n_streams=n_streams)
    content = path.read_bytes()
    assert (arrivals / path.name).read_bytes() == content
    assert result.blake3 == blake3(content).hexdigest() == reports["files"][0].blake3
    assert (result.name, result.size_bytes, result.retransmitted_bytes) == (path.name, size, 0)
    assert (result.decision is None) == (size == 0)
    eventually(lambda: reports["sessions"], "the session ends")
    assert reports["sessions"][0].error is None


def test_many_files_are_in_flight_together_and_every_outcome_is_reported_once(tmp_path, arrivals, receiver):
    paths = [make_file(tmp_path, f"{i}.bin", 1 + 37_000 * i) for i in range(40)]
    with itp.TaskPartitioner() as partitioner:
        with Sender(*receiver.address, partitioner=partitioner, max_in_flight=8) as sender:
            transfers = [sender.submit(path) for path in paths]
        results = [transfer.result(0) for transfer in transfers]
        assert partitioner.metrics().total_outcomes == len(paths)
        assert partitioner.metrics().success_rate == 1.0
        assert partitioner.metrics().in_flight == 0
    assert [result.name for result in results] == [path.name for path in paths]
    assert all((arrivals / path.name).read_bytes() == path.read_bytes() for path in paths)


def test_the_chunks_travel_as_decided(tmp_path, receiver):
    path = make_file(tmp_path, "f", 4_000_000)
    with sending(receiver.address) as sender:
        result = sender.submit(path).result(TIMEOUT_S)
        eventually(lambda: sum(s.delivered_bytes for s in sender.streams()) == 4_000_000, "all is confirmed")
        delivered = [status.delivered_bytes for status in sender.streams()]
    assert result.decision.stream_ids == (0, 1, 2, 3)
    assert delivered == list(result.decision.chunk_sizes)


def test_what_each_stream_did_is_reported(tmp_path, receiver, monkeypatch):
    reported = []
    report = itp.TaskPartitioner.report_outcome

    def reporting(self, decision, **figures):
        reported.append((decision, figures))
        return report(self, decision, **figures)

    monkeypatch.setattr(itp.TaskPartitioner, "report_outcome", reporting)
    with sending(receiver.address, heuristic="equal_split") as sender:
        sender.submit(make_file(tmp_path, "file", 1_000_000)).result(30)
    ((decision, figures),) = reported
    streams = figures["streams"]
    # The receiver may confirm the file before its last frames of other streams.
    assert streams
    for stream, done in streams.items():
        assert 0 < done.bytes <= decision.chunk_sizes[decision.stream_ids.index(stream)]
        assert 0 < done.seconds <= figures["latency_s"]


def test_an_existing_target_is_replaced_and_a_symlink_is_not_followed(tmp_path, arrivals, receiver):
    outside = make_file(tmp_path, "outside", 10)
    before = outside.read_bytes()
    (arrivals / "old").write_bytes(b"old")
    (arrivals / "link").symlink_to(outside)
    new = make_file(tmp_path, "new", 1000)
    with sending(receiver.address) as sender:
        for name in ("old", "link"):
            sender.submit(new, name=name).result(TIMEOUT_S)
    assert (arrivals / "old").read_bytes() == (arrivals / "link").read_bytes() == new.read_bytes()
    assert not (arrivals / "link").is_symlink()
    assert outside.read_bytes() == before


def test_the_metrics_come_from_the_kernel(tmp_path, receiver):
    path = make_file(tmp_path, "f", 500_000)
    paces = (80, 40, 20, 10)
    with (
        itp.TaskPartitioner() as partitioner,
        Sender(*receiver.address, partitioner=partitioner, pace_mbps=paces) as sender,
    ):
        known = [partitioner.network.stream(i)["bandwidth_mbps"] for i in range(4)]
        sender.submit(path).result(TIMEOUT_S)
    assert known == pytest.approx(paces)


def test_callbacks_may_submit_more(tmp_path, receiver):
    path = make_file(tmp_path, "f", 100)
    second = []
    with sending(receiver.address) as sender:
        first = sender.submit(path, name="1")
        first.add_done_callback(lambda _: second.append(sender.submit(path, name="2")))
        first.result(TIMEOUT_S)
        eventually(lambda: second, "the callback runs")
        assert second[0].result(TIMEOUT_S).name == "2"


def test_ipv6(tmp_path, arrivals):
    try:
        receiver = Receiver(arrivals, "::1", 0)
    except OSError as error:
        pytest.skip(f"no IPv6 here: {error}")
    with receiver:
        send_one(receiver.address, make_file(tmp_path, "f", 10))
    assert (arrivals / "f").exists()


# --- names and arguments ---


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("../escaped", "another directory"),
        ("/etc/escaped", "another directory"),
        ("..", "no file name"),
        (".", "no file name"),
        ("", "no file name"),
        ("a\x1bb", "control characters"),
        ("a\0b", "control characters"),
        ("x" * 256, "limit is 255"),
        (".itp-x.part", "unfinished files"),
        ("bad\udcff", "not UTF-8"),
        ("worse\ud800", "not UTF-8"),
        ("x" * 100_000, "too long"),
    ],
)
def test_a_bad_name_fails_that_file_alone(tmp_path, arrivals, receiver, name, reason):
    path = make_file(tmp_path, "f", 300_000)
    with sending(receiver.address) as sender:
        bad = sender.submit(path, name=name)
        good = sender.submit(path, name="good")
        with pytest.raises(TransportError, match=reason):
            bad.result(TIMEOUT_S)
        good.result(TIMEOUT_S)
    assert os.listdir(arrivals) == ["good"]
    assert sorted(os.listdir(tmp_path)) == ["arrivals", "f"]


@pytest.mark.parametrize(
    "options",
    [
        {"n_streams": 3},
        {"pace_mbps": (1.0,)},
        {"pace_mbps": (1, 1, 1, -1)},
        {"max_in_flight": 0},
        {"max_in_flight": 2.5},
        {"port": 0},
        {"port": 65_536},
    ],
)
def test_wrong_arguments(options):
    with itp.TaskPartitioner() as partitioner, pytest.raises(ValueError, match=next(iter(options))):
        Sender(**{"host": "127.0.0.1", "port": 1, "partitioner": partitioner} | options)


def test_wrong_arguments_of_a_receiver(arrivals):
    with pytest.raises(ValueError, match="port"):
        Receiver(arrivals, port=65_536)


def test_a_name_must_be_text(tmp_path, receiver):
    with sending(receiver.address) as sender, pytest.raises(TypeError, match="name"):
        sender.submit(tmp_path, name=b"f")


def test_a_host_name_that_cannot_exist():
    host = "x" * 100
    with pytest.raises(TransportError, match=f"cannot send to {host}:1"), sending((host, 1)):
        pass


def test_a_closed_sender_takes_nothing(tmp_path, receiver):
    with sending(receiver.address) as sender:
        pass
    with pytest.raises(ClosedError):
        sender.submit(tmp_path / "f")


# --- sources that misbehave ---


def test_sources_that_cannot_be_read_fail_alone(tmp_path, arrivals, receiver):
    os.mkfifo(tmp_path / "fifo")
    pseudo = Path("/proc/self/status")
    good = make_file(tmp_path, "good", 1000)
    with sending(receiver.address) as sender:
        missing = sender.submit(tmp_path / "missing")
        fifo = sender.submit(tmp_path / "fifo")
        made_up = sender.submit(pseudo) if pseudo.exists() else missing
        bad_priority = sender.submit(good, name="p", priority=7.0)
        sender.submit(good).result(TIMEOUT_S)
        for transfer, reason in (
            (missing, "No such file"),
            (fifo, "not a regular file"),
            (made_up, "says it is empty and is not|No such file"),
            (bad_priority, "priority"),
        ):
            with pytest.raises(TransportError, match=reason):
                transfer.result(TIMEOUT_S)
    assert os.listdir(arrivals) == ["good"]


def change(path):
    with open(path, "r+b") as file:
        file.write(b"changed")


@pytest.mark.parametrize(
    ("meddle", "reason"),
    [
        (lambda path: os.truncate(path, 1000), "shrank|changed"),
        (change, "changed"),
        (os.unlink, "removed"),
    ],
    ids=["shrinks", "changes", "vanishes"],
)
def test_a_source_that_changes_fails_clearly(tmp_path, arrivals, receiver, reports, meddle, reason):
    path = make_file(tmp_path, "f", SLOW_FILE_BYTES)
    with sending(receiver.address, pace_mbps=SLOW_MBPS) as sender:
        transfer = sender.submit(path)
        eventually(lambda: transfer.delivered_bytes > 0, "the transfer is under way")
        meddle(path)
        with pytest.raises(TransportError, match=reason):
            transfer.result(TIMEOUT_S)
        sender.submit(make_file(tmp_path, "next", 1000)).result(TIMEOUT_S)
        eventually(lambda: len(reports["files"]) == 2, "the receiver hears of it")
    assert os.listdir(arrivals) == ["next"]


# --- a network that misbehaves ---


def test_no_receiver(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
    with pytest.raises(TransportError, match="Connection refused"), sending(address):
        pass


def test_a_cut_stream_costs_no_file(tmp_path, arrivals, receiver):
    path = make_file(tmp_path, "f", 6_000_000)
    with Proxy(receiver.address, cut_after={2: 500_000}) as proxy, sending(proxy.address) as sender:
        result = sender.submit(path).result(TIMEOUT_S)
        lost = [status for status in sender.streams() if not status.up]
        after = sender.submit(make_file(tmp_path, "g", 1_000_000)).result(TIMEOUT_S)
    assert proxy.cut_count == 1
    assert (arrivals / "f").read_bytes() == path.read_bytes()
    assert len(lost) == 1
    assert lost[0].error
    assert result.retransmitted_bytes > 0
    assert lost[0].stream not in after.decision.stream_ids


def test_a_new_sender_takes_lost_streams_up_again(tmp_path, arrivals, receiver):
    path = make_file(tmp_path, "f", 1_000_000)
    with itp.TaskPartitioner(heuristic="equal_split") as partitioner:
        for stream in range(4):
            partitioner.set_stream_up(stream, False)
        with Sender(*receiver.address, partitioner=partitioner) as sender:
            assert sender.submit(path).result(TIMEOUT_S).decision.stream_ids == (0, 1, 2, 3)


def test_all_streams_cut_fails_and_leaves_nothing(tmp_path, arrivals, receiver, reports):
    path = make_file(tmp_path, "f", 6_000_000)
    cuts = dict.fromkeys(range(4), 500_000)
    with Proxy(receiver.address, cut_after=cuts) as proxy, sending(proxy.address) as sender:
        with pytest.raises(TransportError, match="all streams are lost"):
            sender.submit(path).result(TIMEOUT_S)
        with pytest.raises(TransportError, match="all streams are lost"):
            sender.submit(path).result(TIMEOUT_S)
    eventually(lambda: reports["sessions"], "the session ends")
    assert "1 unfinished removed" in reports["sessions"][0].error
    assert os.listdir(arrivals) == []


def test_damaged_frames_go_again(tmp_path, arrivals, receiver):
    path = make_file(tmp_path, "f", 4_000_000)
    with Proxy(receiver.address, damage_at=300_000) as proxy, sending(proxy.address) as sender:
        result = sender.submit(path).result(TIMEOUT_S)
        assert all(status.up for status in sender.streams())
    assert result.retransmitted_bytes == 4 * frames.MAX_PAYLOAD
    assert (arrivals / "f").read_bytes() == path.read_bytes()


# --- senders that misbehave ---


@pytest.mark.parametrize("garbage", [b"GET / HTTP/1.1\r\n\r\n", bytes(100_000), os.urandom(100_000)])
def test_garbage_closes_that_connection_alone(tmp_path, receiver, garbage):
    with (
        socket.create_connection(receiver.address, timeout=TIMEOUT_S) as sock,
        contextlib.suppress(ConnectionError),
    ):
        sock.sendall(garbage)
        while sock.recv(65536):
            pass
    send_one(receiver.address, make_file(tmp_path, "f", 1000))


def test_garbage_after_a_good_start(tmp_path, receiver, reports):
    with RawSender(receiver.address) as raw:
        assert raw.greet()[0].kind is Kind.WELCOME
        raw.send(Kind.FILE, 1, 1000, b"f")
        raw.sock.sendall(bytes(200))
        assert raw.reply_of(Kind.ERROR)[1] == b"the received bytes are not a frame"
        assert raw.is_closed_by_peer()
    eventually(lambda: reports["sessions"], "the session ends")
    send_one(receiver.address, make_file(tmp_path, "f", 1000))


def test_a_sender_of_another_version_is_refused(receiver):
    with RawSender(receiver.address, version=9) as raw:
        assert handshake.decode_preface(raw.receive(handshake.PREFACE_BYTES)) == handshake.VERSION
        reason = messages.decode_reason(raw.reply_of(Kind.ERROR)[1])
        assert "version 9" in reason
        assert f"version {handshake.VERSION}" in reason


def test_a_receiver_of_another_version_is_refused():
    answer = handshake.encode_preface(9)
    with (
        fake_receiver(lambda sock: sock.sendall(answer)) as address,
        pytest.raises(TransportError, match=f"version 9, this sender version {handshake.VERSION}"),
        sending(address),
    ):
        pass


@pytest.mark.parametrize("said", [b"", handshake.encode_preface(), handshake.MAGIC[:3]])
def test_a_connection_that_never_says_hello_is_closed(receiver, said):
    with socket.create_connection(receiver.address, timeout=TIMEOUT_S) as sock:
        sock.sendall(said)
        with contextlib.suppress(ConnectionError):
            while sock.recv(4096):
                pass


def test_a_frame_that_never_ends_is_given_up(receiver, monkeypatch):
    monkeypatch.setattr("itp.transport.io.sockets.FRAME_TIMEOUT_S", 0.3)
    with RawSender(receiver.address) as raw:
        raw.greet()
        raw.sock.sendall(frames.encode_header(Kind.DATA, 1, 0, b"x")[:20])
        assert raw.is_closed_by_peer()


@pytest.mark.parametrize("hello", [{"n_streams": 255}, {"n_streams": 0}, {"stream": 3, "n_streams": 2}])
def test_too_many_streams_are_refused(receiver, hello):
    with RawSender(receiver.address) as raw:
        header, body = raw.greet(**hello)
        assert header.kind is Kind.ERROR
        assert b"session" in body


def test_connections_of_a_session_must_agree(receiver):
    with RawSender(receiver.address) as first, RawSender(receiver.address) as second:
        first.greet(n_streams=2)
        assert second.greet(n_streams=2)[1] == b"stream 0 of this session is connected already"
        with RawSender(receiver.address) as third:
            assert third.greet(stream=1, n_streams=3)[1] == b"3 streams in a session of 2"


@pytest.mark.parametrize("offset", [999, 1000, 2**63, 2**64 - 1])
def test_data_beyond_the_end_of_a_file_is_refused(receiver, arrivals, offset):
    with RawSender(receiver.address) as raw:
        raw.greet()
        raw.send(Kind.FILE, 1, 1000, b"f")
        raw.send(Kind.DATA, 1, offset, b"xx")
        assert b"of a file of 1000" in raw.reply_of(Kind.ERROR)[1]
        assert raw.is_closed_by_peer()
    eventually(lambda: not os.listdir(arrivals), "the unfinished file is removed")


def test_a_wrong_hash_fails_the_file(receiver, arrivals):
    with RawSender(receiver.address) as raw:
        raw.greet()
        raw.send(Kind.FILE, 1, 4, b"f")
        raw.send(Kind.DATA, 1, 0, b"data")
        raw.send(Kind.END, 1, 0, bytes(32))
        assert b"differs" in raw.reply_of(Kind.FILE_FAILED)[1]
        raw.send(Kind.END, 1, 0, bytes(32))
        assert b"differs" in raw.reply_of(Kind.FILE_FAILED)[1], "a late END is answered again"
    assert os.listdir(arrivals) == []


def test_data_of_a_file_never_announced_is_asked_for_again(receiver):
    with RawSender(receiver.address) as raw:
        raw.greet()
        raw.send(Kind.DATA, 5, 0, b"data")
        assert raw.reply()[0][:4] == (Kind.NACK, 0, 5, 1)


def test_a_file_too_large_for_any_disk_is_refused(receiver, arrivals):
    with RawSender(receiver.address) as raw:
        raw.greet()
        for file_id, size in enumerate((2**60, 2**63, 2**64 - 1)):
            raw.send(Kind.FILE, file_id, size, b"f%d" % file_id)
            assert raw.reply_of(Kind.FILE_FAILED)[0].file_id == file_id
    assert os.listdir(arrivals) == []


def test_too_many_open_files_are_refused(receiver, arrivals):
    with RawSender(receiver.address) as raw:
        raw.greet()
        for file_id in range(257):
            raw.send(Kind.FILE, file_id, 10, b"%d" % file_id)
        header, body = raw.reply_of(Kind.FILE_FAILED)
        assert (header.file_id, body) == (256, b"more than 256 files at once")
    eventually(lambda: not os.listdir(arrivals), "the unfinished files are removed")


@pytest.mark.parametrize("seed", range(10))
def test_any_sequence_of_frames_leaves_whole_files_and_true_reports(receiver, arrivals, reports, seed):
    def run(stream):
        with contextlib.suppress(OSError), RawSender(receiver.address) as raw:
            raw.greet(bytes([seed]) * 16, stream, n_streams=3)
            drain = threading.Thread(target=raw.is_closed_by_peer)
            drain.start()
            try:
                send_at_random(raw.sock, random.Random(3 * seed + stream))
            finally:
                with contextlib.suppress(OSError):
                    raw.sock.shutdown(socket.SHUT_WR)
                drain.join()

    threads = [threading.Thread(target=run, args=(stream,)) for stream in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    receiver.close()
    outcomes = [file.error is None for file in reports["files"]]
    assert sum(session.received_files for session in reports["sessions"]) == outcomes.count(True)
    assert sum(session.failed_files for session in reports["sessions"]) == outcomes.count(False)
    assert set(os.listdir(arrivals)) == {file.name for file in reports["files"] if file.error is None}
    for path in arrivals.iterdir():
        assert path.read_bytes() == content_of(int(path.name))


def content_of(file_id):
    return bytes([file_id]) * 10 * file_id


def send_at_random(sock, rng):
    """Frames of a few files in any order, some of them wrong, some damaged."""
    kinds = [Kind.FILE] * 30 + [Kind.DATA] * 80 + [Kind.END] * 30 + [Kind.ABORT] * 5 + [Kind.BYE, Kind.HELLO]
    for _ in range(rng.randrange(1, 60)):
        kind, file_id, offset, body = rng.choice(kinds), rng.randrange(1, 5), 0, b""
        content = content_of(file_id)
        if kind is Kind.FILE:
            offset, body = len(content), b"%d" % file_id
        elif kind is Kind.DATA:
            offset = rng.randrange(len(content))
            body = content[offset : offset + rng.randrange(1, len(content))]
        elif kind is Kind.END:
            body = blake3(content).digest() if rng.random() < 0.8 else bytes(32)
        elif kind is Kind.HELLO:
            body = bytes(frames.HELLO_BYTES)
        data = bytearray(frames.encode_header(kind, file_id, offset, body) + body)
        if rng.random() < 0.03:
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        sock.sendall(data)


# --- receivers that misbehave ---


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "does not speak the ITP protocol"),
        (b"", "ended"),
        (handshake.encode_preface() + bytes(64), "not a frame"),
        (
            handshake.encode_preface() + frames.encode_header(Kind.ACK, 0, 1),
            "instead of WELCOME",
        ),
    ],
)
def test_garbage_for_an_answer(tmp_path, answer, reason):
    with (
        fake_receiver(lambda sock: sock.sendall(answer)) as address,
        pytest.raises(TransportError, match=reason),
        sending(address),
    ):
        pass


@pytest.mark.parametrize(
    "answer",
    [bytes(64), frames.encode_header(Kind.ACK, 1, 77), frames.encode_header(Kind.NACK, 1, 0)],
    ids=["zeros", "ack", "nack"],
)
def test_garbage_after_the_welcome(tmp_path, answer):
    def greet_then_lie(sock):
        sock.sendall(handshake.encode_preface() + frames.encode_header(Kind.WELCOME))
        sock.recv(1000)
        sock.sendall(answer)

    path = make_file(tmp_path, "f", 1_000_000)
    with fake_receiver(greet_then_lie) as address, sending(address) as sender:
        transfer = sender.submit(path)
        with pytest.raises(TransportError, match="all streams are lost"):
            transfer.result(TIMEOUT_S)


def test_a_receiver_that_shuts_down_says_so(tmp_path, arrivals):
    path = make_file(tmp_path, "f", SLOW_FILE_BYTES)
    with Receiver(arrivals, port=0) as receiver, sending(receiver.address, pace_mbps=SLOW_MBPS) as sender:
        transfer = sender.submit(path)
        eventually(lambda: transfer.delivered_bytes > 0, "the transfer is under way")
        receiver.close()
        with pytest.raises(TransportError, match="the receiver is shutting down"):
            transfer.result(TIMEOUT_S)
    assert os.listdir(arrivals) == []


def test_a_sender_that_is_interrupted_leaves_nothing(tmp_path, arrivals, receiver, reports):
    path = make_file(tmp_path, "f", SLOW_FILE_BYTES)
    with contextlib.suppress(KeyboardInterrupt), sending(receiver.address, pace_mbps=SLOW_MBPS) as sender:
        transfer = sender.submit(path)
        eventually(lambda: transfer.delivered_bytes > 0, "the transfer is under way")
        raise KeyboardInterrupt
    with pytest.raises(TransportError, match="closed"):
        transfer.result(0)
    eventually(lambda: reports["sessions"], "the receiver notices")
    assert reports["files"][0].error
    assert os.listdir(arrivals) == []


# --- disks that misbehave ---


def test_a_write_error_fails_the_file_alone(tmp_path, arrivals, receiver, reports, monkeypatch):
    path = make_file(tmp_path, "f", 1_000_000)

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with sending(receiver.address) as sender:
        with monkeypatch.context() as patch:
            patch.setattr(os, "pwrite", full)
            with pytest.raises(TransportError, match="No space left on device"):
                sender.submit(path).result(TIMEOUT_S)
        sender.submit(path, name="later").result(TIMEOUT_S)
    assert os.listdir(arrivals) == ["later"]
    assert reports["files"][0].error == "No space left on device"


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "small"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"cannot mount a small disk: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_fails_the_file_alone(tmp_path, small_disk):
    with Receiver(small_disk, port=0) as receiver, sending(receiver.address) as sender:
        with pytest.raises(TransportError, match="No space left on device"):
            sender.submit(make_file(tmp_path, "large", 2_000_000)).result(TIMEOUT_S)
        assert os.listdir(small_disk) == []
        sender.submit(make_file(tmp_path, "little", 500_000)).result(TIMEOUT_S)
    assert os.listdir(small_disk) == ["little"]


def test_a_target_that_is_a_directory_fails_the_file_at_once(tmp_path, arrivals, receiver):
    (arrivals / "f").mkdir()
    with sending(receiver.address, pace_mbps=[1, 1, 1, 1]) as sender:
        # Hundreds of seconds of data.
        transfer = sender.submit(make_file(tmp_path, "f", 100_000_000))
        with pytest.raises(TransportError, match="Is a directory"):
            transfer.result(TIMEOUT_S)


def test_a_callback_that_fails_keeps_no_sender_waiting(tmp_path, arrivals, caplog):
    def fail(_):
        raise RuntimeError("a mistake of the caller's")

    with Receiver(arrivals, port=0, on_file=fail) as receiver:
        send_one(receiver.address, make_file(tmp_path, "f", 1000))
    assert "callback of the receiver failed" in caplog.text
