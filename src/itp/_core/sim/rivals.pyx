"""What rules would do for the task that waits in a simulated environment."""
from libc.stdint cimport int64_t, uint32_t

from itp._core.alloc cimport PROPORTIONAL, WATER_FILLING, completion_time_s
from itp._core.choose cimport Choice, Chooser, Deadlines, choose
from itp._core.decision cimport ITP_HEURISTIC
from itp._core.heuristic cimport EQUAL_SPLIT, Demand, Policy, split_chunks
from itp._core.sim.env cimport Env
from itp._core.sim.sim cimport PULL
from itp._core.state cimport Paths

from itp._core.heuristic import POLICIES as _POLICIES

RULES = (*_POLICIES, "least_completion_time_proportional", "min_rtt", "pull")


cdef uint32_t _least_proportional(const Paths* paths, const Demand* demand) noexcept nogil:
    """Of all subsets split in proportion to capacity, the one that finishes first."""
    cdef int64_t chunks[16]
    cdef uint32_t mask, kept, best = 0
    cdef double completion_s, best_s = 0.0
    for mask in range(1, <uint32_t>1 << paths.n):
        if mask & ~paths.up:
            continue
        kept = split_chunks(paths, demand, mask, PROPORTIONAL, chunks)
        if kept != mask:
            continue
        completion_s = completion_time_s(chunks, paths.rate_Bps, paths.delay_s, kept)
        if best == 0 or completion_s < best_s:
            best = mask
            best_s = completion_s
    return best


cdef uint32_t _least_latency(const Env* env) noexcept nogil:
    cdef int i, best = -1
    for i in range(env.paths.n):
        if (env.paths.up >> i) & 1 and (best < 0 or env.metrics[i].latency_s < env.metrics[best].latency_s):
            best = i
    return <uint32_t>1 << best


cdef void choose_for(Env* env, int rule, Deadlines deadlines, Choice* out) noexcept nogil:
    cdef Chooser chooser
    if rule <= EQUAL_SPLIT:
        chooser.model = NULL
        chooser.policy = <Policy>rule
        chooser.order = env.setting.order
        chooser.deadlines = deadlines
        chooser.epsilon = 0.0
        choose(&chooser, ITP_HEURISTIC, NULL, NULL, &env.paths, &env.demand, &env.turn, NULL, out)
        return
    out.split = WATER_FILLING
    out.source = ITP_HEURISTIC
    out.by_model = out.explored = False
    out.propensity = 1.0
    if rule == LEAST_COMPLETION_TIME_PROPORTIONAL:
        out.split = PROPORTIONAL
        out.mask = _least_proportional(&env.paths, &env.demand)
        if out.mask == 0:
            out.mask = env.paths.up
    elif rule == MIN_RTT:
        out.mask = _least_latency(env)
    else:
        out.split = PULL
        out.mask = env.paths.up
