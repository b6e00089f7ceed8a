"""State assembly and chunk allocation beside the same in NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from itp import NetworkState
from itp._core import alloc

SIZE = 100 * 2**20
BANDWIDTH = np.array([200.0, 100.0, 50.0, 20.0])
LATENCY = np.array([10.0, 40.0, 80.0, 150.0])
RATES = BANDWIDTH * 125_000
DELAYS = LATENCY * 1e-3


def numpy_state(time_of_day):
    """The state vector of schema 1 for four idle streams."""
    out = np.empty(20, np.float32)
    out[0:4] = np.clip(np.log10(BANDWIDTH) / 5, 0, 1)
    out[4:8] = np.clip(np.log10(LATENCY / 0.1) / 5, 0, 1)
    out[8:12] = 0.0
    out[12:16] = 1.0
    out[16:20] = (0.0, np.log2(SIZE / 1024) / 30, 0.8, time_of_day)
    return out


def numpy_water_filling(size, rates, delays):
    """Chunks that finish together, rounded by the largest remainder."""
    order = np.argsort(delays)
    r, d = rates[order], delays[order]
    level = (size + np.cumsum(r * d)) / np.cumsum(r)
    used = np.count_nonzero(level > d)
    shares = np.zeros(len(rates))
    shares[order[:used]] = r[:used] * (level[used - 1] - d[:used])
    chunks = np.floor(shares).astype(np.int64)
    chunks[np.argsort(chunks - shares)[: size - chunks.sum()]] += 1
    return chunks


@pytest.mark.benchmark(group="state")
def test_state_vector(benchmark):
    benchmark.extra_info["role"] = "itp"
    state = NetworkState(4)
    for i in range(4):
        state.update_stream(i, BANDWIDTH[i], LATENCY[i], None, 1.0)
    vector = benchmark(lambda: state.vector(SIZE, 0.8, time_of_day=0.5))
    np.testing.assert_allclose(vector, numpy_state(0.5), atol=1e-6)


@pytest.mark.benchmark(group="state")
def test_state_vector_numpy(benchmark):
    benchmark.extra_info["role"] = "peer"
    assert benchmark(numpy_state, 0.5).shape == (20,)


@pytest.mark.benchmark(group="allocation")
def test_water_filling(benchmark):
    benchmark.extra_info["role"] = "itp"
    rates, delays = RATES.tolist(), DELAYS.tolist()
    chunks = benchmark(alloc.water_filling, SIZE, rates, delays)
    np.testing.assert_allclose(chunks, numpy_water_filling(SIZE, RATES, DELAYS), atol=1)


@pytest.mark.benchmark(group="allocation")
def test_water_filling_numpy(benchmark):
    benchmark.extra_info["role"] = "peer"
    assert benchmark(numpy_water_filling, SIZE, RATES, DELAYS).sum() == SIZE
