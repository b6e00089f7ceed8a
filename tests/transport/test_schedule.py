"""The schedule: whatever happens to streams and frames, every byte arrives."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from itp.transport.protocol.frames import MAX_PAYLOAD, FrameError, Kind
from itp.transport.protocol.ranges import RangeSet
from itp.transport.protocol.schedule import Schedule, StreamProgress


def do_nothing():
    pass


class Peer:
    """A receiver that keeps what reaches it, and a network of ordered streams."""

    def __init__(self, schedule, n_streams):
        self.schedule = schedule
        self.pipes = [[] for _ in range(n_streams)]
        self.positions = [0] * n_streams
        self.known, self.ended, self.aborted = set(), set(), set()
        self.ranges = {}

    def send(self, stream):
        item = self.schedule.next(stream)
        if item is not None:
            self.pipes[stream].append(item)
        return item

    def deliver(self, stream, damaged=False):
        if not self.pipes[stream]:
            return
        item = self.pipes[stream].pop(0)
        self.positions[stream] += 1
        unknown = item.kind in (Kind.DATA, Kind.END) and item.file_id not in self.known
        if damaged or unknown:
            self.schedule.nack(stream, self.positions[stream])
            return
        if item.kind is Kind.FILE:
            self.known.add(item.file_id)
        elif item.kind is Kind.END:
            self.ended.add(item.file_id)
        elif item.kind is Kind.ABORT:
            self.aborted.add(item.file_id)
        else:
            assert 0 < item.length <= MAX_PAYLOAD
            self.ranges.setdefault(item.file_id, RangeSet()).add(item.offset, item.offset + item.length)
        self.schedule.ack(stream, self.positions[stream])

    def run_dry(self):
        busy = True
        while busy:
            busy = False
            for i in range(len(self.pipes)):
                # What is delivered may be refused and then has to be sent again.
                busy = self.send(i) is not None or bool(self.pipes[i]) or busy
                self.deliver(i)


@st.composite
def splits(draw, n_streams):
    chosen = draw(st.lists(st.integers(0, n_streams - 1), unique=True, min_size=1))
    return chosen, [draw(st.integers(1, 4 * MAX_PAYLOAD)) for _ in chosen]


@given(st.integers(1, 5), st.data())
def test_every_byte_arrives_whatever_dies_and_is_damaged(n_streams, data):
    schedule = Schedule(n_streams, do_nothing)
    peer = Peer(schedule, n_streams)
    sizes, ended = {}, set()
    streams = st.integers(0, n_streams - 1)
    for step in data.draw(
        st.lists(st.sampled_from(["add", "send", "send", "deliver", "damage", "end", "die"]))
    ):
        if step == "add":
            chosen, chunks = data.draw(splits(n_streams))
            file_id = len(sizes) + 1
            schedule.add(file_id, chosen, chunks)
            sizes[file_id] = sum(chunks)
        elif step == "send":
            peer.send(data.draw(streams))
        elif step == "deliver":
            peer.deliver(data.draw(streams))
        elif step == "damage":
            peer.deliver(data.draw(streams), damaged=True)
        elif step == "end" and len(ended) < len(sizes):
            ended.add(len(ended) + 1)
            schedule.end(len(ended))
        elif step == "die" and len(schedule.live) > 1:
            victim = data.draw(st.sampled_from(schedule.live))
            peer.pipes[victim].clear()
            schedule.stream_down(victim, [1.0 + i for i in range(n_streams)])
            assert schedule.next(victim) is None
    peer.run_dry()
    for file_id, size in sizes.items():
        assert peer.ranges[file_id].covers(0, size)
        assert schedule.files[file_id].unsent_bytes == 0
        assert schedule.files[file_id].delivered_bytes == size
    assert peer.ended == ended
    assert all(schedule.unacked_frames(i) == 0 for i in range(n_streams))


def test_without_trouble_every_byte_is_sent_once_by_the_stream_it_was_given_to():
    schedule = Schedule(3, do_nothing)
    schedule.add(1, (2, 0), (300_000, 200_000))
    sent = {}
    for stream in range(3):
        while (item := schedule.next(stream)) is not None:
            sent.setdefault(stream, []).append(item)
    assert [item.kind for item in sent[2]] == [Kind.FILE, Kind.DATA, Kind.DATA, Kind.DATA]
    assert sum(item.length for item in sent[2]) == 300_000
    assert (sent[0][1].offset, sum(item.length for item in sent[0])) == (300_000, 200_000)
    assert 1 not in sent
    assert schedule.files[1].retransmitted_bytes == 0


def test_what_each_stream_did_for_a_file_and_when():
    schedule = Schedule(2, do_nothing)
    schedule.add(1, (0, 1), (2 * MAX_PAYLOAD, 1000))
    for _ in range(3):
        schedule.next(0)
    for _ in range(2):
        schedule.next(1)
    schedule.ack(0, 2, now_s=5.0)
    schedule.ack(1, 2, now_s=6.0)
    schedule.nack(0, 3, now_s=7.0)
    schedule.next(0)
    assert schedule.files[1].streams == {
        0: StreamProgress(MAX_PAYLOAD, MAX_PAYLOAD, 5.0),
        1: StreamProgress(1000, 0, 6.0),
    }
    schedule.ack(0, 4, now_s=8.0)
    assert schedule.files[1].streams[0] == StreamProgress(2 * MAX_PAYLOAD, MAX_PAYLOAD, 8.0)


def test_what_a_dead_stream_had_not_delivered_counts_as_sent_again():
    schedule = Schedule(2, do_nothing)
    schedule.add(1, (0,), (3 * MAX_PAYLOAD,))
    for _ in range(3):
        schedule.next(0)  # FILE and two frames
    schedule.ack(0, 2)
    schedule.stream_down(0, [1.0, 1.0])
    assert schedule.files[1].retransmitted_bytes == MAX_PAYLOAD
    items = [schedule.next(1) for _ in range(4)]
    assert [item.kind for item in items[:3]] == [Kind.FILE, Kind.DATA, Kind.DATA]
    assert {item.offset for item in items[1:3]} == {MAX_PAYLOAD, 2 * MAX_PAYLOAD}
    assert items[3] is None


def test_dead_streams_work_goes_where_it_is_done_soonest():
    schedule = Schedule(3, do_nothing)
    schedule.add(1, (0,), (64 * MAX_PAYLOAD,))
    schedule.stream_down(0, [1.0, 3.0, 1.0])
    shares = {}
    for stream in (1, 2):
        while (item := schedule.next(stream)) is not None:
            shares[stream] = shares.get(stream, 0) + item.length
    assert shares[1] == pytest.approx(3 * shares[2], rel=0.1)


def test_a_forgotten_file_is_skipped_and_an_abort_is_said():
    schedule = Schedule(2, do_nothing)
    schedule.add(1, (0, 1), (MAX_PAYLOAD, MAX_PAYLOAD))
    schedule.add(2, (0,), (5,))
    schedule.next(0)
    schedule.abort(1)
    rest = [schedule.next(stream) for stream in (0, 0, 0, 1, 1)]
    kinds = [(item.kind, item.file_id) for item in rest if item is not None]
    assert sorted(kinds) == [(Kind.FILE, 2), (Kind.DATA, 2), (Kind.ABORT, 1)]


@pytest.mark.parametrize("position", [0, 2, 2**64 - 1])
def test_confirmations_of_frames_never_sent_are_refused(position):
    schedule = Schedule(1, do_nothing)
    schedule.add(1, (0,), (10,))
    schedule.next(0)
    with pytest.raises(FrameError):
        schedule.ack(0, position)
    with pytest.raises(FrameError):
        schedule.nack(0, position)
