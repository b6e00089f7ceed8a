# One simulated environment, from decision to decision.
from libc.stdint cimport uint64_t

from itp._core.choose cimport Choice
from itp._core.features cimport Situation
from itp._core.sim.env cimport Env, Setting
from itp._core.sim.world cimport LinkSpec, PathSpec, WorkloadSpec

cdef enum:
    PULL = 3                # beyond alloc's rules: idle streams take over what others have left


cdef size_t env_bytes(const Setting* setting) noexcept nogil
# Make the block at `env` an environment with room for some tasks in flight; False: no memory.
cdef bint env_init(Env* env, const Setting* setting) noexcept nogil
cdef void env_free(Env* env) noexcept nogil
# Begin the episode of a world and run to its first decision.
cdef void env_begin(Env* env, const LinkSpec* links, const PathSpec* paths, const WorkloadSpec* workload,
                    uint64_t seed) noexcept nogil
# Decide for the waiting task and run to the next decision, or to the end; in an environment that is
# over nothing happens.
cdef void env_step(Env* env, const Choice* choice) noexcept nogil
# Make `to` equal to `env`, of the same setting; False: no memory.
cdef bint env_copy(Env* to, const Env* env) noexcept nogil
# As bytes, and from them into an environment of the same setting that has not begun: how many were read;
# 0: they do not hold one, -1: no memory.
cdef size_t env_saved_bytes(const Env* env) noexcept nogil
cdef void env_save(const Env* env, char* to) noexcept nogil
cdef Py_ssize_t env_load(Env* env, const LinkSpec* links, const PathSpec* paths, const WorkloadSpec* workload,
                         const char* saved, size_t size) noexcept nogil
# What the waiting task sees beside paths and demand; it points into `env`.
cdef void env_situation(const Env* env, Situation* out) noexcept nogil
# Links that nobody uses are not followed; bring all to the present.
cdef void env_sync_links(Env* env) noexcept nogil
