"""The fast path for C and C++: the functions of `itp.h`, checked at the border; none needs the GIL."""
from cpython.pycapsule cimport PyCapsule_GetPointer, PyCapsule_New
from libc.math cimport isfinite, isnan
from libc.stdint cimport int64_t, uint64_t, uintptr_t
from libc.stdlib cimport calloc, free

from itp._core.alloc cimport LEAST_CHUNK_BYTES
from itp._core.choose cimport AS_DECLARED, HARD, MODEL_STREAMS, SOFT, Deadlines, Learned
from itp._core.decide cimport (
    ITP_INVALID,
    ITP_OK,
    Core,
    Counters,
    Status,
    Times,
    decide_task,
    report_task,
)
from itp._core.decider cimport Served
from itp._core.decision cimport Plan
from itp._core.heuristic cimport Demand, default_policy
from itp._core.ledger cimport queue_serve
from itp._core.order cimport FIFO, SRPT, ServiceOrder
from itp._core.reward cimport Outcome, RewardWeights
from itp._core.rng cimport rng_seed
from itp._core.state cimport (
    STREAM_LIMIT,
    Network,
    monotonic_s,
    network_drain,
    network_free,
    network_holds,
    network_init,
    network_measure,
    network_release,
    network_set_up,
)

# What an `itp_decider` is.
ctypedef struct Owned:
    Core core
    Network network

cdef RewardWeights _weights = RewardWeights()


cdef itp_decider* _create(int n_streams, int service_order) noexcept nogil:
    cdef Owned* owned
    if not 1 <= n_streams <= STREAM_LIMIT or (service_order != FIFO and service_order != SRPT):
        return NULL
    owned = <Owned*>calloc(1, sizeof(Owned))
    if owned == NULL:
        return NULL
    network_init(&owned.network, n_streams, service_order)
    owned.core.network = &owned.network
    owned.core.policy = default_policy(<ServiceOrder>service_order)
    owned.core.min_chunk_bytes = LEAST_CHUNK_BYTES
    owned.core.weights.throughput = _weights.throughput
    owned.core.weights.latency = _weights.latency
    owned.core.weights.imbalance = _weights.imbalance
    owned.core.weights.completion = _weights.completion
    owned.core.weights.retransmission = _weights.retransmission
    rng_seed(&owned.core.rng, 0)
    return <itp_decider*>owned


cdef void _destroy(itp_decider* decider) noexcept nogil:
    if decider != NULL:
        network_free(&(<Owned*>decider).network)
        free(decider)


cdef inline Network* _network_of(itp_decider* decider) noexcept nogil:
    return NULL if decider == NULL else &(<Owned*>decider).network


cdef int _serve(itp_decider* decider, const itp_model* model) noexcept nogil:
    cdef Owned* owned = <Owned*>decider
    if owned == NULL or (model != NULL and owned.network.n_streams != MODEL_STREAMS):
        return ITP_INVALID
    owned.core.model = <const Learned*>model
    return ITP_OK


cdef int _explore(itp_decider* decider, double epsilon, uint64_t seed) noexcept nogil:
    cdef Owned* owned = <Owned*>decider
    if owned == NULL or not 0.0 <= epsilon <= 1.0:
        return ITP_INVALID
    owned.core.epsilon = epsilon
    rng_seed(&owned.core.rng, seed)
    return ITP_OK


cdef int _set_deadlines(itp_decider* decider, int deadlines) noexcept nogil:
    if decider == NULL or (deadlines != AS_DECLARED and deadlines != HARD and deadlines != SOFT):
        return ITP_INVALID
    (<Owned*>decider).core.deadlines = <Deadlines>deadlines
    return ITP_OK


cdef int _update_stream(itp_decider* decider, int stream, double bandwidth_mbps, double latency_ms,
                        double congestion, double success_rate) noexcept nogil:
    cdef Network* net = _network_of(decider)
    if net == NULL:
        return ITP_INVALID
    if not (0 <= stream < net.n_streams and isfinite(bandwidth_mbps) and bandwidth_mbps >= 0.0
            and isfinite(latency_ms) and latency_ms >= 0.0 and 0.0 <= success_rate <= 1.0
            and (isnan(congestion) or 0.0 <= congestion <= 1.0)):
        return ITP_INVALID
    network_drain(net, stream, monotonic_s())
    network_measure(net, stream, bandwidth_mbps, latency_ms * 1e-3, success_rate,
                    -1.0 if isnan(congestion) else congestion)
    return ITP_OK


