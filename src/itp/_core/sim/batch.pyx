"""Many simulated environments of one scenario, stepped side by side without the GIL."""
cimport cython
from libc.math cimport INFINITY
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset

import sys
from zlib import crc32

import numpy as np

from itp._core.alloc cimport WATER_FILLING, completion_time_s
from itp._core.decision cimport ITP_NATIVE, action_of_mask
from itp._core.features cimport CANDIDATE_FEATURES, STREAM_FEATURES, Features, Situation, assemble_features
from itp._core.order cimport ServiceOrder, service_order_number
from itp._core.decider cimport Served
from itp._core.setnet cimport SetNet
from itp._core.sim.lookahead cimport look_ahead, look_ahead_each
from itp._core.memory cimport prefetch
from itp._core.record cimport RecordHead, record_bytes, write_record, write_task_name
from itp._core.reward cimport RewardWeights
from itp._core.counter cimport draw_key, draw_uniform
from itp._core.choose cimport (
    HARD,
    SOFT,
    Choice,
    Chooser,
    Deadlines,
    Draw,
    Guard,
    WorkloadSupport,
    Learned,
    choose,
    deadlines_of,
    default_limits,
)
from itp._core.choose cimport explore as explore_around
from itp._core.sim.rivals cimport choose_for
from itp._core.sim.env cimport Chunk, Env, Interval, Setting, Slot, Stream, slot_of
from itp._core.heuristic cimport (
    LEAST_COMPLETION_TIME,
    Candidates,
    Policy,
    default_policy,
    enumerate_sets,
    policy_number,
    split_chunks,
)
from itp._core.sim.link cimport Link
from itp._core.sim.service cimport reference_s
from itp._core.sim.sim cimport (
    env_begin,
    env_bytes,
    env_copy,
    env_free,
    env_init,
    env_load,
    env_save,
    env_saved_bytes,
    env_situation,
    env_step,
    env_sync_links,
)
from itp._core.state cimport StreamMetrics
from itp._core.sim.world cimport ExplicitTask, LinkSpec, Outage, PathSpec, Row, WorkloadSpec

from itp._core.heuristic import AUTO as _AUTO
from itp._core.order import SERVICE_ORDERS as _SERVICE_ORDERS
from itp._core.sim.world import LINK as _LINK
from itp._core.sim.world import PATH as _PATH
from itp._core.sim.world import WORKLOAD as _WORKLOAD

OUTCOME = np.dtype([
    ("env", "<i4"), ("task", "<i4"), ("size_bytes", "<i8"), ("priority", "<f8"), ("mask", "<u4"),
    ("streams", "<i4"), ("arrived_at_s", "<f8"), ("completed_at_s", "<f8"), ("deadline_s", "<f8"),
    ("reference_time_s", "<f8"), ("expected_time_s", "<f8"), ("retransmitted_bytes", "<i8"),
    ("imbalance", "<f8"), ("reward", "<f8"), ("propensity", "<f4"),
    ("success", "?"), ("explored", "?"), ("source", "u1"), ("pad", "V1"),
])
TIMELINE = np.dtype([
    ("stream", "<i4"), ("task", "<i4"), ("start_s", "<f8"), ("end_s", "<f8"), ("bytes", "<f8"),
])
SPLITS = ("water_filling", "proportional", "equal", "pull")

cdef enum:
    _EXPLORATION = 1000     # of the draws that explore, apart from those of the world
    _AHEAD = 8              # environments whose memory is asked for before it is read

_NOTHING = np.zeros(0, dtype=np.int8)

# What saved environments look like: those of another build, or another kind of machine, are refused.
_LAYOUT = (sys.byteorder, sizeof(Env), sizeof(Stream), sizeof(StreamMetrics), sizeof(Link), sizeof(Slot),
           sizeof(Chunk))

if OUTCOME.itemsize != sizeof(Completed) or TIMELINE.itemsize != sizeof(Interval):
    raise ImportError("the NumPy types and the C structs of the simulator disagree")


def _checksum(worlds, options, states, saved, intervals):
    """Of all that a pickled batch holds: its tables are trusted by compiled code."""
    total = crc32(repr(sorted(options.items())).encode())
    for array in (*worlds, states, saved, intervals):
        total = crc32(np.ascontiguousarray(array).tobytes(), total)
    return total


