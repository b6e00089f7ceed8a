/* ITP for C and C++: decisions without Python, in about two microseconds.
 *
 * The functions come as a table, fetched once from a process that has imported itp (`itp.c_api()` is its
 * address; `itp_import_api()` below asks the interpreter for it). None of them touches Python or needs the
 * GIL. A decider is used by one thread at a time; there may be any number of them, and they may share a model.
 */
#ifndef ITP_H
#define ITP_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define ITP_API_VERSION 2
#define ITP_MAX_STREAMS 16
#define ITP_MAX_STATE (4 * ITP_MAX_STREAMS + 4)
#define ITP_N_ACTIONS 15 /* of a model of schema 1: the non-empty sets of four streams */
#define ITP_MAX_CANDIDATES 63
#define ITP_N_TIMES 98   /* bins of the decision times */

/* What a call comes to. */
enum itp_status {
    ITP_OK = 0,
    ITP_NO_STREAM_UP = 1,    /* set_stream_up brings one back */
    ITP_TOO_FEW_STREAMS = 2, /* up, for so many copies */
    ITP_NO_MEMORY = 3,       /* nothing was changed */
    ITP_INVALID = 4          /* an argument is out of its range; nothing was changed */
};

/* How the streams serve their chunks. */
enum itp_service_order { ITP_FIFO = 0, ITP_SRPT = 1 };

/* Who decided. */
enum itp_source { ITP_HEURISTIC = 0, ITP_NATIVE = 1, ITP_ONNXRUNTIME = 2, ITP_GUARD = 3 };

/* Whether an action that is planned to miss the deadline is closed while another one meets it. */
enum itp_deadlines {
    ITP_DEADLINES_DECLARED = 0, /* as the model's metadata say; by the heuristic they are closed */
    ITP_DEADLINES_HARD = 1,
    ITP_DEADLINES_SOFT = 2
};

/* What is to be sent. */
typedef struct {
    int64_t size_bytes;       /* >= 1 */
    double priority;          /* 0 to 1, 1 the most urgent */
    double deadline_s;        /* from the decision to completion; INFINITY: none */
    double min_bandwidth_Bps; /* of the streams chosen, together; 0: none */
    int redundancy;           /* whole copies, each on a stream of its own; 1: no copies */
    int64_t min_chunk_bytes;  /* a smaller share leaves its stream out; 0: the decider's */
} itp_task;

/* What a policy sees of all streams, at one moment, for one task. */
typedef struct {
    int n;
    uint32_t up;                           /* bit mask */
    double rate_Bps[ITP_MAX_STREAMS];      /* bandwidth x success rate */
    double delay_s[ITP_MAX_STREAMS];       /* work ahead of this task + latency */
    double work_ahead_s[ITP_MAX_STREAMS];
    double congestion[ITP_MAX_STREAMS];    /* w / (w + 1 s), or the caller's */
} itp_paths;

/* A decision: `task` goes in, the rest comes out. */
typedef struct {
    itp_task task;
    uint32_t streams;                      /* bit mask of those that carry a chunk ... */
    uint32_t action_streams;               /* ... and of the action taken, small shares not yet left out */
    int64_t chunk_bytes[ITP_MAX_STREAMS];  /* 0 where there is none; they sum to the task's size */
    double expected_time_s;                /* INFINITY: nothing is known to move */
    double fastest_s, slowest_s;           /* 5 and 95 % of what it will be; NaN: no model tells */
    double confidence;                     /* P(success within 1.25 x expected_time_s) */
    double propensity;                     /* probability with which this action was taken */
    int source;                            /* enum itp_source */
    int explored;                          /* drawn at random */
    int feasible;                          /* this plan is estimated to meet deadline and bandwidth */
    int has_q_values;                      /* a model of schema 1 decided; `candidates` has those of any model */
    float q_values[ITP_N_ACTIONS];
    float state[ITP_MAX_STATE];            /* float32[4n + 4], schema 1 */
    uint64_t number;                       /* counts up from 1 */
    double decided_at_s;                   /* Unix time */
    /* The library's own from here on. */
    itp_paths paths;
    double observed_s;
    double reference_time_s;
    double imbalance;
    double raw_confidence;
    int in_ledger;
    const void *owner;
} itp_decision;

/* What became of a task. */
typedef struct {
    double throughput_mbps;      /* goodput, >= 0 */
    double latency_s;            /* from the decision to completion, >= 0 */
    int success;
    int64_t retransmitted_bytes; /* >= 0 */
} itp_outcome;

/* What one of its streams did. */
typedef struct {
    int stream;
    int64_t bytes;               /* delivered, 0 to the task's size */
    double seconds;              /* from the decision to the stream's last byte, >= 0 */
    int64_t retransmitted_bytes; /* >= 0 */
} itp_stream_outcome;

/* What a decider has done. */
typedef struct {
    uint64_t decisions;
    uint64_t by_model;   /* with Q-values; of these */
    uint64_t guarded;    /* the guard's rule took another action */
    uint64_t explored;
    uint64_t infeasible;
    uint64_t outcomes;
    uint64_t successes;
    uint64_t bytes_decided;
    uint64_t retransmitted_bytes;
    double reward_sum;
} itp_counters;

