"""The fast path: from a task and the state of the streams to a decision."""
cimport cython
from libc.math cimport INFINITY, NAN, isfinite
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy

from itp._core.alloc cimport WATER_FILLING, Rule
from itp._core.arguments cimport real_between
from itp._core.calibration cimport Tables, calibrated, learn, table_row
from itp._core.decision cimport ITP_GUARD, ITP_HEURISTIC, ITP_NATIVE, Plan, action_of_mask
from itp._core.heuristic cimport (
    LEAST_COMPLETION_TIME,
    Candidates,
    Demand,
    any_candidate_meets,
    choose_by_rule,
    enumerate_candidates,
    least_at_once,
    least_completion,
    meets_demand,
    split_chunks,
)
from itp._core.reward cimport Outcome, Terms, reference_time, reward_terms, weighted
from itp._core.rng cimport rng_below, rng_double
from itp._core.state cimport (
    Network,
    Paths,
    assemble_state,
    day_fraction,
    monotonic_s,
    network_admit,
    network_drain,
    network_observe,
    network_release,
    network_reserve,
    popcount,
    unix_s,
)

from itp._core.heuristic import POLICIES as _POLICIES

cdef extern from *:
    int leading_zeros "__builtin_clzll" (unsigned long long bits) nogil

GUARD_RULES = ("single_best", "least_completion_time")

cdef enum:
    SHORTEST_LOG2_NS = 7        # 128 ns


cdef Status decide_task(Core* core, Plan* plan) noexcept nogil:
    cdef float q_values[N_ACTIONS]
    cdef const Learned* model = core.model
    cdef Status status = observe_task(core, plan)
    if status != ITP_OK:
        return status
    if model == NULL or model.forward == NULL:
        return settle_task(core, NULL, ITP_HEURISTIC, NULL, plan)
    model.forward(model.net, plan.state, q_values)
    return settle_task(core, model, ITP_NATIVE, q_values, plan)


cdef Status observe_task(Core* core, Plan* plan) noexcept nogil:
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
    plan.observed_s = monotonic_s()
    plan.decided_at_s = unix_s()
    network_observe(net, demand.size_bytes, demand.priority, plan.observed_s, &plan.paths)
    assemble_state(&plan.paths, net.streams, <double>net.in_flight, demand.size_bytes, demand.priority,
                   day_fraction(plan.decided_at_s), plan.state)
    for i in range(net.n_streams):
        latency[i] = net.streams[i].latency_s
    plan.reference_time_s = reference_time(demand.size_bytes, plan.paths.rate_Bps, latency, net.n_streams)
    return ITP_OK


cdef Status settle_task(Core* core, const Learned* model, int source, const float* q_values,
                        Plan* plan) noexcept nogil:
    cdef Candidates c
    cdef Rule split = WATER_FILLING
    cdef uint32_t greedy
    cdef int turn = core.turn
    cdef bint by_model = q_values != NULL and _all_finite(q_values)
    c.count = 0
    plan.source = source if by_model else ITP_HEURISTIC
    plan.has_q = by_model
    if by_model:
        enumerate_candidates(&plan.paths, &plan.demand, &c)
        greedy = c.mask[_greedy(model, q_values, &c, plan)]
        memcpy(plan.q_values, q_values, sizeof(plan.q_values))
    else:
        greedy = _by_rule(core, plan, &c, &split)
    _explore_or(core, plan, &c, greedy)
    if plan.explored:
        split = WATER_FILLING
        if by_model:
            plan.source = source
    return _settle(core, model if by_model else NULL, split, turn, plan)


cdef bint _all_finite(const float* q_values) noexcept nogil:
    cdef int k
    for k in range(N_ACTIONS):
        if not isfinite(q_values[k]):
            return False
    return True


cdef int _greedy(const Learned* model, const float* q_values, const Candidates* c, Plan* plan) noexcept nogil:
    """The open candidate of the greatest Q-value, or the guard's."""
    cdef bint only_meeting = any_candidate_meets(c)
    cdef float q, most = 0.0
    cdef int k, kept, best = -1
    for k in range(c.count):
        if c.meets[k] or not only_meeting:
            q = q_values[action_of_mask(c.mask[k], plan.paths.n)]
            if best < 0 or q > most:
                best = k
                most = q
    if not model.has_guard:
        return best
    kept = _guarded(model, c, only_meeting, best)
    if kept != best:
        plan.source = ITP_GUARD
    return kept


cdef int _guarded(const Learned* model, const Candidates* c, bint any_meets, int chosen) noexcept nogil:
    """The candidate to take: `chosen`, or the rule's if that one is so much faster."""
    cdef int k, best = -1
    if model.guard_policy == LEAST_COMPLETION_TIME:
        best = least_completion(c)
    else:
        for k in range(c.count):
            if popcount(c.mask[k]) == 1 and (c.meets[k] or not any_meets):
                if best < 0 or c.completion_s[k] < c.completion_s[best]:
                    best = k
    if best < 0:
        # No single stream can carry it: copies, or too much bandwidth asked for.
        best = least_completion(c)
    return best if c.completion_s[chosen] > model.guard_threshold * c.completion_s[best] else chosen


