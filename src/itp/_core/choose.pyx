"""Which action a task gets: by Q-values or a rule, within guard and deadlines, with exploration."""
cimport cython
from libc.math cimport INFINITY, isfinite
from libc.stdint cimport int64_t, uint32_t

from itp._core.alloc cimport PROPORTIONAL, WATER_FILLING, Rule
from itp._core.arguments cimport real_between
from itp._core.decision cimport ITP_GUARD, ITP_HEURISTIC, action_of_mask
from itp._core.features cimport Features, Situation, assemble_features
from itp._core.first_policy_iteration cimport least_admission_cost
from itp._core.heuristic cimport (
    ADAPTIVE_SIZE_INTERVAL,
    FIRST_POLICY_ITERATION,
    LEAST_COMPLETION_TIME,
    LEAST_COMPLETION_TIME_PROPORTIONAL,
    LEAST_MARGINAL_COST,
    SINGLE_BEST,
    Candidates,
    Demand,
    Policy,
    any_candidate_meets,
    choose_by_rule,
    enumerate_candidates,
    enumerate_sets,
    fewest_streams,
    least_at_once,
    least_completion,
    least_proportional,
    list_candidates,
    meets_demand,
    planned_time_s,
    policy_number,
    split_chunks,
)
from itp._core.marginal_cost cimport least_marginal_cost
from itp._core.order cimport FIFO, ServiceOrder, service_order_number
from itp._core.size_interval cimport size_interval
from itp._core.state cimport Paths, StreamMetrics, popcount
from itp._core.workload cimport workload_glance

import numpy as np

from itp._core.arguments import as_array
from itp._core.heuristic import POLICIES as _POLICIES

# Support is wider than what training saw by this share of it, and by this much at least.
cdef double _MARGIN = 0.1
cdef double _LEAST_MARGIN = 0.02

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
    out.valued.count = 0
    out.valued.unsupported = False
    if by_set and not _by_set(chooser, situation, paths, demand, &binding, &c, turn, out):
        # Its values are not finite: the heuristic decides, as without a model.
        by_set = by_model = out.by_model = False
        out.source = ITP_HEURISTIC
        out.split = WATER_FILLING
        binding = _binding(chooser, False, demand)
        c.count = 0
    if by_set:
        pass
    elif by_model and not _knows(chooser.model, situation, paths, demand):
        out.valued.unsupported = True
        out.source = ITP_GUARD
        out.mask = _by_rule(chooser.policy, situation, paths, &binding, &c, turn, &out.split)
    elif by_model:
        out.mask = _by_model(chooser.model, q_values, paths, &binding, &c, &out.source)
    else:
        out.mask = _by_rule(chooser.policy, situation, paths, &binding, &c, turn, &out.split)
    if chooser.epsilon > 0.0:
        _explore(chooser.epsilon, paths, &binding, draw, &c, out)
        if out.explored and out.by_model:
            out.source = source


cdef void explore(const Chooser* chooser, const Paths* paths, const Demand* demand, const Draw* draw,
                  bint by_set, Choice* choice) noexcept nogil:
    cdef Demand binding = _binding(chooser, choice.by_model, demand)
    cdef Candidates c
    c.count = 0
    if by_set:
        enumerate_sets(paths, &binding, &c)
    _explore(chooser.epsilon, paths, &binding, draw, &c, choice)


cdef bint hard_by_rule(Policy policy, int order) noexcept nogil:
    """Whether a rule closes the actions that are planned to miss the deadline, unless told otherwise.

    As measured over path and workload families (docs/rivals.md), closing them costs slowdown and gains no
    deadline with least marginal cost, and under fifo with the single best stream and first policy
    iteration. It improves both with all other rules.
    """
    if policy == LEAST_MARGINAL_COST:
        return False
    return not (order == FIFO and (policy == SINGLE_BEST or policy == FIRST_POLICY_ITERATION))


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


cdef bint _knows(const Learned* model, const Situation* situation, const Paths* paths,
                 const Demand* demand) noexcept nogil:
    """Whether a model of schema 1 was trained on workloads like this one."""
    cdef const Known* known = model.known
    cdef double total_Bps = 0.0, load, log2_bytes, offered_Bps
    cdef int i
    if known == NULL or situation == NULL:
        return True
    if <double>situation.workload.count < known.tasks:
        return False
    workload_glance(situation.workload, <double>demand.size_bytes, situation.now_s, &log2_bytes, &offered_Bps)
    for i in range(paths.n):
        if (paths.up >> i) & 1:
            total_Bps += paths.rate_Bps[i]
    load = offered_Bps / total_Bps if total_Bps > 0.0 else INFINITY
    return (known.log2_bytes[0] <= log2_bytes <= known.log2_bytes[1]
            and known.load[0] <= load <= known.load[1])