/* How long its decisions took: up to 2^7 ns, then four bins to the octave, the last one without an end. */
typedef struct {
    uint64_t count[ITP_N_TIMES];
    double sum_s;
} itp_times;

/* The sets of streams that a model chose from. */
typedef struct {
    int count;       /* 0: no model decided, or it had nothing to choose from */
    int unsupported; /* the model was trained on no such case: the rule decided */
    uint32_t streams[ITP_MAX_CANDIDATES];
    double planned_s[ITP_MAX_CANDIDATES]; /* before a model's calibration corrects it */
    float values[ITP_MAX_CANDIDATES];     /* by the model; greater is better */
} itp_candidates;

typedef struct itp_decider itp_decider;
/* Of a file, verified: `itp.native_model(...)` in Python; it lives as long as that object. */
typedef struct itp_model itp_model;

/* A later version appends functions: code that was compiled for an earlier one goes on to work. */
typedef struct {
    int version; /* ITP_API_VERSION, or a later one */

    /* Pointers that are asked for and are NULL make a call ITP_INVALID. */

    /* A decider of 1 to 16 streams without a model: the heuristic decides, single best for ITP_FIFO and least
     * completion time for ITP_SRPT. NULL: out of range, or no memory. */
    itp_decider *(*create)(int n_streams, int service_order);
    void (*destroy)(itp_decider *decider);

    /* Decide by this model from now on; NULL: by the heuristic. A model of schema 1 needs four streams. */
    int (*serve)(itp_decider *decider, const itp_model *model);

    /* Share of decisions drawn at random (0 to 1), and the seed of that. A forked child draws from a stream of
     * its own, which follows from the generator's state and from the number of the fork. */
    int (*explore)(itp_decider *decider, double epsilon, uint64_t seed);

    /* Fresh measurements of a stream. congestion: 0 to 1, or NaN: the ledger's own. */
    int (*update_stream)(itp_decider *decider, int stream, double bandwidth_mbps, double latency_ms,
                         double congestion, double success_rate);
    int (*set_stream_up)(itp_decider *decider, int stream, int up);

    /* Fill in decision for decision->task and enter it into the ledger. What else it held is written over:
     * report or drop a decision before its memory serves the next. */
    int (*decide)(itp_decider *decider, itp_decision *decision);

    /* Bytes a stream has delivered since its last report; optional. */
    int (*report_progress)(itp_decider *decider, int stream, int64_t delivered_bytes);

    /* Join what became of a decision of this decider, once; writes the reward, unless that is NULL.
     * ITP_INVALID a second time, also of a copy, and of another decider's. */
    int (*report_outcome)(itp_decider *decider, itp_decision *decision, const itp_outcome *outcome,
                          double *reward);

    /* Forget a decision without an outcome: its bytes drain from the ledger at the stream's bandwidth. */
    void (*drop)(itp_decider *decider, itp_decision *decision);

    /* What was done so far; either may be NULL. */
    int (*figures)(const itp_decider *decider, itp_counters *counters, itp_times *times);

    /* How deadlines bind from now on: one of enum itp_deadlines. */
    int (*set_deadlines)(itp_decider *decider, int deadlines);

    /* --- Since version 2 --- */

    /* What a model of schema 2 decides for from now on: 0 (typical) to 1 (bulk). Before the first call it is
     * what the model in use calls balanced. */
    int (*prefer)(itp_decider *decider, double preference);

    /* What a model made of the decision that this decider made last. */
    int (*candidates)(const itp_decider *decider, const itp_decision *decision, itp_candidates *candidates);

    /* Decisions so far that a rule made, as the model was trained on no such case. */
    int (*unsupported)(const itp_decider *decider, uint64_t *decisions);

    /* As report_outcome, with what streams of the decision did, each once: their estimates follow it, those of
     * others stay. No more bytes than the task has; of copies, each. Where all streams are there, the reward's
     * imbalance is the real one. streams NULL: as report_outcome. */
    int (*report_streams)(itp_decider *decider, itp_decision *decision, const itp_outcome *outcome,
                          const itp_stream_outcome *streams, int n_outcomes, double *reward);
} itp_api;

#ifdef Py_PYTHON_H
/* With Python.h included before this header, the GIL held: the table, or NULL with a Python exception set. */
static inline const itp_api *itp_import_api(void)
{
    /* The capsule API is for code that was compiled for version 1, which takes no other. */
    PyObject *module = PyImport_ImportModule("itp._core.capi");
    const itp_api *api = module ? (const itp_api *)PyCapsule_Import("itp._core.capi.API_2", 0) : 0;
    Py_XDECREF(module);
    if (module && !api) {
        PyErr_Clear();
        PyErr_Format(PyExc_ImportError, "itp has C API version 1; this was compiled for %d", ITP_API_VERSION);
    } else if (api && api->version < ITP_API_VERSION) {
        PyErr_Format(PyExc_ImportError, "itp has C API version %d; this was compiled for %d", api->version,
                     ITP_API_VERSION);
        return 0;
    }
    return api;
}
#endif

#ifdef __cplusplus
}
#endif

#endif
