"""When a file is complete: its digest is known, every byte is there and nobody writes any more."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from itp.transport.protocol import receiving
from itp.transport.protocol.frames import FrameError
from itp.transport.protocol.messages import FileRefused
from itp.transport.protocol.receiving import Assembly

DIGEST = bytes(32)


def write(assembly, start, end):
    return assembly.begin(start, end) and assembly.end(start, end, written=True)


@given(st.integers(0, 60), st.data())
def test_it_becomes_complete_exactly_once_and_only_when_it_is(size, data):
    assembly = Assembly(size)
    missing, digest, active, completions = set(range(size)), False, [], 0
    steps = st.sampled_from(["begin", "written", "failed", "digest"])
    ranges = st.tuples(st.integers(0, size), st.integers(0, size)).map(sorted)
    for step in data.draw(st.lists(steps, max_size=40)):
        done = False
        if step == "begin":
            start, end = data.draw(ranges)
            if end > start and assembly.begin(start, end):
                active.append((start, end))
        elif step == "digest":
            digest = True
            done = assembly.expect(DIGEST)
        elif active:
            start, end = active.pop(data.draw(st.integers(0, len(active) - 1)))
            if step == "written":
                missing -= set(range(start, end))
            done = assembly.end(start, end, written=step == "written")
        completions += done
        if done:
            assert not missing
            assert digest
            assert not active
    if not missing and digest and not active:
        assert completions == 1
        assert not size or not assembly.begin(0, size)


def test_a_failed_write_leaves_its_bytes_wanted():
    assembly = Assembly(10)
    assembly.expect(DIGEST)
    assert assembly.begin(0, 10)
    assert not assembly.end(0, 10, written=False)
    assert write(assembly, 0, 10)


def test_a_write_that_repeats_bytes_delays_the_end():
    assembly = Assembly(10)
    assembly.expect(DIGEST)
    assert assembly.begin(0, 10)
    assert assembly.begin(0, 10)
    assert not assembly.end(0, 10, written=True)
    assert assembly.end(0, 10, written=True)


def test_the_digest_of_a_complete_file_stands():
    assembly = Assembly(0)
    assert assembly.expect(DIGEST)
    assert not assembly.expect(b"x" * 32)
    assert assembly.digest == DIGEST


def test_bytes_beyond_the_end_are_refused():
    with pytest.raises(FrameError, match="data from byte 9 to 11 of a file of 10"):
        Assembly(10).begin(9, 11)


def test_too_many_pieces_are_refused(monkeypatch):
    monkeypatch.setattr(receiving, "_MAX_GAPS", 3)
    assembly = Assembly(100)
    for start in (0, 10, 20):
        write(assembly, start, start + 1)
    with pytest.raises(FileRefused, match="separate pieces"):
        write(assembly, 30, 31)
