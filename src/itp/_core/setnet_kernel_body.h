/* One kernel; included once per instruction set, which defines KERNEL, TARGET and LANES. */

typedef float VECTOR __attribute__((vector_size(4 * LANES), may_alias));
typedef int INTEGERS __attribute__((vector_size(4 * LANES)));

/* `rows` rows of x times `width` vectors of outputs; y holds what the sums begin with. */
TARGET static inline __attribute__((always_inline)) void FUNCTION(tile)(
    const int rows, const int width, const float *weights, size_t stride, int inputs, const float *x, size_t x_stride,
    int relu, float *y, size_t y_stride)
{
    VECTOR sum[12];
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < width; v++)
            sum[r * width + v] = ((const VECTOR *)(y + r * y_stride))[v];
    for (int k = 0; k < inputs; k++) {
        const VECTOR *w = (const VECTOR *)(weights + k * stride);
        for (int r = 0; r < rows; r++)
            for (int v = 0; v < width; v++)
                sum[r * width + v] += w[v] * x[r * x_stride + k];
    }
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < width; v++)
            /* ReLU; what is not a number stays so, for the end to show it. */
            ((VECTOR *)(y + r * y_stride))[v] =
                relu ? (VECTOR)(~(sum[r * width + v] < 0.0f) & (INTEGERS)sum[r * width + v]) : sum[r * width + v];
}

/* Rows are computed in fours; there is room for the last ones. A row's sums do not depend on its company. */
TARGET static inline __attribute__((always_inline)) void FUNCTION(dense)(
    const setnet_layer *layer, int rows, const float *x, size_t x_stride, int relu, float *y, size_t y_stride)
{
    const int vectors = layer->padded / LANES;
    for (int r = 0; r < rows; r += 4) {
        int v = 0;
#define PANEL(width)                                                                                         \
    for (; v + width <= vectors; v += width)                                                                 \
    FUNCTION(tile)(4, width, layer->weights + v * LANES, (size_t)layer->padded, layer->inputs, x + r * x_stride, x_stride, \
                   relu, y + r * y_stride + v * LANES, y_stride)
#if LANES == 16
        PANEL(3);
#endif
        PANEL(2);
        PANEL(1);
#undef PANEL
    }
}

TARGET static inline __attribute__((always_inline)) void FUNCTION(copy)(const float *from, int n, float *to)
{
    for (int v = 0; v < n / LANES; v++)
        ((VECTOR *)to)[v] = ((const VECTOR *)from)[v];
}

TARGET static void FUNCTION(forward)(
    const setnet *net, const float *streams, int n_streams, const float *context, const float *candidates,
    const uint32_t *members, int n_candidates, float *values)
{
    enum { WIDTH = SETNET_MAX_WIDTH, STREAMS = SETNET_MAX_STREAMS, ROWS = SETNET_MAX_CANDIDATES };
    float of_context[2 * WIDTH] __attribute__((aligned(SETNET_ALIGN)));
    float first[STREAMS * WIDTH] __attribute__((aligned(SETNET_ALIGN)));
    float second[STREAMS * WIDTH] __attribute__((aligned(SETNET_ALIGN)));
    float mean[WIDTH] __attribute__((aligned(SETNET_ALIGN)));
    float of_member[STREAMS * WIDTH] __attribute__((aligned(SETNET_ALIGN)));
    float wide[ROWS * WIDTH] __attribute__((aligned(SETNET_ALIGN)));
    float deep[ROWS * WIDTH] __attribute__((aligned(SETNET_ALIGN)));
    float tail[4 * 32];
    const int h = net->second.padded, w1 = net->first.padded, z = net->member.padded, d = net->hidden.padded;
    const int s = net->first.inputs, c = net->own.inputs;
    const int rows = (n_streams + 3) & ~3, sets = (n_candidates + 3) & ~3;

    FUNCTION(copy)(net->context.bias, net->context.padded, of_context);
    {
        int v = 0;
        const int vectors = net->context.padded / LANES;
        for (; v < vectors; v++)
            FUNCTION(tile)(1, 1, net->context.weights + v * LANES, (size_t)net->context.padded, net->context.inputs, context, 0,
                           0, of_context + v * LANES, 0);
    }
    for (int r = 0; r < rows; r++) {
        FUNCTION(copy)(of_context, w1, first + r * w1);
        FUNCTION(copy)(net->second.bias, h, second + r * h);
        for (int v = 0; v < z / LANES; v++)
            ((VECTOR *)(of_member + r * z))[v] = (VECTOR){0};
    }
    FUNCTION(dense)(&net->first, rows, streams, (size_t)s, 1, first, (size_t)w1);
    FUNCTION(dense)(&net->second, rows, first, (size_t)w1, 1, second, (size_t)h);
    FUNCTION(dense)(&net->member, rows, second, (size_t)h, 0, of_member, (size_t)z);

    for (int v = 0; v < h / LANES; v++) {
        VECTOR sum = {0};
        for (int r = 0; r < n_streams; r++)
            sum += ((const VECTOR *)(second + r * h))[v];
        ((VECTOR *)mean)[v] = sum / (float)n_streams;
    }
    float *begin = of_context + w1;
    {
        const int vectors = z / LANES;
        for (int v = 0; v < vectors; v++)
            FUNCTION(tile)(1, 1, net->pool.weights + v * LANES, (size_t)z, net->pool.inputs, mean, 0, 0, begin + v * LANES, 0);
    }
    for (int k = 0; k < sets; k++) {
        VECTOR *to = (VECTOR *)(wide + k * z);
        FUNCTION(copy)(net->hidden.bias, d, deep + k * d);
        if (k >= n_candidates) {
            for (int v = 0; v < z / LANES; v++)
                to[v] = (VECTOR){0};
            continue;
        }
        const float share = 1.0f / (float)__builtin_popcount(members[k]);
        for (int v = 0; v < z / LANES; v++) {
            VECTOR sum = {0};
            for (uint32_t left = members[k]; left; left &= left - 1)
                sum += ((const VECTOR *)(of_member + __builtin_ctz(left) * z))[v];
            to[v] = ((const VECTOR *)begin)[v] + sum * share;
        }
    }
    FUNCTION(dense)(&net->own, n_candidates & ~3, candidates, (size_t)c, 1, wide, (size_t)z);
    if (n_candidates & 3) {
        const int done = n_candidates & ~3;
        for (int r = 0; r < 4; r++)
            for (int i = 0; i < c; i++)
                tail[r * c + i] = done + r < n_candidates ? candidates[(done + r) * c + i] : 0.0f;
        FUNCTION(dense)(&net->own, 4, tail, (size_t)c, 1, wide + done * z, (size_t)z);
    }
    FUNCTION(dense)(&net->hidden, sets, wide, (size_t)z, 1, deep, (size_t)d);
    for (int k = 0; k < n_candidates; k++) {
        VECTOR sum = {0};
        for (int v = 0; v < d / LANES; v++)
            sum += ((const VECTOR *)(deep + k * d))[v] * ((const VECTOR *)net->out_hidden)[v];
        float value = net->out_bias;
        for (int i = 0; i < c; i++)
            value += net->out_own[i] * candidates[k * c + i];
        for (int i = 0; i < LANES; i++)
            value += sum[i];
        values[k] = value;
    }
}

#undef KERNEL
#undef TARGET
#undef LANES
#undef FUNCTION
#undef VECTOR
#undef INTEGERS
