"""The fast path: from a task and the state of the streams to a decision."""
from libc.math cimport INFINITY, NAN, isfinite
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memcpy

from itp._core.alloc cimport Rule
from itp._core.calibration cimport Tables, calibrated, learn, table_row
from itp._core.choose cimport N_ACTIONS, Choice, Chooser, Draw, choose
from itp._core.decision cimport ITP_GUARD, ITP_HEURISTIC, ITP_NATIVE, Plan
from itp._core.estimates cimport Delivered, delivered_retransmitted_bytes, imbalance_of, learn_outcome
from itp._core.features cimport Situation
from itp._core.heuristic cimport Demand, meets_demand, split_chunks
from itp._core.reward cimport Outcome, Terms, reference_time, reward_terms, weighted
from itp._core.rng cimport rng_double
from itp._core.state cimport (
    Network,
    Paths,
    assemble_state,
    day_fraction,
    monotonic_s,
    network_admit,
    network_backlog,
    network_drain,
    network_monotonic_s,
    network_observe,
    network_release,
    network_reserve,
    network_unix_s,
    popcount,
)

from itp._core.workload cimport workload_add

cdef extern from *:
    int leading_zeros "__builtin_clzll" (unsigned long long bits) nogil

cdef enum:
    SHORTEST_LOG2_NS = 7        # 128 ns


cdef Status decide_task(Core* core, Plan* plan) noexcept nogil:
    cdef float q_values[N_ACTIONS]
    cdef const Learned* model = core.model
    cdef Situation* situation = &core.situation
    cdef Status status = observe_task(core, plan, situation)
    if status != ITP_OK:
        return status
    if model != NULL and model.set_forward != NULL:
        return settle_task(core, model, ITP_NATIVE, NULL, situation, plan)
    if model == NULL or model.forward == NULL:
        return settle_task(core, NULL, ITP_HEURISTIC, NULL, situation, plan)
    model.forward(model.net, plan.state, q_values)
    return settle_task(core, model, ITP_NATIVE, q_values, situation, plan)


cdef Status observe_task(Core* core, Plan* plan, Situation* situation) noexcept nogil:
    cdef Network* net = core.network
    cdef const Demand* demand = &plan.demand
    cdef double latency[16]
    cdef int i
    if net.up == 0:
        return ITP_NO_STREAM_UP
    if demand.redundancy > popcount(net.up):
        return ITP_TOO_FEW_STREAMS
    if demand.min_chunk_bytes <= 0:
        plan.demand.min_chunk_bytes = core.min_chunk_bytes
    plan.observed_s = network_monotonic_s(net)
    plan.decided_at_s = network_unix_s(net)
    network_observe(net, demand.size_bytes, demand.priority, plan.observed_s, &plan.paths)
    situation.metrics = net.streams
    situation.workload = &net.workload
    network_backlog(net, &plan.paths, situation.backlog_s)
    situation.now_s = plan.observed_s
    situation.in_flight = <double>net.in_flight
    situation.day = day_fraction(plan.decided_at_s)
    situation.preference = core.preference
    situation.order = net.order
    assemble_state(&plan.paths, net.streams, situation.in_flight, demand.size_bytes, demand.priority,
                   situation.day, plan.state)
    for i in range(net.n_streams):
        latency[i] = net.streams[i].latency_s
    plan.reference_time_s = reference_time(demand.size_bytes, plan.paths.rate_Bps, latency, net.n_streams)
    return ITP_OK


cdef Status settle_task(Core* core, const Learned* model, int source, const float* q_values,
                        const Situation* situation, Plan* plan) noexcept nogil:
    """Choose, cut into chunks, estimate, and enter the ledger; without memory the turn goes back."""
    cdef Network* net = core.network
    cdef Chooser chooser
    cdef Choice choice
    cdef Draw draw
    cdef double success_rate[16]
    cdef int i, turn = core.turn
    chooser.model = model
    chooser.policy = core.policy
    chooser.order = net.order
    chooser.deadlines = core.deadlines
    chooser.epsilon = core.epsilon
    if core.epsilon > 0.0:
        draw.whether = rng_double(&core.rng)
        draw.which = rng_double(&core.rng)
    choose(&chooser, source, q_values, situation, &plan.paths, &plan.demand, &core.turn, &draw, &choice)
    plan.action_mask = choice.mask
    plan.source = choice.source
    plan.has_q = choice.by_model and q_values != NULL
    plan.explored = choice.explored
    plan.propensity = choice.propensity
    if plan.has_q:
        memcpy(plan.q_values, q_values, sizeof(plan.q_values))
    core.valued.count = choice.valued.count
    core.valued.unsupported = choice.valued.unsupported
    memcpy(core.valued.values, choice.valued.values, choice.valued.count * sizeof(float))
    for i in range(net.n_streams):
        success_rate[i] = net.streams[i].success_rate
    split_task(plan, <Rule>choice.split, success_rate)
    if not network_reserve(net, plan.mask):
        core.turn = turn
        return ITP_NO_MEMORY
    plan.feasible = meets_demand(&plan.paths, &plan.demand, plan.mask, plan.expected_time_s)
    plan.fastest_s = plan.slowest_s = NAN
    if choice.by_model and model.tables != NULL:
        _correct(plan, model.tables)
    plan.confidence = calibrated(&core.reliability, plan.raw_confidence)
    plan.number = net.last_number + 1
    network_admit(net, plan.number, plan.demand.size_bytes, plan.demand.priority, plan.observed_s, plan.mask,
                  plan.chunks, plan.demand.redundancy > 1)
    workload_add(&net.workload, <double>plan.demand.size_bytes, plan.observed_s)
    plan.in_ledger = True
    _count(core, plan, 1)
    core.unsupported += choice.valued.unsupported
    if net.clock == NULL:
        _time(&core.times, monotonic_s() - plan.observed_s)
    return ITP_OK


