"""RangeSet against a set of byte numbers."""

from hypothesis import given
from hypothesis import strategies as st

from itp.transport.protocol.ranges import RangeSet

spans = st.tuples(st.integers(0, 60), st.integers(1, 20)).map(lambda s: (s[0], s[0] + s[1]))


@given(st.lists(spans, max_size=30), spans)
def test_range_set_agrees_with_a_plain_set(added, asked):
    ranges, oracle = RangeSet(), set()
    for start, end in added:
        new = set(range(start, end)) - oracle
        assert ranges.add(start, end) == len(new)
        oracle |= new
        assert ranges.covered_bytes == len(oracle)
    assert ranges.covers(*asked) == set(range(*asked)).issubset(oracle)
    assert len(ranges) == sum(1 for byte in oracle if byte - 1 not in oracle)