cdef bint _by_set(const Chooser* chooser, const Situation* situation, const Paths* paths,
                  const Demand* demand, const Demand* binding, Candidates* c, int* turn,
                  Choice* out) noexcept nogil:
    """Choose the open candidate of the greatest value within the cap; False: a value is not finite."""
    cdef const Learned* model = chooser.model
    cdef Features features
    cdef const float* values = out.valued.values
    cdef bint only_meeting, idle
    cdef double most_s
    cdef uint32_t favourite
    cdef int k, fastest, best = -1, free = -1
    enumerate_sets(paths, binding, c)
    out.mask = c.mask[0]
    if c.count == 1:
        return True
    # The network sees a deadline that closes nothing, too.
    assemble_features(situation, paths, demand, c, &features)
    model.set_forward(model.set_net, features.streams, features.n_streams, features.context,
                      features.candidates, features.members, c.count, out.valued.values)
    for k in range(c.count):
        if not isfinite(values[k]):
            return False
    out.valued.count = c.count
    fastest = least_completion(c)
    only_meeting = any_candidate_meets(c)
    # Nobody is in flight, and hardly anybody is to be expected while the task is.
    idle = situation.workload.count == 0 or (
        situation.in_flight == 0.0
        and c.completion_s[fastest] <= model.limits.idle_arrivals * features.gap_s)
    most_s = c.completion_s[fastest] * (model.limits.idle_factor if idle else model.limits.factor)
    for k in range(c.count):
        if c.meets[k] or not only_meeting:
            if free < 0 or values[k] > values[free]:
                free = k
            # Not "longer than": what is infinitely long on every candidate is within the cap.
            if not c.completion_s[k] > most_s and (best < 0 or values[k] > values[best]):
                best = k
    if situation.workload.count == 0 and situation.order == FIFO and most_s < INFINITY:
        # Nothing is known of what follows, and all of it would wait: the fewest streams within the cap.
        best = fewest_streams(c, most_s)
    favourite = c.mask[free]
    out.mask = c.mask[best if best >= 0 else fastest]
    if model.ranges != NULL and not _supports(model.ranges, &features):
        out.valued.unsupported = True
        if idle:
            out.mask = c.mask[fastest]
        else:
            # It may list candidates of its own.
            out.mask = _by_rule(chooser.policy, situation, paths, binding, c, turn, &out.split)
    if out.mask != favourite:
        out.source = ITP_GUARD
    return True


cdef inline bint _outside(const float* x, const float* low, const float* high, int n) noexcept nogil:
    cdef int i
    cdef bint outside = False
    for i in range(n):
        outside |= not ((x[i] >= low[i]) & (x[i] <= high[i]))
    return outside


cdef bint _supports(const Ranges* ranges, const Features* features) noexcept nogil:
    """Whether every input is within what the model was trained on."""
    cdef bint outside = _outside(features.context, ranges.context_low, ranges.context_high, CONTEXT_FEATURES)
    cdef int i
    for i in range(features.n_streams):
        outside |= _outside(features.streams + i * STREAM_FEATURES, ranges.stream_low, ranges.stream_high,
                            STREAM_FEATURES)
    for i in range(features.n_candidates):
        outside |= _outside(features.candidates + i * CANDIDATE_FEATURES, ranges.candidate_low,
                            ranges.candidate_high, CANDIDATE_FEATURES)
    return not outside


cdef Limits default_limits() noexcept nogil:
    cdef Limits limits
    limits.idle_arrivals = 0.1
    limits.idle_factor = 1.25
    limits.factor = INFINITY
    return limits


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


cdef uint32_t _by_memory(Policy policy, const Situation* situation, const Paths* paths, const Demand* binding,
                         Candidates* c) noexcept nogil:
    """A rule's streams by the remembered workload; 0: none meets the demand, or too little is known."""
    cdef int best
    if policy == ADAPTIVE_SIZE_INTERVAL:
        best = size_interval(situation, paths, binding)
        return <uint32_t>1 << best if best >= 0 else 0
    enumerate_sets(paths, binding, c)
    if _closes(binding) and not any_candidate_meets(c):
        best = -1
    elif policy == LEAST_MARGINAL_COST:
        best = least_marginal_cost(situation, paths, binding, c)
    else:
        best = least_admission_cost(situation, paths, binding, c)
    if best < 0:
        c.count = 0
        return 0
    return c.mask[best]


cdef uint32_t _by_rule(Policy policy, const Situation* situation, const Paths* paths, const Demand* binding,
                       Candidates* c, int* turn, int* split) noexcept nogil:
    """A rule's streams, and how it splits; lists the candidates only where they are needed."""
    cdef int64_t chunks[16]
    cdef Rule chosen = WATER_FILLING
    cdef const StreamMetrics* streams
    cdef uint32_t mask = 0, kept
    split[0] = WATER_FILLING
    if policy == LEAST_COMPLETION_TIME:
        if not least_at_once(paths, binding, &mask):
            enumerate_candidates(paths, binding, c)
            mask = c.mask[least_completion(c)]
        return mask
    if policy >= ADAPTIVE_SIZE_INTERVAL and binding.redundancy == 1 and situation != NULL:
        mask = _by_memory(policy, situation, paths, binding, c)
    elif policy == LEAST_COMPLETION_TIME_PROPORTIONAL and binding.redundancy == 1:
        mask = least_proportional(paths, binding, c)
        chosen = PROPORTIONAL
    if mask == 0:
        streams = NULL if situation == NULL else situation.metrics
        mask = choose_by_rule(policy, paths, streams, binding, turn, &chosen)
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
    order = <ServiceOrder>service_order_number(service_order)
    return hard_by_rule(policy_number(rule, order), order)


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


