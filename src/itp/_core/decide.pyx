"""The fast path: from a task and the state of the streams to a decision."""
cimport cython
from libc.math cimport INFINITY, NAN, isfinite
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcpy

from itp._core.alloc cimport WATER_FILLING, Rule
from itp._core.arguments cimport real_between
from itp._core.calibration cimport Tables, calibrated, learn, table_row
from itp._core.decision cimport ITP_GUARD, ITP_HEURISTIC, ITP_NATIVE, Plan, action_of_mask
from itp._core.heuristic cimport (
    LEAST_COMPLETION_TIME,
    SINGLE_BEST,
    Candidates,
    Demand,
    Policy,
    any_candidate_meets,
    choose_by_rule,
    enumerate_candidates,
    least_at_once,
    least_completion,
    list_candidates,
    meets_demand,
    planned_time_s,
    split_chunks,
)
from itp._core.order cimport FIFO
from itp._core.reward cimport Outcome, Terms, reference_time, reward_terms, weighted
from itp._core.rng cimport rng_double
from itp._core.state cimport (
    Network,
    Paths,
    assemble_state,
    day_fraction,
    monotonic_s,
    network_admit,
    network_drain,
    network_monotonic_s,
    network_observe,
    network_release,
    network_reserve,
    network_unix_s,
    popcount,
)

import numpy as np

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
    plan.observed_s = network_monotonic_s(net)
    plan.decided_at_s = network_unix_s(net)
    network_observe(net, demand.size_bytes, demand.priority, plan.observed_s, &plan.paths)
    assemble_state(&plan.paths, net.streams, <double>net.in_flight, demand.size_bytes, demand.priority,
                   day_fraction(plan.decided_at_s), plan.state)
    for i in range(net.n_streams):
        latency[i] = net.streams[i].latency_s
    plan.reference_time_s = reference_time(demand.size_bytes, plan.paths.rate_Bps, latency, net.n_streams)
    return ITP_OK


cdef Status settle_task(Core* core, const Learned* model, int source, const float* q_values,
                        Plan* plan) noexcept nogil:
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
    choose(&chooser, source, q_values, &plan.paths, &plan.demand, &core.turn, &draw, &choice)
    plan.action_mask = choice.mask
    plan.source = choice.source
    plan.has_q = choice.by_model
    plan.explored = choice.explored
    plan.propensity = choice.propensity
    if choice.by_model:
        memcpy(plan.q_values, q_values, sizeof(plan.q_values))
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
    plan.in_ledger = True
    _count(core, plan, 1)
    if net.clock == NULL:
        _time(&core.times, monotonic_s() - plan.observed_s)
    return ITP_OK


# --- choosing ---

cdef void choose(const Chooser* chooser, int source, const float* q_values, const Paths* paths,
                 const Demand* demand, int* turn, const Draw* draw, Choice* out) noexcept nogil:
    cdef bint by_model = q_values != NULL and _all_finite(q_values)
    cdef Demand binding = _binding(chooser, by_model, demand)
    cdef Candidates c
    c.count = 0
    out.split = WATER_FILLING
    out.by_model = by_model
    out.source = source if out.by_model else ITP_HEURISTIC
    out.explored = False
    out.propensity = 1.0
    if out.by_model:
        out.mask = _by_model(chooser.model, q_values, paths, &binding, &c, &out.source)
    else:
        out.mask = _by_rule(chooser.policy, paths, &binding, &c, turn, &out.split)
    if chooser.epsilon > 0.0:
        _explore(chooser.epsilon, paths, &binding, draw, &c, out)
        if out.explored and out.by_model:
            out.source = source


cdef void explore(const Chooser* chooser, const Paths* paths, const Demand* demand, const Draw* draw,
                  Choice* choice) noexcept nogil:
    cdef Demand binding = _binding(chooser, choice.by_model, demand)
    cdef Candidates c
    c.count = 0
    _explore(chooser.epsilon, paths, &binding, draw, &c, choice)


cdef bint hard_by_rule(Policy policy, int order) noexcept nogil:
    """Whether a rule closes the actions that are planned to miss the deadline, unless told otherwise.

    As measured over ten families, it improves both slowdown and deadlines met for every rule and order but
    the single best stream under fifo, where it costs slowdown and gains no deadline (docs/rivals.md).
    """
    return not (policy == SINGLE_BEST and order == FIFO)


