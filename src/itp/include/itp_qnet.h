/* The forward pass of a chain of dense layers with ReLU between them, for one state.
 *
 * No library calls, no allocation, no global state: safe from any thread, with or without the GIL.
 */
#ifndef ITP_QNET_H
#define ITP_QNET_H

#define QNET_MAX_LAYERS 16
#define QNET_MAX_WIDTH 1024 /* of any layer, inputs included */
#define QNET_ALIGN 64       /* bytes: a cache line, and the widest vector */
#define QNET_TILE 16        /* states at a time: what they work on and a panel of weights fit the caches */
#define QNET_PAD 16         /* outputs come in multiples of this: the widest vector's floats */

/* y = W x + b. Row i of `weights` holds what input i adds to every output, so that an input of zero,
 * which ReLU makes of about every second one, costs nothing: its row is never read. */
typedef struct {
    const float *weights; /* [inputs][padded], zeros beyond `outputs`; aligned */
    const float *bias;    /* [padded]; aligned */
    int inputs;
    int outputs;
    int padded;
} qnet_layer;

typedef struct {
    int n_layers;
    qnet_layer layers[QNET_MAX_LAYERS];
} qnet;

/* x[inputs of the first layer] -> y[outputs of the last one]. */
typedef void (*qnet_forward)(const qnet *net, const float *x, float *y);

/* What a layer works on, of one state: room for the net's widest layer, QNET_PAD more in x and row. */
typedef struct {
    float *x;      /* the inputs that are not zero ... */
    unsigned *row; /* ... and their numbers */
    float *y;      /* the outputs; aligned */
    int n;
} qnet_scratch;

/* The same for m states at once, up to QNET_TILE: x[m][inputs] -> y[m][outputs]; the same values, bit for
 * bit, as one by one. */
typedef void (*qnet_forward_tile)(const qnet *net, const float *x, float *y, int m, qnet_scratch *scratch);

typedef struct {
    const char *name;
    qnet_forward forward;
    qnet_forward_tile forward_tile;
} qnet_kernel;

/* The kernels this CPU can run, the fastest first; returns how many, at most 3. */
int qnet_kernels(qnet_kernel out[3]);

#endif