@cython.final
cdef class Cap:
    """How much longer than the fastest candidate a set model may plan.

    Parameters
    ----------
    idle_arrivals : float
        A host is idle while nothing is in flight and no more tasks than this are expected to arrive until the
        task is through on the fastest candidate; and before its first task.
    idle_factor : float
        At least 1: on an idle host, so many times the least planned time; infinite: no cap.
    factor : float
        The same elsewhere.
    """

    def __cinit__(self, *, idle_arrivals=0.1, idle_factor=1.25, factor=INFINITY):
        self.limits.idle_arrivals = real_between("idle_arrivals", idle_arrivals, 0.0, 1e9, "0 to 1e9")
        self.limits.idle_factor = _factor("idle_factor", idle_factor)
        self.limits.factor = _factor("factor", factor)

    @property
    def idle_arrivals(self):
        """Tasks expected while one is under way, at most, on a host that is idle."""
        return self.limits.idle_arrivals

    @property
    def idle_factor(self):
        """Planned time over the least, at most, on an idle host."""
        return self.limits.idle_factor

    @property
    def factor(self):
        """Planned time over the least, at most, elsewhere."""
        return self.limits.factor


cdef double _factor(str name, object given) except -1.0:
    return INFINITY if given == INFINITY else real_between(name, given, 1.0, 1e9, "1 to 1e9, or infinity")


@cython.final
cdef class Support:
    """The inputs that a set model was trained on; outside of them, and a margin, the rule decides.

    Parameters
    ----------
    streams, context, candidates : array_like
        float32[12, 2], [22, 2] and [10, 2]: least and greatest value of every input in training. The margin
        is a tenth of the range on either side, and 0.02 at least.

    Attributes
    ----------
    accepted : dict of str to ndarray
        The inputs that are decided by, margin included: arrays like the parameters, by their names.

    Raises
    ------
    ValueError
        A shape is another one, or a range is not finite or descends.
    """

    def __cinit__(self, streams, context, candidates):
        _widen("streams", streams, STREAM_FEATURES, self.ranges.stream_low, self.ranges.stream_high)
        _widen("context", context, CONTEXT_FEATURES, self.ranges.context_low, self.ranges.context_high)
        _widen("candidates", candidates, CANDIDATE_FEATURES, self.ranges.candidate_low,
               self.ranges.candidate_high)
        self.accepted = {
            "streams": _limits(self.ranges.stream_low, self.ranges.stream_high, STREAM_FEATURES),
            "context": _limits(self.ranges.context_low, self.ranges.context_high, CONTEXT_FEATURES),
            "candidates": _limits(self.ranges.candidate_low, self.ranges.candidate_high, CANDIDATE_FEATURES),
        }


cdef object _limits(float* low, float* high, int n):
    made = np.stack([<float[:n]>low, <float[:n]>high], axis=1)
    made.flags.writeable = False
    return made


cdef int _widen(str name, object given, int n, float* low, float* high) except -1:
    cdef const double[:, ::1] ranges = as_array(name, given, "f", np.float64, (n, 2))
    cdef double margin
    cdef int i
    for i in range(n):
        if not (isfinite(ranges[i, 0]) and isfinite(ranges[i, 1]) and ranges[i, 0] <= ranges[i, 1]):
            raise ValueError(f"{name}[{i}] = {ranges[i, 0]}, {ranges[i, 1]}: expected finite, least first")
        margin = _MARGIN * (ranges[i, 1] - ranges[i, 0])
        margin = margin if margin > _LEAST_MARGIN else _LEAST_MARGIN
        low[i] = <float>(ranges[i, 0] - margin)
        high[i] = <float>(ranges[i, 1] + margin)
    return 0


@cython.final
cdef class WorkloadSupport:
    """The workloads that a model of schema 1 was trained on; in others the rule decides.

    Parameters
    ----------
    log2_bytes, load : (float, float)
        Lowest and highest: of the mean log2 of about the last 64 sizes, and of the offered load as a share of
        what the streams carry.
    tasks : int
        So many must have been seen before the model decides.
    """

    def __cinit__(self, *, log2_bytes, load, tasks):
        cdef int k
        for name, given in (("log2_bytes", log2_bytes), ("load", load)):
            if len(given) != 2 or not given[0] <= given[1]:
                raise ValueError(f"{name} = {given!r}: expected the lowest and the highest")
        for k in range(2):
            self.known.log2_bytes[k] = real_between("log2_bytes", log2_bytes[k], 0.0, 63.0, "0 to 63")
            self.known.load[k] = real_between("load", load[k], 0.0, 1e9, "0 to 1e9")
        self.known.tasks = real_between("tasks", tasks, 0.0, 1e6, "0 to 1e6")
