"""What rules would do for the task that waits in a simulated environment."""
from itp._core.alloc cimport WATER_FILLING
from itp._core.choose cimport Choice, Chooser, Deadlines, choose
from itp._core.decision cimport ITP_HEURISTIC
from itp._core.features cimport Situation
from itp._core.heuristic cimport PULL_ALL, Policy
from itp._core.sim.env cimport Env
from itp._core.sim.sim cimport PULL, env_situation


cdef void choose_for(Env* env, Policy policy, Deadlines deadlines, Choice* out) noexcept nogil:
    cdef Chooser chooser
    cdef Situation situation
    env_situation(env, &situation)
    chooser.model = NULL
    chooser.policy = policy
    chooser.order = env.setting.order
    chooser.deadlines = deadlines
    chooser.epsilon = 0.0
    choose(&chooser, ITP_HEURISTIC, NULL, &situation, &env.paths, &env.demand, &env.turn, NULL, out)
    # There it is the transport that steals; here the split says so.
    if policy == PULL_ALL and out.split == WATER_FILLING and out.mask == env.paths.up:
        out.split = PULL
