"""The fast path for C and C++: the functions of `itp.h`, checked at the border; none needs the GIL."""
from cpython.pycapsule cimport PyCapsule_New
from libc.math cimport isfinite, isnan
from libc.stdint cimport int64_t, uint32_t, uint64_t, uintptr_t
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
from itp._core.decision cimport Plan, Valued, action_of_mask
from itp._core.estimates cimport Delivered, delivered_fits
from itp._core.heuristic cimport (
    Candidates,
    Demand,
    default_policy,
    enumerate_candidates,
    enumerate_sets,
)
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
    bint prefers                # a number of the caller's, not the model's
    uint64_t last_number        # of the decision made last

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
    owned.core.preference = 0.5
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
    cdef const Learned* learned = <const Learned*>model
    if owned == NULL or (model != NULL and learned.set_forward == NULL
                         and owned.network.n_streams != MODEL_STREAMS):
        return ITP_INVALID
    owned.core.model = learned
    if model != NULL and not owned.prefers:
        owned.core.preference = learned.balanced
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


cdef int _prefer(itp_decider* decider, double preference) noexcept nogil:
    cdef Owned* owned = <Owned*>decider
    if owned == NULL or not 0.0 <= preference <= 1.0:
        return ITP_INVALID
    owned.core.preference = preference
    owned.prefers = True
    return ITP_OK


cdef int _update_stream(itp_decider* decider, int stream, double bandwidth_mbps, double latency_ms,
                        double congestion, double success_rate) noexcept nogil:
    cdef Network* net = _network_of(decider)
    cdef double now_s
    if net == NULL:
        return ITP_INVALID
    if not (0 <= stream < net.n_streams and isfinite(bandwidth_mbps) and bandwidth_mbps >= 0.0
            and isfinite(latency_ms) and latency_ms >= 0.0 and 0.0 <= success_rate <= 1.0
            and (isnan(congestion) or 0.0 <= congestion <= 1.0)):
        return ITP_INVALID
    now_s = monotonic_s()
    network_drain(net, stream, now_s)
    network_measure(net, stream, bandwidth_mbps, latency_ms * 1e-3, success_rate,
                    -1.0 if isnan(congestion) else congestion, now_s)
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
    if status == ITP_OK:
        (<Owned*>decider).last_number = plan.number
    return status


cdef int _candidates(const itp_decider* decider, const Plan* plan, itp_candidates* out) noexcept nogil:
    cdef const Owned* owned = <const Owned*>decider
    cdef const Valued* valued
    cdef Candidates c
    cdef int k
    if (decider == NULL or plan == NULL or out == NULL or plan.owner != decider
            or plan.number != owned.last_number):
        return ITP_INVALID
    valued = &owned.core.valued
    out.count = 0
    out.unsupported = valued.unsupported
    if plan.has_q:
        enumerate_candidates(&plan.paths, &plan.demand, &c)
    elif valued.count > 0:
        enumerate_sets(&plan.paths, &plan.demand, &c)
    else:
        return ITP_OK
    out.count = c.count
    for k in range(c.count):
        out.streams[k] = c.mask[k]
        out.planned_s[k] = c.completion_s[k]
        out.values[k] = (plan.q_values[action_of_mask(c.mask[k], plan.paths.n)] if plan.has_q
                         else valued.values[k])
    return ITP_OK


cdef int _unsupported(const itp_decider* decider, uint64_t* decisions) noexcept nogil:
    if decider == NULL or decisions == NULL:
        return ITP_INVALID
    decisions[0] = (<const Owned*>decider).core.unsupported
    return ITP_OK


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
    return _report_streams(decider, plan, given, NULL, 0, reward)


cdef int _report_streams(itp_decider* decider, Plan* plan, const itp_outcome* given,
                         const itp_stream_outcome* streams, int n_outcomes, double* reward) noexcept nogil:
    cdef Outcome outcome
    cdef Delivered delivered
    cdef const itp_stream_outcome* one
    cdef double found
    cdef int k
    if decider == NULL or plan == NULL or given == NULL or not _is_in_flight(decider, plan):
        return ITP_INVALID
    if not (0.0 <= given.throughput_mbps <= 1e300 and 0.0 <= given.latency_s <= 1e300
            and given.retransmitted_bytes >= 0):
        return ITP_INVALID
    if n_outcomes < 0 or (streams == NULL and n_outcomes > 0):
        return ITP_INVALID
    delivered.streams = 0
    for k in range(n_outcomes):
        one = streams + k
        if not (0 <= one.stream < plan.paths.n and not (delivered.streams >> one.stream) & 1
                and one.bytes >= 0 and 0.0 <= one.seconds <= 1e300 and one.retransmitted_bytes >= 0):
            return ITP_INVALID
        delivered.streams |= <uint32_t>1 << one.stream
        delivered.bytes[one.stream] = one.bytes
        delivered.seconds[one.stream] = one.seconds
        delivered.retransmitted_bytes[one.stream] = one.retransmitted_bytes
    if not delivered_fits(&delivered, plan):
        return ITP_INVALID
    outcome.throughput_mbps = given.throughput_mbps
    outcome.latency_s = given.latency_s
    outcome.success = given.success != 0
    outcome.retransmitted_bytes = given.retransmitted_bytes
    found = report_task(&(<Owned*>decider).core, plan, &outcome, NULL if streams == NULL else &delivered)
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
_api.prefer = _prefer
_api.candidates = _candidates
_api.unsupported = _unsupported
_api.report_streams = _report_streams

# Code that was compiled for version 1 takes a table that says 1, and no other.
cdef itp_api _api_1 = _api
_api_1.version = 1

API = PyCapsule_New(&_api_1, "itp._core.capi.API", NULL)
API_2 = PyCapsule_New(&_api, "itp._core.capi.API_2", NULL)


def api_address(version=ITP_API_VERSION):
    """Address of the `itp_api` table that says this version: 1 or 2; the functions are the same."""
    if version not in (1, 2):
        raise ValueError(f"version = {version!r}: expected 1 or 2")
    return <uintptr_t>(&_api_1 if version == 1 else &_api)


def model_address(Served served not None):
    """Address of a served model as an `itp_model`; valid as long as `served` lives.

    Raises
    ------
    ValueError
        It has no compiled forward pass.
    """
    if served.engine != "native":
        raise ValueError(f"{served.version} has no compiled forward pass")
    return <uintptr_t>&served.learned
