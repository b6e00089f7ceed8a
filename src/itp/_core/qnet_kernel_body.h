/* One kernel; included once per instruction set, which defines KERNEL, TARGET and LANES. */

typedef float VECTOR __attribute__((vector_size(4 * LANES), may_alias));
typedef int INTEGERS __attribute__((vector_size(4 * LANES)));

/* Outputs of `width` vectors at a time, so that their sums stay in registers. With few of them the
 * inputs are dealt out to several sums, for the additions not to wait for one another. */
TARGET static inline __attribute__((always_inline)) void FUNCTION(block)(
    const int width, const int deal, const float *weights, size_t stride, const float *bias, const float *x,
    const unsigned *row, int n, int relu, float *y)
{
    VECTOR sum[8];
    int k = 0;
    for (int d = 0; d < deal; d++)
        for (int v = 0; v < width; v++)
            sum[d * width + v] = d ? (VECTOR){0} : ((const VECTOR *)bias)[v];
    for (; k + deal <= n; k += deal)
        for (int d = 0; d < deal; d++) {
            const VECTOR *w = (const VECTOR *)(weights + row[k + d] * stride);
            for (int v = 0; v < width; v++)
                sum[d * width + v] += w[v] * x[k + d];
        }
    for (; k < n; k++) {
        const VECTOR *w = (const VECTOR *)(weights + row[k] * stride);
        for (int v = 0; v < width; v++)
            sum[v] += w[v] * x[k];
    }
    for (int d = 1; d < deal; d++)
        for (int v = 0; v < width; v++)
            sum[v] += sum[d * width + v];
    /* ReLU; what is not a number stays so, for the end to show it. */
    for (int v = 0; v < width; v++)
        ((VECTOR *)y)[v] = relu ? (VECTOR)(~(sum[v] < 0.0f) & (INTEGERS)sum[v]) : sum[v];
}

/* The inputs that are not zero and their numbers, without a branch on any of them. */
TARGET static inline __attribute__((always_inline)) int FUNCTION(compress)(
    const float *from, int count, float *x, unsigned *row)
{
    int n = 0, i = 0;
#if LANES == 16
    __m512i numbers = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    for (; i + LANES <= count; i += LANES) {
        const __m512 values = _mm512_loadu_ps(from + i);
        const __mmask16 some = _mm512_cmp_ps_mask(values, _mm512_setzero_ps(), _CMP_NEQ_UQ);
        _mm512_storeu_ps(x + n, _mm512_maskz_compress_ps(some, values));
        _mm512_storeu_si512(row + n, _mm512_maskz_compress_epi32(some, numbers));
        numbers = _mm512_add_epi32(numbers, _mm512_set1_epi32(LANES));
        n += __builtin_popcount(some);
    }
#endif
    for (; i < count; i++) {
        unsigned bits;
        __builtin_memcpy(&bits, from + i, sizeof bits);
        x[n] = from[i];
        row[n] = (unsigned)i;
        n += (bits & 0x7fffffffu) != 0;
    }
    return n;
}

/* One layer for `m` states, whose inputs that are not zero are in `some`. */
TARGET static inline __attribute__((always_inline)) void FUNCTION(layer)(
    const qnet_layer *layer, int relu, int m, qnet_scratch *some)
{
    const size_t stride = (size_t)layer->padded;
    const int vectors = layer->padded / LANES;
    int at = 0;
/* Of several states, a panel of weights at a time: it stays in the first-level cache for all of them. How the
 * inputs are dealt out depends on the layer alone, so that a state's values are the same in any company. */
#define PANEL(width, deal, end)                                                                              \
    for (; at + width <= (end); at += width)                                                                 \
        for (int s = 0; s < m; s++)                                                                          \
    FUNCTION(block)(width, deal, layer->weights + at * LANES, stride, layer->bias + at * LANES, some[s].x,   \
                    some[s].row, some[s].n, relu, some[s].y + at * LANES)
    if (m == 1 || LANES < 16)
        PANEL(8, 1, vectors);
    else
        PANEL(4, 1, vectors / 8 * 8);
    PANEL(4, 2, vectors);
    PANEL(2, 4, vectors);
    PANEL(1, 8, vectors);
#undef PANEL
}

TARGET static inline __attribute__((always_inline)) void FUNCTION(forward)(
    const qnet *net, const float *states, float *q_values, int m, qnet_scratch *some)
{
    const int inputs = net->layers[0].inputs, outputs = net->layers[net->n_layers - 1].outputs;
    for (int l = 0; l < net->n_layers; l++) {
        const qnet_layer *layer = &net->layers[l];
        for (int s = 0; s < m; s++)
            some[s].n = FUNCTION(compress)(l ? some[s].y : states + (size_t)s * (size_t)inputs, layer->inputs,
                                           some[s].x, some[s].row);
        FUNCTION(layer)(layer, l < net->n_layers - 1, m, some);
    }
    for (int s = 0; s < m; s++)
        for (int i = 0; i < outputs; i++)
            q_values[(size_t)s * (size_t)outputs + (size_t)i] = some[s].y[i];
}

TARGET static void FUNCTION(forward_one)(const qnet *net, const float *state, float *q_values)
{
    float x[QNET_MAX_WIDTH + QNET_PAD];
    unsigned row[QNET_MAX_WIDTH + QNET_PAD];
    float y[QNET_MAX_WIDTH] __attribute__((aligned(QNET_ALIGN)));
    qnet_scratch some = {.x = x, .row = row, .y = y, .n = 0};
    FUNCTION(forward)(net, state, q_values, 1, &some);
}

TARGET static void FUNCTION(forward_tile)(
    const qnet *net, const float *states, float *q_values, int m, qnet_scratch *some)
{
    FUNCTION(forward)(net, states, q_values, m, some);
}

#undef VECTOR
#undef INTEGERS
#undef FUNCTION
#undef KERNEL
#undef TARGET
#undef LANES