cdef uint32_t _by_rule(Core* core, Plan* plan, Candidates* c, Rule* split) noexcept nogil:
    """The heuristic's streams, and how it splits; lists the candidates only where they are needed."""
    cdef uint32_t greedy
    cdef double success_rate[16]
    cdef int i
    if core.policy == LEAST_COMPLETION_TIME:
        if core.epsilon > 0.0 or not least_at_once(&plan.paths, &plan.demand, &greedy):
            enumerate_candidates(&plan.paths, &plan.demand, c)
            greedy = c.mask[least_completion(c)]
        return greedy
    enumerate_candidates(&plan.paths, &plan.demand, c)
    # A rule that breaks a demand which some action meets gives way.
    plan.action_mask = choose_by_rule(core.policy, &plan.paths, &plan.demand, &core.turn, split)
    for i in range(plan.paths.n):
        success_rate[i] = 1.0
    split_task(plan, split[0], success_rate)
    if (meets_demand(&plan.paths, &plan.demand, plan.mask, plan.expected_time_s)
            or not any_candidate_meets(c)):
        return plan.action_mask
    split[0] = WATER_FILLING
    return c.mask[least_completion(c)]


cdef void _explore_or(Core* core, Plan* plan, const Candidates* c, uint32_t greedy) noexcept nogil:
    """Epsilon-greedy over the candidates open to the task, with the propensity."""
    cdef bint only_meeting
    cdef int k, open_count = 0, draw
    cdef bint greedy_open = False
    plan.action_mask = greedy
    plan.explored = False
    plan.propensity = 1.0
    if core.epsilon <= 0.0:
        return
    only_meeting = any_candidate_meets(c)
    for k in range(c.count):
        if c.meets[k] or not only_meeting:
            open_count += 1
    if rng_double(&core.rng) < core.epsilon:
        plan.explored = True
        draw = <int>rng_below(&core.rng, open_count)
        for k in range(c.count):
            if c.meets[k] or not only_meeting:
                if draw == 0:
                    plan.action_mask = c.mask[k]
                    break
                draw -= 1
    for k in range(c.count):
        if c.mask[k] == plan.action_mask and (c.meets[k] or not only_meeting):
            greedy_open = True
    plan.propensity = core.epsilon / open_count if greedy_open else 0.0
    if plan.action_mask == greedy:
        plan.propensity += 1.0 - core.epsilon


cdef Status _settle(Core* core, const Learned* model, Rule split, int turn, Plan* plan) noexcept nogil:
    """Chunks, estimates and the ledger for the chosen action; without memory the turn goes back."""
    cdef Network* net = core.network
    cdef double success_rate[16]
    cdef int i
    for i in range(net.n_streams):
        success_rate[i] = net.streams[i].success_rate
    split_task(plan, split, success_rate)
    if not network_reserve(net, plan.mask):
        core.turn = turn
        return ITP_NO_MEMORY
    plan.feasible = meets_demand(&plan.paths, &plan.demand, plan.mask, plan.expected_time_s)
    plan.fastest_s = plan.slowest_s = NAN
    if model != NULL and model.tables != NULL:
        _correct(plan, model.tables)
    plan.confidence = calibrated(&core.reliability, plan.raw_confidence)
    plan.number = net.last_number + 1
    network_admit(net, plan.number, plan.demand.size_bytes, plan.demand.priority, plan.observed_s, plan.mask,
                  plan.chunks, plan.demand.redundancy > 1)
    plan.in_ledger = True
    _count(core, plan, 1)
    _time(&core.times, monotonic_s() - plan.observed_s)
    return ITP_OK


cdef void _count(Core* core, const Plan* plan, int sign) noexcept nogil:
    """Count a decision (1), or take it back (-1)."""
    core.counters.decisions += sign
    core.counters.by_model += sign * plan.has_q
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


cdef double report_task(Core* core, Plan* plan, Outcome* outcome) noexcept nogil:
    cdef Terms terms
    cdef const Terms* w = &core.weights
    cdef double reward, now_s = monotonic_s()
    cdef int i
    outcome.imbalance = plan.imbalance
    reward_terms(outcome, plan.demand.size_bytes, plan.reference_time_s, &terms)
    reward = weighted(&terms, w.throughput, w.latency, w.imbalance, w.completion, w.retransmission)
    for i in range(core.network.n_streams):
        network_drain(core.network, i, now_s)
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


@cython.final
cdef class Guard:
    """Keeps a model's decisions within reach of a rule's.

    Parameters
    ----------
    rule : {"single_best", "least_completion_time"}
    threshold : float
        At least 1: the model's planned completion time may be so many times the rule's.
    """

    def __cinit__(self, rule, threshold):
        if rule not in GUARD_RULES:
            raise ValueError(f"rule = {rule!r}: expected {' or '.join(GUARD_RULES)}")
        self.policy = _POLICIES.index(rule)
        self.threshold = real_between("threshold", threshold, 1.0, 1e9, "1 to 1e9")

    @property
    def rule(self):
        """Its name."""
        return _POLICIES[self.policy]