cdef void _count(Core* core, const Plan* plan, int sign) noexcept nogil:
    """Count a decision (1), or take it back (-1)."""
    core.counters.decisions += sign
    core.counters.by_model += sign * (plan.source != ITP_HEURISTIC)
    core.counters.guarded += sign * (plan.source == ITP_GUARD)
    core.counters.explored += sign * plan.explored
    core.counters.infeasible += sign * (not plan.feasible)
    core.counters.bytes_decided += <uint64_t>(sign * plan.demand.size_bytes)


cdef void _time(Times* times, double taken_s) noexcept nogil:
    cdef uint64_t ns = <uint64_t>(taken_s * 1e9)
    cdef int octave = 63 - leading_zeros(ns | 1), bin = 0
    if octave >= SHORTEST_LOG2_NS:
        bin = 1 + 4 * (octave - SHORTEST_LOG2_NS) + <int>((ns >> (octave - 2)) & 3)
    times.count[bin if bin < N_TIMES else N_TIMES - 1] += 1
    times.sum_s += taken_s


cdef void split_task(Plan* plan, Rule split, const double* success_rate) noexcept nogil:
    cdef const Paths* paths = &plan.paths
    cdef const Demand* demand = &plan.demand
    cdef double finish, first = INFINITY, last = 0.0, lost = 1.0, arrives = 0.0
    cdef int i, n = paths.n
    plan.mask = split_chunks(paths, demand, plan.action_mask, split, plan.chunks)
    for i in range(n):
        if (plan.mask >> i) & 1:
            finish = paths.delay_s[i] + (<double>plan.chunks[i] / paths.rate_Bps[i]
                                         if paths.rate_Bps[i] > 0.0 else INFINITY)
            first = finish if finish < first else first
            last = finish if finish > last else last
            lost *= 1.0 - success_rate[i]
            arrives += <double>plan.chunks[i] * success_rate[i]
    if demand.redundancy > 1:
        plan.expected_time_s = first
        plan.imbalance = 0.0
        plan.raw_confidence = 1.0 - lost
    else:
        plan.expected_time_s = last
        if first == last:
            plan.imbalance = 0.0
        else:
            plan.imbalance = 1.0 - first / last if isfinite(last) else 1.0
        plan.raw_confidence = arrives / <double>demand.size_bytes
    if plan.raw_confidence > 1.0:
        plan.raw_confidence = 1.0


cdef void _correct(Plan* plan, const Tables* tables) noexcept nogil:
    """Expected time, its interval and raw confidence as a model's tables have them."""
    cdef double first_s = INFINITY, planned_s = plan.expected_time_s
    cdef int i, row
    if not isfinite(planned_s) or planned_s <= 0.0:
        return
    for i in range(plan.paths.n):
        if (plan.mask >> i) & 1 and plan.paths.work_ahead_s[i] < first_s:
            first_s = plan.paths.work_ahead_s[i]
    row = table_row(tables, planned_s, first_s / planned_s)
    plan.expected_time_s = planned_s * tables.middle[row]
    plan.fastest_s = planned_s * tables.low[row]
    plan.slowest_s = planned_s * tables.high[row]
    plan.raw_confidence = tables.confidence[row]


cdef double report_task(Core* core, Plan* plan, Outcome* outcome, const Delivered* delivered) noexcept nogil:
    cdef Terms terms
    cdef const Terms* w = &core.weights
    cdef double reward, now_s = network_monotonic_s(core.network)
    cdef int64_t resent_bytes
    cdef int i
    outcome.imbalance = imbalance_of(plan, delivered)
    if delivered != NULL:
        resent_bytes = delivered_retransmitted_bytes(delivered)
        if resent_bytes > outcome.retransmitted_bytes:
            outcome.retransmitted_bytes = resent_bytes
    reward_terms(outcome, plan.demand.size_bytes, plan.reference_time_s, &terms)
    reward = weighted(&terms, w.throughput, w.latency, w.imbalance, w.completion, w.retransmission)
    for i in range(core.network.n_streams):
        network_drain(core.network, i, now_s)
    learn_outcome(core.network, plan, outcome, delivered, now_s)
    network_release(core.network, plan.number, plan.mask, False)
    plan.in_ledger = False
    learn(&core.reliability, plan.raw_confidence, plan.expected_time_s, outcome.latency_s, outcome.success)
    core.counters.outcomes += 1
    core.counters.successes += outcome.success
    core.counters.retransmitted_bytes += <uint64_t>outcome.retransmitted_bytes
    core.counters.reward_sum += reward
    return reward


cdef void retract_task(Core* core, Plan* plan) noexcept nogil:
    network_release(core.network, plan.number, plan.mask, False)
    plan.in_ledger = False
    _count(core, plan, -1)


def time_edges_s():
    """Upper edges of the bins of decision times, in seconds; the last one is infinite."""
    octaves = [2.0 ** k * 1e-9 for k in range(SHORTEST_LOG2_NS, SHORTEST_LOG2_NS + (N_TIMES - 2) // 4)]
    inner = [low * (1.0 + 0.25 * quarter) for low in octaves for quarter in (1, 2, 3, 4)]
    return (octaves[0], *inner, INFINITY)
