/* A data plane in C: worker threads that decide without Python, each with a decider of its own, by the heuristic
 * or all by the same model. `data_plane.py` compiles this file, lends it a model if it has one, and runs it. */
#include "itp.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

enum { IN_FLIGHT = 16 }; /* tasks of a worker at any time */

typedef struct {
    const itp_api *api;
    const itp_model *model; /* NULL: the heuristic decides */
    int decisions;
    int64_t bytes_sent[4]; /* what the decisions gave to each stream */
    double mean_us;
    int status;
} worker;

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* The chunks have been sent; say that all went as expected. */
static int report(const itp_api *api, itp_decider *decider, itp_decision *d)
{
    const itp_outcome outcome = {.throughput_mbps = 8e-6 * (double)d->task.size_bytes / d->expected_time_s,
                                 .latency_s = d->expected_time_s, .success = 1};
    return api->report_outcome(decider, d, &outcome, NULL);
}

static int work(worker *w, itp_decider *decider)
{
    static const double bandwidth_mbps[4] = {200, 100, 50, 20}, latency_ms[4] = {10, 40, 80, 150};
    const itp_api *api = w->api;
    itp_decision in_flight[IN_FLIGHT];
    double spent_s = 0;
    int decided = 0, status = api->serve(decider, w->model);
    for (int i = 0; i < 4 && !status; i++)
        status = api->update_stream(decider, i, bandwidth_mbps[i], latency_ms[i], NAN, 0.99);
    while (decided < w->decisions && !status) {
        itp_decision *d = &in_flight[decided % IN_FLIGHT];
        if (decided >= IN_FLIGHT && (status = report(api, decider, d)))
            break;
        /* From 50 kB to 5 MB, as many in each tenfold. */
        const int64_t size_bytes = (int64_t)(50e3 * pow(100, fmod(decided * 0.618, 1)));
        *d = (itp_decision){.task = {.size_bytes = size_bytes, .priority = 0.5, .deadline_s = INFINITY,
                                     .redundancy = 1}};
        const double began_s = now_s();
        status = api->decide(decider, d);
        spent_s += now_s() - began_s;
        for (int i = 0; i < 4 && !status; i++)
            w->bytes_sent[i] += d->chunk_bytes[i];
        decided += !status;
    }
    for (int k = decided < IN_FLIGHT ? 0 : decided - IN_FLIGHT; k < decided && !status; k++)
        status = report(api, decider, &in_flight[k % IN_FLIGHT]);
    w->mean_us = 1e6 * spent_s / w->decisions;
    return status;
}

static void *run_worker(void *argument)
{
    worker *w = argument;
    itp_decider *decider = w->api->create(4, ITP_FIFO);
    w->status = decider ? work(w, decider) : ITP_NO_MEMORY;
    w->api->destroy(decider);
    return NULL;
}

/* Decide in so many threads; returns an itp_status, the bytes a stream was given, and the mean time. */
int data_plane(const itp_api *api, const itp_model *model, int n_threads, int decisions,
               int64_t bytes_sent[4], double *mean_us)
{
    int status = ITP_OK, started = 0;
    pthread_t *threads = calloc((size_t)n_threads, sizeof *threads);
    worker *workers = calloc((size_t)n_threads, sizeof *workers);
    if (!threads || !workers)
        status = ITP_NO_MEMORY;
    for (; started < n_threads && !status; started++) {
        workers[started] = (worker){.api = api, .model = model, .decisions = decisions};
        if (pthread_create(&threads[started], NULL, run_worker, &workers[started]))
            break;
    }
    *mean_us = 0;
    for (int i = 0; i < 4; i++)
        bytes_sent[i] = 0;
    for (int t = 0; t < started; t++) {
        pthread_join(threads[t], NULL);
        status = status ? status : workers[t].status;
        *mean_us += workers[t].mean_us / started;
        for (int i = 0; i < 4; i++)
            bytes_sent[i] += workers[t].bytes_sent[i];
    }
    free(threads);
    free(workers);
    return status || started < n_threads ? (status ? status : ITP_NO_MEMORY) : ITP_OK;
}