def _load(worlds, options, states, saved, intervals, stamp):
    """A batch as it was when it was pickled."""
    cdef Batch batch
    layout, checksum = stamp
    if layout != _LAYOUT:
        raise ValueError("the simulator was pickled by another build of itp, or on another kind of machine")
    # Of a copy within this process there is none.
    if checksum is not None and checksum != _checksum(worlds, options, states, saved, intervals):
        raise ValueError("the pickled simulator is damaged")
    batch = Batch(*worlds, **options)
    batch.states[:] = states
    batch._load(saved, intervals)
    return batch


@cython.final
cdef class Batch:
    """Environments that share a setting, each with a world of its own.

    Parameters
    ----------
    links, paths, workloads, seeds : ndarray
        LINK[n_envs, n_links], PATH[n_envs, n], WORKLOAD[n_envs], uint64[n_envs]: the worlds; checked
        by whoever samples them.
    rows, outages, tasks, sizes : ndarray
        float64[., 5], [., 2], [., 4] and [.], shared by all worlds.
    n_tasks : int
        Decisions of an episode.
    n_clients : int
        The most that any world has, those of `replace` included.
    service_order : {"fifo", "srpt"}
    stealing : bool
        Idle streams take over bytes of tasks that may use them.
    min_chunk_bytes : int
    weights : RewardWeights
    keep_states : bool
        Remember the states of the tasks in flight, for `experiences`.
    record_timeline : bool
        Keep what the streams of environment 0 serve, and when.

    Notes
    -----
    Thread safety: `step`, `choose` and `look_ahead` may run at the same time on disjoint ranges of
    environments; nothing else may run beside them.
    """

    def __cinit__(self, links, paths, workloads, seeds, rows, outages, tasks, sizes, *, n_tasks,
                  n_clients, service_order, stealing, min_chunk_bytes, RewardWeights weights not None,
                  keep_states=False, record_timeline=False):
        cdef Py_ssize_t i
        cdef Setting* setting = &self.setting
        cdef const double[:, ::1] row_table = rows
        cdef const double[:, ::1] outage_table = outages
        cdef const double[:, ::1] task_table = tasks
        cdef const double[::1] size_table = sizes
        self.n_envs = len(seeds)
        if links.dtype != _LINK or paths.dtype != _PATH or workloads.dtype != _WORKLOAD:
            raise TypeError("links, paths and workloads must be of the types LINK, PATH and WORKLOAD")
        if not (links.shape[0] == paths.shape[0] == workloads.shape[0] == self.n_envs > 0):
            raise ValueError("links, paths, workloads and seeds must describe the same worlds, at least 1")
        if not (1 <= paths.shape[1] <= 16 and paths.shape[1] <= links.shape[1] <= 32):
            raise ValueError("expected 1 to 16 paths, and at least as many links")
        if row_table.shape[1] != 5 or outage_table.shape[1] != 2 or task_table.shape[1] != 4:
            raise ValueError("expected tables of 5, 2 and 4 columns")
        if not (0 <= workloads["clients"].min() and workloads["clients"].max() <= n_clients):
            raise ValueError(f"expected at most {n_clients} clients in a world")
        self.tables = (rows, outages, tasks, sizes)
        self.weights = weights
        self.links = np.array(links)
        self.paths = np.array(paths)
        self.workloads = np.array(workloads)
        self.seeds = np.array(seeds, dtype=np.uint64)
        self.seed_of = self.seeds
        memset(setting, 0, sizeof(Setting))
        setting.n = paths.shape[1]
        setting.n_links = links.shape[1]
        setting.n_clients = n_clients
        setting.state_dim = 4 * setting.n + 4
        setting.slot_bytes = (sizeof(Slot) + setting.n * sizeof(Chunk) + 31) & ~<size_t>31
        setting.keep_states = keep_states
        setting.n_tasks = n_tasks
        setting.order = service_order_number(service_order)
        setting.stealing = stealing
        setting.min_chunk_bytes = min_chunk_bytes
        for i, weight in enumerate(weights.as_dict().values()):
            setting.weights[i] = weight
        setting.rows = <const Row*>&row_table[0, 0] if row_table.shape[0] else NULL
        setting.outages = <const Outage*>&outage_table[0, 0] if outage_table.shape[0] else NULL
        setting.tasks = <const ExplicitTask*>&task_table[0, 0] if task_table.shape[0] else NULL
        setting.sizes = &size_table[0] if size_table.shape[0] else NULL
        self.states = np.zeros((self.n_envs, setting.state_dim), dtype=np.float32)
        self.state_of = self.states
        self.stride = env_bytes(setting)
        self.block = <char*>calloc(self.n_envs, self.stride)
        if self.block == NULL:
            raise MemoryError(f"no memory for {self.n_envs} environments")
        for i in range(self.n_envs):
            if not env_init(self.env(i), setting):
                raise MemoryError(f"no memory for {self.n_envs} environments")
            self.env(i).state = &self.state_of[i, 0]
        if record_timeline:
            self.env(0).timeline = &self.timeline

    def __dealloc__(self):
        cdef Py_ssize_t i
        if self.block != NULL:
            for i in range(self.n_envs):
                env_free(self.env(i))
            free(self.block)
        free(self.timeline.intervals)

    cdef Env* env(self, Py_ssize_t i) noexcept nogil:
        return <Env*>(self.block + i * self.stride)

    cdef int _check_memory(self, Py_ssize_t first, Py_ssize_t last) except -1:
        cdef Py_ssize_t i
        for i in range(first, last):
            if self.env(i).out_of_memory:
                raise MemoryError(f"no memory for the tasks in flight of environment {i}")
        return 0

    # --- running ---

    def begin(self, Py_ssize_t first, Py_ssize_t last):
        """Begin the episodes of environments first..last-1 and run to their first decisions."""
        cdef Py_ssize_t i
        with nogil:
            for i in range(first, last):
                if i == 0:
                    self.timeline.count = 0
                env_begin(self.env(i), &self.links[i, 0], &self.paths[i, 0], &self.workloads[i],
                          self.seed_of[i])

    def replace(self, const int64_t[::1] which, const LinkSpec[:, ::1] links, const PathSpec[:, ::1] paths,
                const WorkloadSpec[::1] workloads, const uint64_t[::1] seeds):
        """Give some environments other worlds and begin their episodes; tables stay as they are."""
        cdef Py_ssize_t i, k
        for k in range(which.shape[0]):
            if not 0 <= workloads[k].clients <= self.setting.n_clients:
                raise ValueError(f"expected at most {self.setting.n_clients} clients in a world")
            i = which[k]
            self.links[i] = links[k]
            self.paths[i] = paths[k]
            self.workloads[i] = workloads[k]
            self.seed_of[i] = seeds[k]
            self.begin(i, i + 1)

    def step(self, const uint32_t[::1] masks, const int32_t[::1] splits, const double[::1] propensities,
             const uint8_t[::1] explored, const uint8_t[::1] sources, double[::1] rewards,
             Py_ssize_t first, Py_ssize_t last):
        """Decide in environments first..last-1 and run them to their next decisions.

        An environment whose episode is over stays as it is, with reward 0.
        """
        cdef Choice choice
        cdef Py_ssize_t i
        with nogil:
            for i in range(first, last):
                choice.mask = masks[i]
                choice.split = splits[i]
                choice.propensity = propensities[i]
                choice.explored = explored[i]
                choice.source = sources[i]
                env_step(self.env(i), &choice)
                rewards[i] = self.env(i).step_reward
        self._check_memory(first, last)

    def choose(self, str rule, hard_deadlines, uint32_t[::1] masks, int32_t[::1] splits,
               Py_ssize_t first, Py_ssize_t last):
        """What a rule would do in each environment."""
        cdef Policy number = policy_number(rule, <ServiceOrder>self.setting.order)
        cdef Deadlines deadlines = deadlines_of(hard_deadlines)
        cdef Choice choice
        cdef Py_ssize_t i
        with nogil:
            for i in range(first, last):
                if not self.env(i).over:
                    choose_for(self.env(i), number, deadlines, &choice)
                    masks[i] = choice.mask
                    splits[i] = choice.split

    def decide(self, const float[:, ::1] q_values, Guard guard, WorkloadSupport support, bint hard_deadlines,
               uint8_t source,
               uint32_t[::1] masks, int32_t[::1] splits, uint8_t[::1] sources,
               Py_ssize_t first, Py_ssize_t last):
        """What production would decide in each environment by these Q-values, float32[n_envs, 15].

        Where they are not finite the rule decides that measures best.
        """
        cdef Learned model
        cdef Chooser chooser
        cdef Choice choice
        cdef Situation situation
        cdef Env* env
        cdef Py_ssize_t i
        memset(&model, 0, sizeof(model))
        model.has_guard = guard is not None
        if guard is not None:
            model.guard_policy = guard.policy
            model.guard_threshold = guard.threshold
        if support is not None:
            model.known = &support.known
        chooser.model = &model
        chooser.policy = policy_number(_AUTO, <ServiceOrder>self.setting.order)
        chooser.order = self.setting.order
        chooser.deadlines = HARD if hard_deadlines else SOFT
        chooser.epsilon = 0.0
        with nogil:
            for i in range(first, last):
                env = self.env(i)
                if not env.over:
                    env_situation(env, &situation)
                    choose(&chooser, source, &q_values[i, 0], &situation, &env.paths, &env.demand, &env.turn,
                           NULL, &choice)
                    masks[i] = choice.mask
                    splits[i] = choice.split
                    sources[i] = <uint8_t>choice.source

    # --- set models ---

    cdef int _set_chooser(self, object given, bint hard_deadlines, Learned* model,
                          Chooser* chooser) except -1:
        """How a set model, or a network alone, decides; without one, the better of two plain rules.

        Where a model does not decide, the rule does that measures best, as in production.
        """
        memset(model, 0, sizeof(Learned))
        memset(chooser, 0, sizeof(Chooser))
        if isinstance(given, Served):
            model[0] = (<Served>given).learned
            if model.set_forward == NULL:
                raise ValueError(f"{given.version} is no model of schema 2")
        elif isinstance(given, SetNet):
            model.set_forward = (<SetNet>given).forward
            model.set_net = &(<SetNet>given).net
            model.limits = default_limits()
        elif given is not None:
            raise TypeError(f"expected a SetNet or a Served; got {type(given).__name__}")
        if given is None:
            chooser.policy = default_policy(<ServiceOrder>self.setting.order)
        else:
            chooser.model = model
            chooser.policy = policy_number(_AUTO, <ServiceOrder>self.setting.order)
        chooser.order = self.setting.order
        chooser.deadlines = HARD if hard_deadlines else SOFT
        return 0

    def prefer(self, const double[::1] preferences):
        """What set models decide for, 0 (typical) to 1 (bulk), in each environment."""
        cdef Py_ssize_t i
        for i in range(self.n_envs):
            self.env(i).preference = preferences[i]

    def decide_sets(self, model, bint hard_deadlines, uint32_t[::1] masks, int32_t[::1] splits,
                    uint8_t[::1] sources, Py_ssize_t first, Py_ssize_t last):
        """What production would decide in each environment by a set model, or by a network alone."""
        cdef Learned learned
        cdef Chooser chooser
        cdef Choice choice
        cdef Situation situation
        cdef Env* env
        cdef Py_ssize_t i
        self._set_chooser(model, hard_deadlines, &learned, &chooser)
        with nogil:
            for i in range(first, last):
                env = self.env(i)
                if not env.over:
                    env_situation(env, &situation)
                    choose(&chooser, ITP_NATIVE, NULL, &situation, &env.paths, &env.demand, &env.turn, NULL,
                           &choice)
                    masks[i] = choice.mask
                    splits[i] = choice.split
                    sources[i] = <uint8_t>choice.source

    def features(self, float[:, :, ::1] streams, float[:, ::1] context, float[:, :, ::1] candidates,
                 uint32_t[:, ::1] members, uint32_t[:, ::1] masks, Py_ssize_t first, Py_ssize_t last):
        """The inputs of a set network in each environment; rows that there are not are 0.

        float32[n_envs, n, 12], [n_envs, 22], [n_envs, k, 10], uint32[n_envs, k] over the streams that are up,
        and uint32[n_envs, k] over all; k is ``heuristic.most_sets(n)``.
        """
        cdef Situation situation
        cdef Candidates c
        cdef Features found
        cdef Env* env
        cdef Py_ssize_t i
        cdef int k, width = members.shape[1]
        with nogil:
            for i in range(first, last):
                env = self.env(i)
                memset(&found, 0, sizeof(found))
                if not env.over:
                    env_situation(env, &situation)
                    enumerate_sets(&env.paths, &env.demand, &c)
                    assemble_features(&situation, &env.paths, &env.demand, &c, &found)
                memcpy(&streams[i, 0, 0], found.streams, self.setting.n * STREAM_FEATURES * sizeof(float))
                memcpy(&context[i, 0], found.context, sizeof(found.context))
                memcpy(&candidates[i, 0, 0], found.candidates, width * CANDIDATE_FEATURES * sizeof(float))
                for k in range(width):
                    members[i, k] = found.members[k] if k < found.n_candidates else 0
                    masks[i, k] = c.mask[k] if k < found.n_candidates else 0

    def look_ahead_sets(self, model, const int32_t[::1] horizons, const uint32_t[:, ::1] masks,
                        double[:, ::1] cost, double[:, ::1] cost_s, Py_ssize_t first, Py_ssize_t last):
        """What each of `masks` (up to the first 0) costs over the next int32[n_envs] `horizons` tasks.

        See ``itp._core.sim.lookahead.look_ahead_each``. float64[n_envs, k] each; what is not tried stays as
        it is. The model decides for what comes after; without one, the best rule of the service order.
        """
        cdef Learned learned
        cdef Chooser chooser
        cdef Py_ssize_t i
        cdef int count
        cdef bint done = True
        cdef Env* scratch
        self._set_chooser(model, False, &learned, &chooser)
        scratch = <Env*>calloc(1, self.stride)
        if scratch == NULL or not env_init(scratch, &self.setting):
            free(scratch)
            raise MemoryError("no memory to look ahead in")
        with nogil:
            for i in range(first, last):
                if self.env(i).over:
                    continue
                count = 0
                while count < masks.shape[1] and masks[i, count]:
                    count += 1
                done = done and look_ahead_each(self.env(i), scratch, horizons[i], &chooser, &masks[i, 0],
                                                count, &cost[i, 0], &cost_s[i, 0])
            env_free(scratch)
            free(scratch)
        if not done:
            raise MemoryError("no memory to look ahead in")

    def explore(self, double epsilon, bint hard_deadlines, bint by_set, uint32_t[::1] masks,
                int32_t[::1] splits, double[::1] propensities, uint8_t[::1] explored, Py_ssize_t first,
                Py_ssize_t last):
        """Epsilon-greedy around `masks` and `splits`, drawn by world and number of the task.

        Among the candidates of a set model, or among the actions.
        """
        cdef Chooser chooser
        cdef Choice choice
        cdef Draw draw
        cdef Env* env
        cdef uint64_t key
        cdef Py_ssize_t i
        chooser.model = NULL
        chooser.policy = LEAST_COMPLETION_TIME
        chooser.order = self.setting.order
        chooser.deadlines = HARD if hard_deadlines else SOFT
        chooser.epsilon = epsilon
        with nogil:
            for i in range(first, last):
                env = self.env(i)
                if not env.over:
                    key = draw_key(env.seed, _EXPLORATION)
                    draw.whether = draw_uniform(key, 2 * <uint64_t>env.decided)
                    draw.which = draw_uniform(key, 2 * <uint64_t>env.decided + 1)
                    choice.mask = masks[i]
                    choice.split = splits[i]
                    choice.by_model = choice.explored = False
                    explore_around(&chooser, &env.paths, &env.demand, &draw, by_set, &choice)
                    masks[i] = choice.mask
                    splits[i] = choice.split
                    propensities[i] = choice.propensity
                    explored[i] = choice.explored

    def look_ahead(self, uint32_t[::1] masks, int horizon, str rule, Py_ssize_t first, Py_ssize_t last):
        """What a clairvoyant would do in each environment: see ``itp._core.sim.lookahead``."""
        cdef Policy number = policy_number(rule, <ServiceOrder>self.setting.order)
        cdef Py_ssize_t i
        cdef bint failed = False
        cdef Env* scratch = <Env*>calloc(1, self.stride)
        if scratch == NULL or not env_init(scratch, &self.setting):
            free(scratch)
            raise MemoryError("no memory to look ahead in")
        with nogil:
            for i in range(first, last):
                if not self.env(i).over:
                    masks[i] = look_ahead(self.env(i), scratch, horizon, number)
                    failed = failed or masks[i] == 0
            env_free(scratch)
            free(scratch)
        if failed:
            raise MemoryError("no memory to look ahead in")

    def branch(self, const int64_t[::1] which, int horizon):
        """A batch of copies of environments, as they are now, whose episodes end `horizon` tasks on."""
        cdef Batch copies = Batch(
            self.links.base[which], self.paths.base[which], self.workloads.base[which], self.seeds[which],
            *self.tables, **self._options())
        cdef Py_ssize_t i
        cdef bint copied = True
        with nogil:
            for i in range(copies.n_envs):
                copied = copied and copies._continue(i, self, which[i], horizon)
        if not copied:
            raise MemoryError(f"no memory for {copies.n_envs} copies of environments")
        return copies

    cdef bint _continue(self, Py_ssize_t i, Batch source, Py_ssize_t j, int horizon) noexcept nogil:
        """Make environment i a copy of environment j of another batch, in a world of its own."""
        cdef Env* env = self.env(i)
        cdef int k
        if not env_copy(env, source.env(j)):
            return False
        env.setting = &self.setting
        env.link_specs = &self.links[i, 0]
        env.path_specs = &self.paths[i, 0]
        env.workload = &self.workloads[i]
        for k in range(self.setting.n_links):
            env.links[k].spec = &self.links[i, k]
        # What was completed before is none of its business.
        if env.done_first >= 0:
            slot_of(env, env.done_last).next = env.free_slot
            env.free_slot = env.done_first
            env.done_first = env.done_last = -1
        if env.n_tasks > env.decided + horizon:
            env.n_tasks = env.decided + horizon
        self.state_of[i] = source.state_of[j]
        return True

    def _options(self):
        cdef const Setting* setting = &self.setting
        return {
            "n_tasks": setting.n_tasks, "n_clients": setting.n_clients,
            "service_order": _SERVICE_ORDERS[setting.order], "stealing": setting.stealing,
            "min_chunk_bytes": setting.min_chunk_bytes, "weights": self.weights,
        }

    def __reduce__(self):
        load, (*content, layout) = self._saved()
        return load, (*content, (layout, _checksum(*content)))

    def _saved(self):
        """The function and the arguments that make a copy; without a checksum."""
        cdef Py_ssize_t i
        cdef size_t total = 0
        for i in range(self.n_envs):
            total += env_saved_bytes(self.env(i))
        cdef char[::1] saved = np.empty(total, dtype=np.int8)
        with nogil:
            total = 0
            for i in range(self.n_envs):
                env_save(self.env(i), &saved[total])
                total += env_saved_bytes(self.env(i))
        options = {"keep_states": self.setting.keep_states, "record_timeline": self.env(0).timeline != NULL}
        return _load, (
            (self.links.base, self.paths.base, self.workloads.base, self.seeds, *self.tables),
            self._options() | options, self.states, np.asarray(saved), self.service_intervals(), _LAYOUT)

    def __deepcopy__(self, memo):
        load, (*content, layout) = self._saved()
        return load(*content, (layout, None))

    cdef int _load(self, const char[::1] saved, intervals) except -1:
        cdef Py_ssize_t i, taken, place = 0
        cdef const char[::1] rows = intervals.view(np.int8) if len(intervals) else _NOTHING
        for i in range(self.n_envs):
            taken = 0
            if place < saved.shape[0]:
                taken = env_load(self.env(i), &self.links[i, 0], &self.paths[i, 0], &self.workloads[i],
                                 &saved[place], saved.shape[0] - place)
            if taken < 0:
                raise MemoryError(f"no memory for {self.n_envs} environments")
            if taken == 0:
                raise ValueError("the saved environments are damaged")
            place += taken
        if rows.shape[0]:
            self.timeline.intervals = <Interval*>malloc(rows.shape[0])
            if self.timeline.intervals == NULL:
                raise MemoryError("no memory for the timeline")
            memcpy(self.timeline.intervals, &rows[0], rows.shape[0])
            self.timeline.count = self.timeline.capacity = rows.shape[0] // sizeof(Interval)
        return 0

    # --- looking ---

    def effective_masks(self, const uint32_t[::1] masks, uint32_t[:, ::1] out):
        """What each of `masks` comes to for the waiting tasks, uint32[n_envs, n_masks]; 0: to nothing."""
        cdef int64_t chunks[16]
        cdef Env* env
        cdef uint32_t mask
        cdef Py_ssize_t i, k
        with nogil:
            for i in range(self.n_envs):
                env = self.env(i)
                for k in range(masks.shape[0]):
                    mask = masks[k] & env.paths.up
                    # With stealing, a stream that gets no chunk may take one over.
                    if mask and not env.over and not self.setting.stealing:
                        mask = split_chunks(&env.paths, &env.demand, mask, WATER_FILLING, chunks)
                    out[i, k] = mask

    def expected_times(self, const uint32_t[:, ::1] masks, double[:, ::1] out):
        """When the waiting tasks would be through by water-filling over each of `masks`, in seconds from now.

        uint32[n_envs, k] to float64[n_envs, k], by the estimates that a decision goes by; infinite where
        no stream of a mask is up, or the episode is over.
        """
        cdef int64_t chunks[16]
        cdef const Env* env
        cdef uint32_t mask
        cdef Py_ssize_t i, k
        with nogil:
            for i in range(self.n_envs):
                env = self.env(i)
                for k in range(masks.shape[1]):
                    mask = masks[i, k] & env.paths.up
                    out[i, k] = INFINITY
                    if mask and not env.over:
                        mask = split_chunks(&env.paths, &env.demand, mask, WATER_FILLING, chunks)
                        out[i, k] = completion_time_s(chunks, env.paths.rate_Bps, env.paths.delay_s, mask)

    def now_s(self):
        """float64[n_envs]"""
        return np.array([self.env(i).now_s for i in range(self.n_envs)])

    def over(self):
        """bool[n_envs]: the episode's tasks are all through."""
        cdef uint8_t[::1] out = np.empty(self.n_envs, dtype=np.uint8)
        cdef Py_ssize_t i
        for i in range(self.n_envs):
            out[i] = self.env(i).over
        return np.asarray(out).view(np.bool_)

    def up(self):
        """uint32[n_envs]: masks of the streams that may carry the waiting task."""
        cdef uint32_t[::1] out = np.empty(self.n_envs, dtype=np.uint32)
        cdef Py_ssize_t i
        for i in range(self.n_envs):
            out[i] = self.env(i).paths.up
        return np.asarray(out)

    def waiting(self):
        """What the waiting tasks ask and see: a dict of arrays [n_envs] and [n_envs, n]."""
        cdef Py_ssize_t i, k, n = self.setting.n
        cdef int64_t[::1] size = np.empty(self.n_envs, dtype=np.int64)
        cdef double[:, ::1] task = np.empty((3, self.n_envs))
        cdef double[:, :, ::1] seen = np.empty((5, self.n_envs, n))
        cdef const Env* env
        for i in range(self.n_envs):
            env = self.env(i)
            size[i] = env.arrival.size_bytes
            task[0, i] = env.arrival.priority
            task[1, i] = env.arrival.deadline_s
            task[2, i] = env.arrival.at_s
            for k in range(n):
                seen[0, i, k] = env.paths.rate_Bps[k]
                seen[1, i, k] = env.metrics[k].latency_s
                seen[2, i, k] = env.paths.work_ahead_s[k]
                seen[3, i, k] = env.metrics[k].bandwidth_Bps
                seen[4, i, k] = env.metrics[k].success_rate
        figures, paths = np.asarray(task), np.asarray(seen)
        return {
            "size_bytes": np.asarray(size), "priority": figures[0], "deadline_s": figures[1],
            "arrived_at_s": figures[2], "rate_Bps": paths[0], "latency_s": paths[1],
            "work_ahead_s": paths[2], "bandwidth_Bps": paths[3], "success_rate": paths[4], "up": self.up(),
        }

    def world(self):
        """The truth at present: capacity_Bps[n_envs, n_links] and outage[n_envs, n]."""
        cdef Py_ssize_t i, k
        cdef double[:, ::1] capacity = np.empty((self.n_envs, self.setting.n_links))
        cdef uint8_t[:, ::1] outage = np.empty((self.n_envs, self.setting.n), dtype=np.uint8)
        for i in range(self.n_envs):
            env_sync_links(self.env(i))
            for k in range(self.setting.n_links):
                capacity[i, k] = self.env(i).links[k].capacity_Bps
            for k in range(self.setting.n):
                outage[i, k] = self.env(i).streams[k].in_outage
        return {"capacity_Bps": np.asarray(capacity), "outage": np.asarray(outage).view(np.bool_)}

    def counters(self):
        """Bytes since the episodes began, int64[n_envs] each, and what the streams' rates add up to."""
        cdef Py_ssize_t i, k
        cdef int64_t[:, ::1] counts = np.empty((4, self.n_envs), dtype=np.int64)
        cdef double[:, ::1] carried = np.empty((self.n_envs, self.setting.n))
        for i in range(self.n_envs):
            counts[0, i] = self.env(i).delivered_bytes
            counts[1, i] = self.env(i).resent_bytes
            counts[2, i] = self.env(i).sent_bytes
            counts[3, i] = self.env(i).in_flight
            for k in range(self.setting.n):
                carried[i, k] = self.env(i).streams[k].carried
        totals = np.asarray(counts)
        return {"delivered_bytes": totals[0], "resent_bytes": totals[1], "sent_bytes": totals[2],
                "in_flight": totals[3], "carried_bytes": np.asarray(carried)}

    cdef Py_ssize_t _count_completed(self) noexcept nogil:
        """How many there are; what is kept of them is on its way from memory then."""
        cdef Py_ssize_t i, count = 0
        cdef size_t at, size = 2 * self.setting.state_dim * sizeof(float)
        cdef int slot
        cdef const Env* env
        for i in range(self.n_envs):
            env = self.env(i)
            if i + _AHEAD < self.n_envs:
                prefetch(&self.env(i + _AHEAD).done_first)
            slot = env.done_first
            while slot >= 0:
                count += 1
                if env.vectors != NULL:
                    for at in range(0, size, 64):
                        prefetch(<const char*>env.vectors + slot * size + at)
                slot = slot_of(env, slot).next
        return count

    def completed(self):
        """OUTCOME[.]: the tasks that were completed during the last step, by environment, then by time."""
        cdef Py_ssize_t i, k = 0, count = self._count_completed()
        cdef int slot
        cdef const Slot* task
        cdef Completed* row
        cdef char[::1] bytes_of
        out = np.zeros(count, dtype=OUTCOME)
        bytes_of = out.view(np.int8) if count else _NOTHING
        for i in range(self.n_envs):
            slot = self.env(i).done_first
            while slot >= 0:
                task = slot_of(self.env(i), slot)
                row = <Completed*>&bytes_of[k * sizeof(Completed)]
                row.env = i
                row.task = task.task
                row.size_bytes = task.arrival.size_bytes
                row.priority = task.arrival.priority
                row.mask = task.mask
                row.streams = task.streams
                row.arrived_at_s = task.arrival.at_s
                row.completed_at_s = task.last_finish_s
                row.deadline_s = task.arrival.deadline_s
                row.reference_time_s = reference_s(self.env(i), task.arrival.size_bytes)
                row.expected_time_s = task.expected_s
                row.retransmitted_bytes = task.resent
                row.imbalance = 1.0 - (task.first_finish_s - task.arrival.at_s) / (
                    task.last_finish_s - task.arrival.at_s)
                row.reward = task.reward
                row.propensity = task.propensity
                row.success = task.success
                row.explored = task.explored
                row.source = task.source
                k += 1
                slot = task.next
        return out

    def experiences(self, dtype):
        """The records of the tasks in `completed`, in its order.

        The next state is the one that the following decision of the episode was made in.

        Parameters
        ----------
        dtype : numpy.dtype
            ``itp.experience.record.record_dtype`` of these streams.
        """
        cdef int n = self.setting.n
        cdef size_t size = record_bytes(n)
        cdef Py_ssize_t i, k = 0, count = self._count_completed()
        cdef int slot
        cdef char[::1] bytes_of
        cdef const Env* env
        if not self.setting.keep_states:
            raise ValueError("the states of tasks in flight are not kept: pass keep_states=True")
        if dtype.itemsize != size:
            raise ValueError(f"expected records of {size} bytes; got {dtype.itemsize}")
        out = np.empty(count, dtype=dtype)
        bytes_of = out.view(np.int8) if count else _NOTHING
        with nogil:
            for i in range(self.n_envs):
                env = self.env(i)
                slot = env.done_first
                while slot >= 0:
                    self._write_experience(env, slot, &bytes_of[k * size])
                    k += 1
                    slot = slot_of(env, slot).next
        return out

    cdef void _write_experience(self, const Env* env, int slot, char* out) noexcept nogil:
        cdef const Slot* task = slot_of(env, slot)
        cdef const float* states = env.vectors + <size_t>slot * 2 * self.setting.state_dim
        cdef RecordHead head
        head.number = task.task
        head.decided_at_s = task.arrival.at_s
        head.completed_at_s = task.last_finish_s
        head.reward = <float>task.reward
        head.propensity = task.propensity
        head.action = action_of_mask(task.mask, self.setting.n)
        head.source = task.source
        head.explored = task.explored
        head.done = task.task == env.n_tasks - 1
        write_task_name(head.task_id, env.seed, task.task)
        memset(head.model_version, 0, sizeof(head.model_version))
        write_record(out, &head, states, states + self.setting.state_dim, self.setting.n)

    def service_intervals(self):
        """TIMELINE[.] of environment 0, in the order in which the intervals ended."""
        cdef Py_ssize_t size = self.timeline.count * sizeof(Interval)
        if self.timeline.count == 0:
            return np.zeros(0, dtype=TIMELINE)
        return np.frombuffer((<char*>self.timeline.intervals)[:size], dtype=TIMELINE).copy()

    def memory_bytes(self):
        """What the environments occupy, worlds and states included."""
        cdef Py_ssize_t i
        cdef size_t total = self.n_envs * self.stride
        for i in range(self.n_envs):
            total += self.env(i).n_slots * self.setting.slot_bytes
            if self.setting.keep_states:
                total += self.env(i).n_slots * 2 * self.setting.state_dim * sizeof(float)
        tables = (self.links, self.paths, self.workloads, self.states)
        return total + sum(np.asarray(table).nbytes for table in tables)
