"""What classical rules would do for the task that waits in a simulated environment."""
from libc.stdint cimport int64_t, uint32_t, uint64_t

from itp._core.alloc cimport PROPORTIONAL, WATER_FILLING, Rule, completion_time_s
from itp._core.counter cimport draw_bits, draw_key
from itp._core.heuristic cimport (
    EQUAL_SPLIT,
    LEAST_COMPLETION_TIME,
    Candidates,
    Demand,
    Policy,
    choose_by_rule,
    enumerate_candidates,
    least_at_once,
    least_completion,
    split_chunks,
)
from itp._core.sim.env cimport Env
from itp._core.sim.sim cimport PULL
from itp._core.state cimport Paths, popcount

from itp._core.heuristic import POLICIES as _POLICIES

RULES = (*_POLICIES, "least_completion_time_proportional", "min_rtt", "random", "pull")

# Of the random policy's draws, apart from those of the world.
cdef enum:
    CHOICE = 1000


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


cdef uint32_t _random_set(uint32_t up, uint64_t bits) noexcept nogil:
    """A non-empty subset of `up`, each as likely as the others."""
    cdef uint32_t mask = 0, left = up
    cdef uint64_t pick = bits % ((<uint64_t>1 << popcount(up)) - 1) + 1
    while left:
        if pick & 1:
            mask |= left & (~left + 1)
        pick >>= 1
        left &= left - 1
    return mask


cdef uint32_t choose_for(Env* env, int rule, int* split) noexcept nogil:
    cdef const Paths* paths = &env.paths
    cdef const Demand* demand = &env.demand
    cdef Candidates candidates
    cdef Rule chosen = WATER_FILLING
    cdef uint32_t mask = 0
    cdef int i, best
    split[0] = WATER_FILLING
    if rule == LEAST_COMPLETION_TIME:
        if least_at_once(paths, demand, &mask):
            return mask
        enumerate_candidates(paths, demand, &candidates)
        return candidates.mask[least_completion(&candidates)]
    if rule <= EQUAL_SPLIT:
        mask = choose_by_rule(<Policy>rule, paths, demand, &env.turn, &chosen)
        split[0] = chosen
        return mask
    if rule == LEAST_COMPLETION_TIME_PROPORTIONAL:
        split[0] = PROPORTIONAL
        mask = _least_proportional(paths, demand)
        return mask if mask else paths.up
    if rule == MIN_RTT:
        best = -1
        for i in range(paths.n):
            if (paths.up >> i) & 1 and (best < 0 or env.metrics[i].latency_s < env.metrics[best].latency_s):
                best = i
        return <uint32_t>1 << best
    if rule == RANDOM:
        return _random_set(paths.up, draw_bits(draw_key(env.seed, CHOICE), <uint64_t>env.decided))
    split[0] = PULL
    return paths.up
