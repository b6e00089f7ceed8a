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
    for (int v = 0; v < width; v++)
        ((VECTOR *)y)[v] = relu ? (VECTOR)((sum[v] > 0.0f) & (INTEGERS)sum[v]) : sum[v];
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

TARGET static void FUNCTION(forward)(const qnet *net, const float *state, float *q_values)
{
    /* The inputs of a layer that are not zero: their values and their rows. */
    float x[QNET_MAX_WIDTH + QNET_PAD];
    unsigned row[QNET_MAX_WIDTH + QNET_PAD];
    float y[QNET_MAX_WIDTH] __attribute__((aligned(QNET_ALIGN)));
    const float *from = state;
    for (int l = 0; l < net->n_layers; l++) {
        const qnet_layer *layer = &net->layers[l];
        const size_t stride = (size_t)layer->padded;
        const int relu = l < net->n_layers - 1;
        const int n = FUNCTION(compress)(from, layer->inputs, x, row);
        int at = 0, left = layer->padded / LANES;
#define BLOCK(width, deal)                                                                                   \
    for (; left >= width; left -= width, at += width * LANES)                                                \
    FUNCTION(block)(width, deal, layer->weights + at, stride, layer->bias + at, x, row, n, relu, y + at)
        BLOCK(8, 1);
        BLOCK(4, 2);
        BLOCK(2, 4);
        BLOCK(1, 8);
#undef BLOCK
        from = y;
    }
    for (int i = 0; i < net->layers[net->n_layers - 1].outputs; i++)
        q_values[i] = y[i];
}

#undef VECTOR
#undef INTEGERS
#undef FUNCTION
#undef KERNEL
#undef TARGET
#undef LANES
