/* What a task's choice of streams costs those expected after it: see marginal_cost.pyx. */
#ifndef ITP_MARGINAL_COST_KERNEL_H
#define ITP_MARGINAL_COST_KERNEL_H

#include <stdint.h>

#define ITP_EXPECTED_LANES 16 /* a time and a size each */
#define ITP_EXPECTED_STREAMS 16

/* The expected tasks, a lane each, and the streams that are up as they find them. Times are in mean reference
 * times, rates in shares of the total, sizes in what all streams carry in a mean reference time. */
typedef struct {
    int n;                                  /* streams that are up */
    uint32_t member[ITP_EXPECTED_STREAMS];  /* the bit of each */
    float rate[ITP_EXPECTED_STREAMS];       /* > 0 */
    float latency[ITP_EXPECTED_STREAMS];
    float bulk;                             /* weight of the completion time against that of its logarithm */
    float behind;                           /* share of a larger task's work that delays one of SRPT */
    float elapsed[ITP_EXPECTED_LANES];      /* until it comes */
    float size[ITP_EXPECTED_LANES];
    float weight[ITP_EXPECTED_LANES];       /* tasks that it stands for */
    int32_t splits[ITP_EXPECTED_LANES];     /* -1: it may be split; 0: it may not */
    int32_t overtakes[ITP_EXPECTED_LANES];  /* -1: it goes ahead of a larger task; 0: it does not */
    float ahead[ITP_EXPECTED_STREAMS][ITP_EXPECTED_LANES]; /* work ahead by then, ... */
    float delay[ITP_EXPECTED_STREAMS][ITP_EXPECTED_LANES]; /* ... with the latency; ... */
    float alone[ITP_EXPECTED_STREAMS][ITP_EXPECTED_LANES]; /* ... and the time to carry the whole task */
} itp_expected;

/* Their cost where a task goes over the streams of `mask` and is planned to be through at `planned`. */
float itp_expected_cost(const itp_expected *expected, uint32_t mask, float planned);

#endif