cdef Demand _binding(const Chooser* chooser, bint by_model, const Demand* demand) noexcept nogil:
    """The demand, without a deadline that closes no action."""
    cdef Demand binding = demand[0]
    cdef bint hard = chooser.deadlines == HARD
    if chooser.deadlines == AS_DECLARED:
        hard = chooser.model.hard_deadlines if by_model else hard_by_rule(chooser.policy, chooser.order)
    if not hard:
        binding.deadline_s = INFINITY
    return binding


cdef bint _closes(const Demand* binding) noexcept nogil:
    """Whether a demand can close an action over streams that are up."""
    return binding.deadline_s < INFINITY or binding.min_bandwidth_Bps > 0.0


cdef bint _all_finite(const float* q_values) noexcept nogil:
    cdef int k
    for k in range(N_ACTIONS):
        if not isfinite(q_values[k]):
            return False
    return True


cdef uint32_t _by_model(const Learned* model, const float* q_values, const Paths* paths,
                        const Demand* binding, Candidates* c, int* source) noexcept nogil:
    """The open action of the greatest Q-value, or the guard's."""
    cdef bint only_meeting
    cdef float q, most = 0.0
    cdef int k, kept, best = -1
    if model.has_guard or _closes(binding):
        enumerate_candidates(paths, binding, c)
    else:
        list_candidates(paths, binding, c)
    only_meeting = any_candidate_meets(c)
    for k in range(c.count):
        if c.meets[k] or not only_meeting:
            q = q_values[action_of_mask(c.mask[k], paths.n)]
            if best < 0 or q > most:
                best = k
                most = q
    if not model.has_guard:
        return c.mask[best]
    kept = _guarded(model, c, only_meeting, best)
    if kept != best:
        source[0] = ITP_GUARD
    return c.mask[kept]


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


cdef uint32_t _by_rule(Policy policy, const Paths* paths, const Demand* binding, Candidates* c, int* turn,
                       int* split) noexcept nogil:
    """A rule's streams, and how it splits; lists the candidates only where they are needed."""
    cdef int64_t chunks[16]
    cdef Rule chosen = WATER_FILLING
    cdef uint32_t mask, kept
    split[0] = WATER_FILLING
    if policy == LEAST_COMPLETION_TIME:
        if not least_at_once(paths, binding, &mask):
            enumerate_candidates(paths, binding, c)
            mask = c.mask[least_completion(c)]
        return mask
    mask = choose_by_rule(policy, paths, binding, turn, &chosen)
    split[0] = chosen
    if not _closes(binding):
        return mask
    # A rule that breaks a demand which some action meets gives way.
    kept = split_chunks(paths, binding, mask, chosen, chunks)
    if meets_demand(paths, binding, kept, planned_time_s(paths, binding, kept, chunks)):
        return mask
    enumerate_candidates(paths, binding, c)
    if not any_candidate_meets(c):
        return mask
    split[0] = WATER_FILLING
    return c.mask[least_completion(c)]


cdef void _explore(double epsilon, const Paths* paths, const Demand* binding, const Draw* draw, Candidates* c,
                   Choice* choice) noexcept nogil:
    """Epsilon-greedy over the open candidates, with the propensity; lists those not listed yet."""
    cdef bint only_meeting, greedy_open = False
    cdef uint32_t greedy = choice.mask
    cdef int k, place, open_count = 0
    if c.count == 0:
        if _closes(binding):
            enumerate_candidates(paths, binding, c)
        else:
            list_candidates(paths, binding, c)
    only_meeting = any_candidate_meets(c)
    for k in range(c.count):
        if c.meets[k] or not only_meeting:
            open_count += 1
            greedy_open = greedy_open or c.mask[k] == greedy
    if draw.whether < epsilon:
        choice.explored = True
        choice.split = WATER_FILLING
        place = <int>(draw.which * open_count)
        for k in range(c.count):
            if c.meets[k] or not only_meeting:
                if place == 0:
                    choice.mask = c.mask[k]
                    break
                place -= 1
    # A greedy action that is not among the open ones is never drawn.
    choice.propensity = epsilon / open_count if greedy_open or choice.explored else 0.0
    if choice.mask == greedy:
        choice.propensity += 1.0 - epsilon


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
    cdef double reward, now_s = network_monotonic_s(core.network)
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


cdef Deadlines deadlines_of(object hard) except *:
    if hard is not None and not isinstance(hard, (bool, np.bool_)):
        raise TypeError(f"hard_deadlines = {hard!r}: expected True, False or None")
    if hard is None:
        return AS_DECLARED
    return HARD if hard else SOFT


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
