# The inputs of a set model, schema 2: scale-free figures of every stream, of the task and its workload, and
# of every candidate set of streams.
from libc.stdint cimport uint32_t

from itp._core.heuristic cimport Candidates, Demand
from itp._core.state cimport Paths, StreamMetrics
from itp._core.workload cimport Workload

cdef enum:
    STREAM_FEATURES = 12
    CONTEXT_FEATURES = 22
    CANDIDATE_FEATURES = 10
    MAX_CANDIDATES = 63

# What a decision knows beside `Paths` and `Demand`.
ctypedef struct Situation:
    const StreamMetrics* metrics        # [n]
    const Workload* workload
    double backlog_s[16]                # all that waits on each stream, in seconds of its bandwidth
    double now_s
    double in_flight                    # tasks decided and not yet through
    double day                          # time of day as a fraction
    double preference                   # 0: typical, 1: bulk
    int order                           # of service

# Rows of float32, in the order of the streams that are up and of the candidates.
ctypedef struct Features:
    int n_streams                       # that are up
    int n_candidates
    float streams[16 * 12]
    float context[22]
    float candidates[63 * 10]
    uint32_t members[63]                # of each candidate: bits over the streams that are up
    double reference_s                  # of the task, over the streams that are up
    double mean_reference_s             # of the mean task
    double gap_s                        # mean time between tasks; 0: not known yet


cdef void assemble_features(const Situation* situation, const Paths* paths, const Demand* demand,
                            const Candidates* candidates, Features* out) noexcept nogil
