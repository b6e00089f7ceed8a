/* The forward pass of a chain of dense layers with ReLU between them, for one state.
 *
 * No library calls, no allocation, no global state: safe from any thread, with or without the GIL.
 */
#ifndef ITP_QNET_H
#define ITP_QNET_H

#define QNET_MAX_LAYERS 16
#define QNET_MAX_WIDTH 1024 /* of any layer, inputs included */
#define QNET_ALIGN 64       /* bytes: a cache line, and the widest vector */
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

typedef struct {
    const char *name;
    qnet_forward forward;
} qnet_kernel;

/* The kernels this CPU can run, the fastest first; returns how many, at most 3. */
int qnet_kernels(qnet_kernel out[3]);

#endif
