"""The fast path: from a task and the state of the streams to a Decision.

A decision keeps the GIL from start to end, so that no other thread can make it wait, and
allocates nothing but the Decision and its two tuples.
"""
cimport cython
from cpython.long cimport PyLong_FromLongLong
from cpython.ref cimport Py_INCREF
from cpython.tuple cimport PyTuple_New, PyTuple_SET_ITEM
from libc.math cimport INFINITY, NAN, isfinite
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

import os

import numpy as np

from itp._core.alloc cimport WATER_FILLING, Rule
from itp._core.arguments cimport byte_count, integer, real_between
from itp._core.calibration cimport BINS, Calibration, calibrated, learn
from itp._core.heuristic cimport (
    EXHAUSTIVE_STREAMS,
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
from itp._core.reward cimport Outcome, RewardWeights, Terms, reference_time, reward_terms, weighted
from itp._core.rng cimport rng_below, rng_double, rng_seed
from itp._core.decision cimport Decision, Plan, action_of_mask, members, new_decision
from itp._core.state cimport NetworkState, Paths, day_fraction, monotonic_s, popcount, unix_s
from itp._core.task cimport Task

from itp._core.heuristic import POLICIES as _POLICIES

GUARD_RULES = ("single_best", "least_completion_time")


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


cdef void _correct(Plan* plan, Calibration calibration) noexcept nogil:
    """Expected time, its interval and raw confidence as a model's tables have them."""
    cdef double first_s = INFINITY, planned_s = plan.expected_time_s
    cdef int i, row
    if not isfinite(planned_s) or planned_s <= 0.0:
        return
    for i in range(plan.paths.n):
        if (plan.mask >> i) & 1 and plan.paths.work_ahead_s[i] < first_s:
            first_s = plan.paths.work_ahead_s[i]
    row = calibration.row(planned_s, first_s / planned_s)
    plan.expected_time_s = planned_s * calibration.middle[row]
    plan.fastest_s = planned_s * calibration.low[row]
    plan.slowest_s = planned_s * calibration.high[row]
    plan.raw_confidence = calibration.confidence[row]


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

    cdef int rules(self, const Candidates* c, int chosen) noexcept nogil:
        """The candidate to take: `chosen`, or the rule's if that one is so much faster."""
        cdef bint any_meets = any_candidate_meets(c)
        cdef int k, best = -1
        if self.policy == LEAST_COMPLETION_TIME:
            best = least_completion(c)
        else:
            for k in range(c.count):
                if popcount(c.mask[k]) == 1 and (c.meets[k] or not any_meets):
                    if best < 0 or c.completion_s[k] < c.completion_s[best]:
                        best = k
        if best < 0:
            # No single stream can carry it: copies, or too much bandwidth asked for.
            best = least_completion(c)
        return best if c.completion_s[chosen] > self.threshold * c.completion_s[best] else chosen


@cython.final
cdef class Decider:
    """Decides for one set of streams, keeps its ledger, joins outcomes.

    Parameters
    ----------
    network : NetworkState
    policy : str
        One of ``heuristic.POLICIES``: decides when no model does.
    epsilon : float
        Share of decisions drawn uniformly from the actions open to the task.
    seed : int or None
        Of the exploration; None takes one from the system.
    min_chunk_bytes : int
    weights : RewardWeights

    Notes
    -----
    Thread safety: every method holds the GIL from start to end.
    """

    def __cinit__(self, NetworkState network not None, *, policy="least_completion_time", epsilon=0.0,
                  seed=None, min_chunk_bytes=65536, RewardWeights weights=None):
        if policy not in _POLICIES:
            raise ValueError(f"heuristic = {policy!r}: expected one of {', '.join(_POLICIES)}")
        self.epsilon = real_between("epsilon", epsilon, 0.0, 1.0, "0 to 1")
        self.min_chunk_bytes = byte_count("min_chunk_bytes", min_chunk_bytes, 1)
        if seed is None:
            seed = int.from_bytes(os.urandom(8), "little")
        seed = integer("seed", seed)
        if not 0 <= seed < 1 << 64:
            raise ValueError(f"seed = {seed!r}: expected 0 to 2**64 - 1")
        if network.has_decider:
            raise ValueError("network has a Decider already: one alone joins outcomes to its flights")
        network.has_decider = True
        self.network = network
        self.weights = RewardWeights() if weights is None else weights
        self.policy = _POLICIES.index(policy)
        self.turn = 0
        rng_seed(&self.rng, seed)
        memset(&self.counters, 0, sizeof(self.counters))
        memset(&self.reliability, 0, sizeof(self.reliability))
        n_cached = min(network.n_streams, EXHAUSTIVE_STREAMS)
        self.ids_of_mask = [members(mask) for mask in range(1 << n_cached)]

    def __reduce__(self):
        raise TypeError("a Decider cannot be pickled or copied: it holds the ledger of one process")

    # --- deciding ---

    cdef Decision _observe(self, Task task):
        """A Decision with the state it is to be made in."""
        cdef NetworkState network = self.network
        cdef double latency[16]
        cdef Decision d
        cdef Demand* demand
        cdef double now_unix_s = unix_s()
        cdef int i
        if network.up == 0:
            raise LookupError(f"no stream can carry task {task.id!r}: all {network.n_streams} are down; "
                              "set_stream_up(stream, True) brings one back")
        if task.redundancy > popcount(network.up):
            raise LookupError(f"task {task.id!r} asks for {task.redundancy} copies on disjoint streams, "
                              f"but {popcount(network.up)} of {network.n_streams} streams are up")
        d = new_decision()
        d.task = task
        d.network = network
        d.decided_at_s = now_unix_s
        demand = &d.plan.demand
        demand.size_bytes = task.size_bytes
        demand.priority = task.priority
        demand.deadline_s = task.deadline
        demand.min_bandwidth_Bps = task.min_bandwidth_mbps * 125000.0
        demand.redundancy = task.redundancy
        demand.min_chunk_bytes = self.min_chunk_bytes
        d.observed_s = monotonic_s()
        network.observe(task.size_bytes, task.priority, d.observed_s, &d.plan.paths)
        network.assemble(&d.plan.paths, task.size_bytes, task.priority,
                         day_fraction(now_unix_s), d.state_now)
        for i in range(network.n_streams):
            latency[i] = network.streams[i].latency_s
        d.reference_time_s = reference_time(task.size_bytes, d.plan.paths.rate_Bps, latency,
                                            network.n_streams)
        if self.last is not None:
            memcpy(self.last.state_next, d.state_now, sizeof(d.state_now))
            self.last.has_next = True
        self.last = d
        return d

    cdef void _explore_or(self, Plan* plan, const Candidates* c, uint32_t greedy) noexcept nogil:
        """Epsilon-greedy over the candidates open to the task, with the propensity."""
        cdef bint only_meeting = any_candidate_meets(c)
        cdef int k, open_count = 0, draw
        cdef bint greedy_open = False
        plan.action_mask = greedy
        plan.explored = False
        plan.propensity = 1.0
        if self.epsilon <= 0.0:
            return
        for k in range(c.count):
            if c.meets[k] or not only_meeting:
                open_count += 1
        if rng_double(&self.rng) < self.epsilon:
            plan.explored = True
            draw = <int>rng_below(&self.rng, open_count)
            for k in range(c.count):
                if c.meets[k] or not only_meeting:
                    if draw == 0:
                        plan.action_mask = c.mask[k]
                        break
                    draw -= 1
        for k in range(c.count):
            if c.mask[k] == plan.action_mask and (c.meets[k] or not only_meeting):
                greedy_open = True
        plan.propensity = self.epsilon / open_count if greedy_open else 0.0
        if plan.action_mask == greedy:
            plan.propensity += 1.0 - self.epsilon

    cdef int _settle(self, Decision d, Rule split, Calibration calibration) except -1:
        """Chunks, estimates and the ledger for the chosen action."""
        cdef NetworkState network = self.network
        cdef Plan* plan = &d.plan
        cdef double success_rate[16]
        cdef int i
        for i in range(network.n_streams):
            success_rate[i] = network.streams[i].success_rate
        split_task(plan, split, success_rate)
        plan.feasible = meets_demand(&plan.paths, &plan.demand, plan.mask, plan.expected_time_s)
        plan.fastest_s = plan.slowest_s = NAN
        if calibration is not None:
            _correct(plan, calibration)
        plan.confidence = calibrated(&self.reliability, plan.raw_confidence)
        if network.n_streams <= EXHAUSTIVE_STREAMS:
            d.stream_ids = <tuple>self.ids_of_mask[plan.mask]
        else:
            d.stream_ids = members(plan.mask)
        d.chunk_sizes = _chunk_tuple(plan.chunks, network.n_streams, plan.mask)
        network.reserve(plan.mask)
        d.number = network.last_number + 1
        network.admit_flight(d.number, plan.demand.size_bytes, plan.demand.priority, d.observed_s, plan.mask,
                             plan.chunks, plan.demand.redundancy > 1)
        d.in_ledger = True
        self.counters.decisions += 1
        self.counters.bytes_decided += <uint64_t>plan.demand.size_bytes
        self.counters.explored += plan.explored
        self.counters.infeasible += not plan.feasible
        return 0

    def decide(self, Task task not None):
        """Decide by the heuristic: one call from state to Decision.

        Raises
        ------
        LookupError
            Too few streams are up.
        """
        cdef Decision d = self._observe(task)
        self._by_rule(d)
        return d

    cdef int _by_rule(self, Decision d) except -1:
        cdef Plan* plan = &d.plan
        cdef Candidates c
        cdef Rule split = WATER_FILLING
        cdef uint32_t greedy
        cdef double success_rate[16]
        c.count = 0
        if self.policy == LEAST_COMPLETION_TIME:
            if self.epsilon > 0.0 or not least_at_once(&plan.paths, &plan.demand, &greedy):
                enumerate_candidates(&plan.paths, &plan.demand, &c)
                greedy = c.mask[least_completion(&c)]
        else:
            enumerate_candidates(&plan.paths, &plan.demand, &c)
            # A rule that breaks a demand which some action meets gives way.
            plan.action_mask = choose_by_rule(self.policy, &plan.paths, &plan.demand, &self.turn, &split)
            for i in range(plan.paths.n):
                success_rate[i] = 1.0
            split_task(plan, split, success_rate)
            if (meets_demand(&plan.paths, &plan.demand, plan.mask, plan.expected_time_s)
                    or not any_candidate_meets(&c)):
                greedy = plan.action_mask
            else:
                greedy = c.mask[least_completion(&c)]
                split = WATER_FILLING
        self._explore_or(plan, &c, greedy)
        if plan.explored:
            split = WATER_FILLING
        d.source = "heuristic"
        d.has_q = False
        return self._settle(d, split, None)

    def observe(self, Task task not None):
        """A Decision that holds its state and waits for ``settle``."""
        return self._observe(task)

    def settle(self, Decision decision not None, const float[:, ::1] q_values, str model_version not None,
               str source not None, Calibration calibration=None, Guard guard=None):
        """Complete an observed decision with a model's Q-values (float32[1, 15]).

        With `calibration`, time and confidence are the model's; with `guard`, its rule may overrule the
        model. Q-values that are not finite are not used: the heuristic decides. `source` says so.
        """
        cdef Plan* plan = &decision.plan
        cdef Candidates c
        cdef int k, action, kept, best = -1
        cdef bint only_meeting
        self._check_unsettled(decision)
        if plan.paths.n != 4:
            raise ValueError(f"a model's {N_ACTIONS} actions are those of 4 streams, not of {plan.paths.n}")
        if q_values.shape[0] != 1 or q_values.shape[1] != N_ACTIONS:
            raise ValueError(f"q_values must be float32[1, {N_ACTIONS}]; "
                             f"got [{q_values.shape[0]}, {q_values.shape[1]}]")
        for k in range(N_ACTIONS):
            if not isfinite(q_values[0, k]):
                self._by_rule(decision)
                return decision
        enumerate_candidates(&plan.paths, &plan.demand, &c)
        only_meeting = any_candidate_meets(&c)
        for k in range(c.count):
            if c.meets[k] or not only_meeting:
                action = action_of_mask(c.mask[k], plan.paths.n)
                if best < 0 or q_values[0, action] > q_values[0, action_of_mask(c.mask[best], plan.paths.n)]:
                    best = k
        memcpy(decision.q_values, &q_values[0, 0], sizeof(decision.q_values))
        decision.has_q = True
        decision.source = source
        decision.model_version = model_version
        kept = best
        if guard is not None:
            kept = guard.rules(&c, best)
        self._explore_or(plan, &c, c.mask[kept])
        if kept != best and not plan.explored:
            decision.source = "guard"
            self.counters.guarded += 1
        self._settle(decision, WATER_FILLING, calibration)
        self.counters.by_model += 1
        return decision

    def settle_by_rule(self, Decision decision not None):
        """Complete an observed decision by the heuristic."""
        self._check_unsettled(decision)
        self._by_rule(decision)
        return decision

    cdef int _check_unsettled(self, Decision decision) except -1:
        if decision.network is not self.network:
            raise ValueError("the decision was observed by another Decider")
        if decision.in_ledger or decision.reported:
            raise ValueError("the decision is settled already")
        return 0

    def retract(self, Decision decision not None):
        """Take a decision back whose task will not be sent: as if it had not been made."""
        if decision.network is self.network and decision.in_ledger:
            decision.in_ledger = False
            decision.reported = True
            self.network.release_flight(decision.number, decision.plan.mask, False)
            self.counters.decisions -= 1
            self.counters.by_model -= decision.has_q
            self.counters.guarded -= decision.source == "guard"
            self.counters.explored -= decision.plan.explored
            self.counters.infeasible -= not decision.plan.feasible
            self.counters.bytes_decided -= <uint64_t>decision.plan.demand.size_bytes

    # --- outcomes ---

    def report(self, Decision decision not None, throughput_mbps, latency_s, success, retransmitted_bytes):
        """Join an outcome to its decision and return the reward.

        Raises
        ------
        LookupError
            The decision is another decider's, or its outcome was reported before.
        ValueError, TypeError
            A figure is not finite or negative. Nothing is changed.
        """
        cdef Outcome outcome
        cdef Terms terms
        cdef RewardWeights w = self.weights
        cdef int i
        cdef double now_s
        # Conversions may run code of the caller's, which may report too: convert first, then check.
        outcome.throughput_mbps = real_between("throughput_mbps", throughput_mbps, 0.0, 1e300, "0 to 1e300")
        outcome.latency_s = real_between("latency_s", latency_s, 0.0, 1e300, "0 to 1e300")
        outcome.retransmitted_bytes = byte_count("retransmitted_bytes", retransmitted_bytes, 0)
        if not isinstance(success, (bool, np.bool_)):
            raise TypeError(f"success = {success!r}: expected True or False")
        outcome.success = bool(success)
        if decision.network is not self.network:
            raise LookupError("the decision was not made by this partitioner")
        if decision.reported:
            raise LookupError(f"task {decision.task.id!r}: the outcome was reported before")
        if not decision.in_ledger:
            raise LookupError(f"task {decision.task.id!r}: the decision is not settled yet")
        outcome.imbalance = decision.plan.imbalance
        reward_terms(&outcome, decision.plan.demand.size_bytes, decision.reference_time_s, &terms)
        decision.reward = weighted(&terms, w.throughput, w.latency, w.imbalance, w.completion,
                                   w.retransmission)
        decision.completed_at_s = unix_s()
        decision.reported = True
        decision.in_ledger = False
        now_s = monotonic_s()
        for i in range(self.network.n_streams):
            self.network._drain(i, now_s)
        self.network.release_flight(decision.number, decision.plan.mask, False)
        learn(&self.reliability, decision.plan.raw_confidence, decision.plan.expected_time_s,
              outcome.latency_s, outcome.success)
        self.counters.outcomes += 1
        self.counters.successes += outcome.success
        self.counters.retransmitted_bytes += <uint64_t>outcome.retransmitted_bytes
        self.counters.reward_sum += decision.reward
        return decision.reward

    # --- figures ---

    def counts(self):
        """The counters, by name."""
        return dict(self.counters)

    def reliability_curve(self):
        """List of (bin's lower edge, outcomes, observed hits), ten bins of the raw score."""
        return [(<double>k / BINS, int(self.reliability.count[k]), int(self.reliability.hits[k]))
                for k in range(BINS)]

    def expected_time_error(self):
        """Mean |log(actual / expected time)| over successes; NaN without any."""
        if self.reliability.error_count == 0.0:
            return float("nan")
        return self.reliability.error_sum / self.reliability.error_count


cdef tuple _chunk_tuple(const int64_t* chunks, int n, uint32_t mask):
    cdef tuple result = PyTuple_New(popcount(mask))
    cdef int i, k = 0
    for i in range(n):
        if (mask >> i) & 1:
            chunk = PyLong_FromLongLong(chunks[i])
            Py_INCREF(chunk)  # SET_ITEM takes the reference over
            PyTuple_SET_ITEM(result, k, chunk)
            k += 1
    return result
