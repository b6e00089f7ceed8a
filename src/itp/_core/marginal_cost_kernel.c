/* One lane a task: a register of AVX-512, two of AVX2, four of SSE2 and NEON. Every instruction set gives the
 * same bits: products are not fused with sums. */
#include "marginal_cost_kernel.h"

#include <string.h>

/* The C library picks the clone; musl cannot. */
#if defined(__x86_64__) && defined(__GLIBC__)
#define CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define CLONES
#endif

#define REFINEMENTS 2 /* of a water level: they come within a per mille of it */

typedef float lanes __attribute__((vector_size(4 * ITP_EXPECTED_LANES)));
typedef int32_t bits __attribute__((vector_size(4 * ITP_EXPECTED_LANES)));

#define LOAD(x, from) memcpy(&(x), (from), sizeof(x))
/* `a` in the lanes where `mask` is -1, `b` where it is 0. */
#define SELECT(mask, a, b) ((lanes)(((bits)(a) & (mask)) | ((bits)(b) & ~(mask))))
#define ALL(x) ((lanes){0} + (x))

CLONES float itp_expected_cost(const itp_expected *e, uint32_t mask, float planned)
{
    lanes added[ITP_EXPECTED_STREAMS], delay[ITP_EXPECTED_STREAMS];
    lanes size, elapsed, weight, x, behind, left = {0}, level = ALL(1e9f);
    bits splits, overtakes;
    LOAD(size, e->size);
    LOAD(elapsed, e->elapsed);
    LOAD(weight, e->weight);
    LOAD(splits, e->splits);
    LOAD(overtakes, e->overtakes);
    for (int j = 0; j < e->n; j++) {
        if (!(mask & e->member[j]))
            continue;
        lanes ahead;
        LOAD(ahead, e->ahead[j]);
        x = ALL(planned - e->latency[j]) - elapsed;
        x = SELECT(x > 0.0f, x, ALL(0.0f)) - ahead;
        added[j] = SELECT(x > 0.0f, x, ALL(0.0f));
        left += added[j] * e->rate[j];
    }
    behind = SELECT((size < left) & overtakes, ALL(e->behind), ALL(1.0f));
    for (int j = 0; j < e->n; j++) {
        LOAD(delay[j], e->delay[j]);
        if (mask & e->member[j])
            delay[j] += behind * added[j];
        LOAD(x, e->alone[j]);
        x += delay[j];
        level = SELECT(x < level, x, level);
    }
    /* Over whatever streams, (size + sum of rate x delay) / sum of rates is at least the water level. */
    const lanes whole = level;
    for (int k = 0; k < REFINEMENTS; k++) {
        lanes carried = size, rate = {0};
        for (int j = 0; j < e->n; j++) {
            x = SELECT(delay[j] <= level, ALL(e->rate[j]), ALL(0.0f));
            rate += x;
            carried += x * delay[j];
        }
        x = carried / SELECT(rate > 0.0f, rate, ALL(1.0f));
        level = SELECT((rate > 0.0f) & (x < level), x, level);
    }
    level = SELECT(splits, level, whole);
    /* The binary logarithm of fastlog.pxd. */
    bits number;
    lanes f, p;
    LOAD(number, &level);
    const lanes exponent = __builtin_convertvector((number >> 23) - 127, lanes);
    number = (number & 0x7fffff) | 0x3f800000;
    LOAD(f, &number);
    f -= 1.0f;
    p = 0.02395705f * f - 0.09192337f;
    p = p * f + 0.17894162f;
    p = p * f - 0.27469423f;
    p = p * f + 0.44245486f;
    x = exponent + f + f * (1.0f - f) * p;
    x = weight * (x * (0.6931472f * (1.0f - e->bulk)) + level * e->bulk);
    float sum[ITP_EXPECTED_LANES];
    memcpy(sum, &x, sizeof sum);
    for (int half = ITP_EXPECTED_LANES / 2; half > 0; half /= 2)
        for (int k = 0; k < half; k++)
            sum[k] += sum[k + half];
    return sum[0];
}
