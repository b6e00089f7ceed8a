"""A clairvoyant's choice: every action is tried in a copy of the world, with the future as it will be.

Beyond six streams the actions are the candidates of a set model.

One step of policy improvement over a classical rule (a rollout, in the sense of Bertsekas, Tsitsiklis
and Wu, "Rollout algorithms for combinatorial optimization", J. Heuristics 3, 1997), with perfect
knowledge of arrivals, links and faults. The aim is the least mean log slowdown.
"""
from libc.math cimport INFINITY, NAN
from libc.stdint cimport int64_t, uint32_t

from itp._core.alloc cimport WATER_FILLING
from itp._core.choose cimport SOFT, Choice, Chooser, choose
from itp._core.decision cimport ITP_HEURISTIC, ITP_NATIVE
from itp._core.features cimport Situation
from itp._core.heuristic cimport EXHAUSTIVE_STREAMS, Candidates, Policy, enumerate_sets, split_chunks
from itp._core.sim.env cimport Env
from itp._core.sim.rivals cimport choose_for
from itp._core.sim.sim cimport env_copy, env_situation, env_step


# Of one future: where a task crawls for months, links change millions of times.
cdef int64_t _MOST_EVENTS = 100_000


cdef bint _branch(const Env* env, Env* scratch, uint32_t mask, int horizon) noexcept nogil:
    """Make `scratch` a copy of the world in which the waiting task goes over `mask`; False: no memory."""
    cdef Choice choice
    if not env_copy(scratch, env):
        return False
    scratch.tracks_cost = True
    scratch.events_left = _MOST_EVENTS
    scratch.cost = scratch.cost_s = 0.0
    if scratch.decided + horizon < scratch.n_tasks:
        scratch.n_tasks = scratch.decided + horizon
    choice.mask = mask
    choice.split = WATER_FILLING
    choice.source = ITP_HEURISTIC
    choice.explored = False
    choice.propensity = 1.0
    env_step(scratch, &choice)
    return not scratch.out_of_memory


cdef double _future(const Env* env, Env* scratch, uint32_t mask, int horizon, Policy rule) noexcept nogil:
    """Sum of the log slowdowns of all tasks in flight or among the next `horizon`; infinite: broken off."""
    cdef Choice choice
    if not _branch(env, scratch, mask, horizon):
        return -INFINITY
    while not scratch.over and not scratch.out_of_memory:
        choose_for(scratch, rule, SOFT, &choice)
        env_step(scratch, &choice)
    if scratch.out_of_memory:
        return -INFINITY
    return INFINITY if scratch.broken_off else scratch.cost


cdef int _masks(const Env* env, uint32_t* masks) noexcept nogil:
    """The actions to try, up to 63: all subsets, or with many streams the candidates of a set model."""
    cdef int64_t chunks[16]
    cdef Candidates c
    cdef uint32_t mask
    cdef int k, count = 0
    if env.setting.n > EXHAUSTIVE_STREAMS:
        enumerate_sets(&env.paths, &env.demand, &c)
        for k in range(c.count):
            masks[k] = c.mask[k]
        return c.count
    for mask in range(1, <uint32_t>1 << env.setting.n):
        if mask & ~env.paths.up:
            continue
        # Without stealing, an action that leaves a stream out is the action without it.
        if not env.setting.stealing and split_chunks(&env.paths, &env.demand, mask, WATER_FILLING,
                                                     chunks) != mask:
            continue
        masks[count] = mask
        count += 1
    return count


cdef uint32_t look_ahead(const Env* env, Env* scratch, int horizon, Policy rule) noexcept nogil:
    cdef uint32_t masks[63]
    cdef uint32_t best = 0
    cdef double cost, least = INFINITY
    cdef int k
    for k in range(_masks(env, masks)):
        cost = _future(env, scratch, masks[k], horizon, rule)
        if cost == -INFINITY:
            return 0
        if cost < least or best == 0:
            least = cost
            best = masks[k]
    return best


cdef bint look_ahead_each(const Env* env, Env* scratch, int horizon, const Chooser* chooser,
                          const uint32_t* masks, int count, double* cost, double* cost_s) noexcept nogil:
    cdef Situation situation
    cdef Choice choice
    cdef bint broken_off = False
    cdef int k
    for k in range(count):
        if not _branch(env, scratch, masks[k], horizon):
            return False
        while not scratch.over:
            env_situation(scratch, &situation)
            choose(chooser, ITP_NATIVE, NULL, &situation, &scratch.paths, &scratch.demand, &scratch.turn,
                   NULL, &choice)
            env_step(scratch, &choice)
            if scratch.out_of_memory:
                return False
        cost[k] = scratch.cost
        cost_s[k] = scratch.cost_s
        broken_off = broken_off or scratch.broken_off
    if broken_off:
        # Sums over futures of different lengths cannot be compared.
        for k in range(count):
            cost[k] = cost_s[k] = NAN
    return True
