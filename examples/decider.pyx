# cython: language_level=3
"""Decisions in a Cython data plane: plain structs, no Python objects, the GIL given away.

CFLAGS="-I$(python -c 'import itp; print(itp.get_include())')" cythonize -i examples/decider.pyx
cd examples && python -c "import decider; print(decider.shares(None, [10**6] * 1000))"

In the place of None: itp.native_model('dqn_v1').
"""
from libc.math cimport INFINITY
from libc.stdint cimport int64_t, uintptr_t
from libc.string cimport memset

from itp._core.decide cimport ITP_OK, Core, Learned, decide_task, report_task
from itp._core.decision cimport Plan
from itp._core.heuristic cimport default_policy
from itp._core.order cimport FIFO
from itp._core.reward cimport Outcome
from itp._core.state cimport Network, monotonic_s, network_free, network_init, network_measure


def shares(model, sizes_bytes):
    """Decide and report one task after the other; bytes that each of the four streams was given.

    Parameters
    ----------
    model : itp.NativeModel or None
        Held by the caller as long as this runs. None: the heuristic decides.
    sizes_bytes : list of int
        At least 1 each: nothing is checked at this level, other than in `itp.h`.
    """
    cdef Network network
    cdef Core core
    cdef Plan plan
    cdef Outcome outcome
    cdef int64_t given[4]
    cdef double[4] bandwidth_mbps = [200.0, 100.0, 50.0, 20.0]
    cdef double[4] latency_s = [0.010, 0.040, 0.080, 0.150]
    cdef int64_t size_bytes
    cdef int i, status = ITP_OK
    # All zeros: no exploration, no model.
    memset(&core, 0, sizeof(core))
    memset(&given, 0, sizeof(given))
    network_init(&network, 4, FIFO)
    core.network = &network
    core.policy = default_policy(FIFO)
    core.min_chunk_bytes = 65536
    if model is not None:
        core.model = <const Learned*><uintptr_t>model.address
    for i in range(4):
        # Success rate 0.99; congestion as the ledger has it (-1).
        network_measure(&network, i, bandwidth_mbps[i], latency_s[i], 0.99, -1.0, monotonic_s())
    for size_bytes in sizes_bytes:
        with nogil:
            memset(&plan, 0, sizeof(plan))
            plan.demand.size_bytes = size_bytes
            plan.demand.priority = 0.5
            plan.demand.deadline_s = INFINITY
            plan.demand.redundancy = 1
            status = decide_task(&core, &plan)
            if status == ITP_OK:
                for i in range(4):
                    given[i] += plan.chunks[i]
                # Here the chunks would be sent; say that all went as expected.
                outcome.latency_s = plan.expected_time_s
                outcome.throughput_mbps = <double>size_bytes * 8e-6 / plan.expected_time_s
                outcome.success = True
                outcome.retransmitted_bytes = 0
                report_task(&core, &plan, &outcome, NULL)
        if status != ITP_OK:
            break
    network_free(&network)
    if status != ITP_OK:
        raise RuntimeError(f"the decision failed with status {status}")
    return [given[i] for i in range(4)]