cdef int _set_stream_up(itp_decider* decider, int stream, int up) noexcept nogil:
    cdef Network* net = _network_of(decider)
    if net == NULL or not 0 <= stream < net.n_streams:
        return ITP_INVALID
    network_set_up(net, stream, up != 0, monotonic_s())
    return ITP_OK


cdef int _decide(itp_decider* decider, Plan* plan) noexcept nogil:
    cdef const Demand* demand
    cdef Status status
    if decider == NULL or plan == NULL:
        return ITP_INVALID
    demand = &plan.demand
    if not (demand.size_bytes >= 1 and 0.0 <= demand.priority <= 1.0 and demand.deadline_s > 0.0
            and isfinite(demand.min_bandwidth_Bps) and demand.min_bandwidth_Bps >= 0.0
            and 1 <= demand.redundancy <= STREAM_LIMIT and demand.min_chunk_bytes >= 0):
        return ITP_INVALID
    status = decide_task(&(<Owned*>decider).core, plan)
    plan.in_ledger = status == ITP_OK
    plan.owner = decider
    return status


cdef int _report_progress(itp_decider* decider, int stream, int64_t delivered_bytes) noexcept nogil:
    cdef Network* net = _network_of(decider)
    if net == NULL or not 0 <= stream < net.n_streams or delivered_bytes < 0:
        return ITP_INVALID
    queue_serve(&net.queues[stream], net.order, delivered_bytes, monotonic_s())
    return ITP_OK


cdef bint _is_in_flight(const itp_decider* decider, const Plan* plan) noexcept nogil:
    """Whether this decider made it, and it is neither reported nor dropped, in this copy or another."""
    return (plan.in_ledger and plan.owner == decider
            and network_holds(&(<const Owned*>decider).network, plan.number, plan.mask))


cdef int _report_outcome(itp_decider* decider, Plan* plan, const itp_outcome* given,
                         double* reward) noexcept nogil:
    cdef Outcome outcome
    cdef double found
    if decider == NULL or plan == NULL or given == NULL or not _is_in_flight(decider, plan):
        return ITP_INVALID
    if not (0.0 <= given.throughput_mbps <= 1e300 and 0.0 <= given.latency_s <= 1e300
            and given.retransmitted_bytes >= 0):
        return ITP_INVALID
    outcome.throughput_mbps = given.throughput_mbps
    outcome.latency_s = given.latency_s
    outcome.success = given.success != 0
    outcome.retransmitted_bytes = given.retransmitted_bytes
    found = report_task(&(<Owned*>decider).core, plan, &outcome)
    if reward != NULL:
        reward[0] = found
    return ITP_OK


cdef void _drop(itp_decider* decider, Plan* plan) noexcept nogil:
    if decider != NULL and plan != NULL and _is_in_flight(decider, plan):
        network_release(&(<Owned*>decider).network, plan.number, plan.mask, True)
        plan.in_ledger = False


cdef int _figures(const itp_decider* decider, Counters* counters, Times* times) noexcept nogil:
    if decider == NULL:
        return ITP_INVALID
    if counters != NULL:
        counters[0] = (<const Owned*>decider).core.counters
    if times != NULL:
        times[0] = (<const Owned*>decider).core.times
    return ITP_OK


cdef itp_api _api
_api.version = ITP_API_VERSION
_api.create = _create
_api.destroy = _destroy
_api.serve = _serve
_api.explore = _explore
_api.update_stream = _update_stream
_api.set_stream_up = _set_stream_up
_api.decide = _decide
_api.report_progress = _report_progress
_api.report_outcome = _report_outcome
_api.drop = _drop
_api.figures = _figures
_api.set_deadlines = _set_deadlines

API = PyCapsule_New(&_api, "itp._core.capi.API", NULL)


def api_address():
    """Address of the `itp_api` table."""
    return <uintptr_t>PyCapsule_GetPointer(API, "itp._core.capi.API")


def model_address(Served served not None):
    """Address of a served model as an `itp_model`; valid as long as `served` lives.

    Raises
    ------
    ValueError
        It has no compiled forward pass.
    """
    if served.net is None:
        raise ValueError(f"{served.version} has no compiled forward pass")
    return <uintptr_t>&served.learned
