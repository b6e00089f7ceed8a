/* A data plane in C: worker threads that decide without Python, each with a decider of its own, all with the
 * same model. `data_plane.py` compiles this file, lends it the model, and runs it. */
#include "itp.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

typedef struct {
    const itp_api *api;
    const itp_model *model;
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

static int work(worker *w, itp_decider *decider)
{
    static const double bandwidth_mbps[4] = {200, 100, 50, 20}, latency_ms[4] = {10, 40, 80, 150};
    const itp_api *api = w->api;
    double spent_s = 0;
    int status = api->serve(decider, w->model);
    for (int i = 0; i < 4 && !status; i++)
        status = api->update_stream(decider, i, bandwidth_mbps[i], latency_ms[i], NAN, 0.99);
    for (int k = 0; k < w->decisions && !status; k++) {
        itp_decision d = {.task = {.size_bytes = 1000000 + 1000 * (k % 1000), .priority = 0.5,
                                   .deadline_s = INFINITY, .redundancy = 1}};
        const double began_s = now_s();
        status = api->decide(decider, &d);
        spent_s += now_s() - began_s;
        if (status)
            break;
        for (int i = 0; i < 4; i++)
            w->bytes_sent[i] += d.chunk_bytes[i];
        /* Here the chunks would be sent; say that all went as expected. */
        const itp_outcome outcome = {.throughput_mbps = 8e-6 * (double)d.task.size_bytes / d.expected_time_s,
                                     .latency_s = d.expected_time_s, .success = 1};
        status = api->report_outcome(decider, &d, &outcome, NULL);
    }
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
