"""Which action a task gets: by Q-values or a rule, within guard and deadlines, with exploration."""
cimport cython
from libc.math cimport INFINITY, isfinite
from libc.stdint cimport int64_t, uint32_t

from itp._core.alloc cimport WATER_FILLING, Rule
from itp._core.arguments cimport real_between
from itp._core.decision cimport ITP_GUARD, ITP_HEURISTIC, action_of_mask
from itp._core.features cimport MAX_CANDIDATES, Features, Situation, assemble_features
from itp._core.heuristic cimport (
    LEAST_COMPLETION_TIME,
    SINGLE_BEST,
    Candidates,
    Demand,
    Policy,
    any_candidate_meets,
    choose_by_rule,
    enumerate_candidates,
    enumerate_sets,
    least_at_once,
    least_completion,
    list_candidates,
    meets_demand,
    planned_time_s,
    split_chunks,
)
from itp._core.order cimport FIFO, service_order_number
from itp._core.state cimport Paths, popcount

import numpy as np

from itp._core.heuristic import POLICIES as _POLICIES

# Tasks that may be expected to arrive while one is under way, for its host to count as idle.
cdef double _IDLE_ARRIVALS = 0.1

GUARD_RULES = ("single_best", "least_completion_time")


cdef void choose(const Chooser* chooser, int source, const float* q_values, const Situation* situation,
                 const Paths* paths, const Demand* demand, int* turn, const Draw* draw,
                 Choice* out) noexcept nogil:
    cdef bint by_set = (situation != NULL and chooser.model != NULL and chooser.model.set_forward != NULL
                        and demand.redundancy == 1)
    cdef bint by_model = by_set or (q_values != NULL and _all_finite(q_values))
    cdef Demand binding = _binding(chooser, by_model, demand)
    cdef Candidates c
    c.count = 0
    out.split = WATER_FILLING
    out.by_model = by_model
    out.source = source if out.by_model else ITP_HEURISTIC
    out.explored = False
    out.propensity = 1.0
    if by_set:
        out.mask = _by_set(chooser.model, situation, paths, demand, &binding, &c, &out.source)
    elif by_model:
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


cdef bint deadline_closes(const Learned* model, Policy policy, int order,
                          Deadlines deadlines) noexcept nogil:
    if deadlines != AS_DECLARED:
        return deadlines == HARD
    return hard_by_rule(policy, order) if model == NULL else model.hard_deadlines


cdef Demand _binding(const Chooser* chooser, bint by_model, const Demand* demand) noexcept nogil:
    """The demand, without a deadline that closes no action."""
    cdef Demand binding = demand[0]
    if not deadline_closes(chooser.model if by_model else NULL, chooser.policy, chooser.order,
                           chooser.deadlines):
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


cdef uint32_t _by_set(const Learned* model, const Situation* situation, const Paths* paths,
                      const Demand* demand, const Demand* binding, Candidates* c, int* source) noexcept nogil:
    """The open candidate of the greatest value among those planned to take no longer than the cap."""
    cdef Features features
    cdef float values[MAX_CANDIDATES]
    cdef bint only_meeting
    cdef double most_s
    cdef int k, best = -1, free = -1, fastest
    enumerate_sets(paths, binding, c)
    fastest = least_completion(c)
    if c.count == 1:
        return c.mask[0]
    # The network sees a deadline that closes nothing, too.
    assemble_features(situation, paths, demand, c, &features)
    model.set_forward(model.set_net, features.streams, features.n_streams, features.context,
                      features.candidates, features.members, c.count, values)
    only_meeting = any_candidate_meets(c)
    most_s = INFINITY
    # Nobody is in flight, and hardly anybody is to be expected while the task is.
    if situation.in_flight == 0.0 and c.completion_s[fastest] <= _IDLE_ARRIVALS * features.gap_s \
            or situation.workload.count == 0:
        most_s = 1.25 * c.completion_s[fastest]
    for k in range(c.count):
        if not isfinite(values[k]):
            source[0] = ITP_GUARD
            return c.mask[fastest]
        if c.meets[k] or not only_meeting:
            if free < 0 or values[k] > values[free]:
                free = k
            if c.completion_s[k] <= most_s and (best < 0 or values[k] > values[best]):
                best = k
    if best < 0:
        best = fastest
    if best != free:
        source[0] = ITP_GUARD
    return c.mask[best]


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


cdef Deadlines deadlines_of(object hard) except *:
    if hard is not None and not isinstance(hard, (bool, np.bool_)):
        raise TypeError(f"hard_deadlines = {hard!r}: expected True, False or None")
    if hard is None:
        return AS_DECLARED
    return HARD if hard else SOFT


def rule_is_hard(str rule, str service_order, hard_deadlines):
    """Whether a rule closes what misses a deadline; `hard_deadlines` of None: as it does by default."""
    if hard_deadlines is not None:
        return bool(hard_deadlines)
    return rule in _POLICIES and hard_by_rule(_POLICIES.index(rule), service_order_number(service_order))


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
