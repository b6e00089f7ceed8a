/* The forward pass of a set network: a value for every candidate set of streams. */
#ifndef ITP_SETNET_H
#define ITP_SETNET_H

#include <stdint.h>

enum { SETNET_ALIGN = 64, SETNET_PAD = 16, SETNET_MAX_WIDTH = 128, SETNET_MAX_STREAMS = 16, SETNET_MAX_CANDIDATES = 64 };

/* Dense: a row per input of `padded` outputs, rows aligned; the outputs beyond the last are zero. */
typedef struct {
    const float *weights;
    const float *bias; /* [padded] */
    int inputs;
    int outputs;
    int padded;
} setnet_layer;

/*  context -> [a, b]             (one layer, no ReLU; a begins a stream's first layer, b a candidate's)
 *  stream  -> relu(first s + a) -> relu(second .) = h
 *  candidate -> relu(own c + member mean(h of the set) + pool mean(h of all) + b) -> relu(hidden .)
 *            -> out [. , c]                                                          */
typedef struct {
    setnet_layer context, first, second, pool, member, own, hidden;
    const float *out_hidden; /* [hidden.padded] */
    const float *out_own;    /* [own.inputs] */
    float out_bias;
} setnet;

typedef void (*setnet_forward)(const setnet *net, const float *streams, int n_streams, const float *context,
                               const float *candidates, const uint32_t *members, int n_candidates, float *values);

typedef struct {
    const char *name;
    setnet_forward forward;
} setnet_kernel;

int setnet_kernels(setnet_kernel out[3]);

#endif
