"""The replay buffer beside cpprb's: the same transitions, sizes and calls in one process."""

import numpy as np
import pytest

from itp_overhead.replay import ALPHA, BATCH, BETA, CpprbBuffer, ItpBuffer, transitions

STORED = 1_000_000
ROWS = transitions(STORED)


def itp_weights(indexes):
    """Normalised by the largest of the batch."""
    priorities = ROWS["priority"][indexes]
    return (priorities / priorities.min()) ** (-ALPHA * BETA)


def cpprb_weights(indexes):
    """Normalised by the largest of the buffer; cpprb adds 1e-4 to every priority."""
    priorities = ROWS["priority"] + 1e-4
    return (priorities[indexes] / priorities.min()) ** (-ALPHA * BETA)


@pytest.fixture(scope="module", params=["itp", "cpprb"])
def library(request):
    if request.param == "itp":
        return ItpBuffer(ROWS)
    pytest.importorskip("cpprb", reason="cpprb is not installed: pip install cpprb to compare with it")
    return CpprbBuffer(ROWS)


@pytest.fixture
def timed(benchmark, library):
    benchmark.extra_info["role"] = "itp" if type(library) is ItpBuffer else "peer"
    return benchmark


# Those that leave the priorities as they were come first.


@pytest.mark.benchmark(group="replay-sample-1M")
def test_sample(timed, library):
    batch = timed(library.sample)
    weights = itp_weights if type(library) is ItpBuffer else cpprb_weights
    np.testing.assert_allclose(batch["weights"], weights(batch["indexes"]), rtol=1e-3)


@pytest.mark.benchmark(group="replay-add-1M")
def test_add(timed, library):
    timed(library.add)
    assert library.buffer.get_stored_size() == STORED


@pytest.mark.benchmark(group="replay-add-batch-1M")
def test_add_batch(timed, library):
    timed(library.add_batch)
    assert library.buffer.get_stored_size() == STORED


@pytest.mark.benchmark(group="replay-update-1M")
def test_update(timed, library):
    """Each round updates a freshly drawn batch, as training does; cpprb ignores any other."""
    timed.pedantic(library.update, setup=lambda: ((library.sample()["indexes"],), {}), rounds=2000)


@pytest.mark.benchmark(group="replay-cycle-1M")
def test_cycle(timed, library):
    batch = timed(library.cycle)
    assert batch["state"].shape == batch["next_state"].shape == (BATCH, 20)
    assert 0.0 < batch["weights"].min() <= batch["weights"].max() <= 1.0
