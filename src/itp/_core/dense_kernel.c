/* The same kernel for every instruction set worth having; the CPU is asked once, at import.
 *
 * As in K. Goto and R. van de Geijn, "Anatomy of high-performance matrix multiplication", 2008: a panel of b
 * stays in the first-level cache while all of a passes by, and a block of c in registers while it is summed up.
 */
#include "dense_kernel.h"

#include <string.h>

#define ROWS 6               /* of a block: with WIDTH vectors each they fill the registers */
#define DEPTH 144            /* of a panel: at most 36 KiB */
#define PANEL (WIDTH *LANES) /* columns of a panel */

#define JOIN_(a, b) a##_##b
#define JOIN(a, b) JOIN_(a, b)

#if defined(__x86_64__) || defined(__i386__)
#define KERNEL avx512
#define TARGET __attribute__((target("avx512f,avx2,fma")))
#define LANES 16
#define WIDTH 4
#define FUNCTION(name) JOIN(name, KERNEL)
#define VECTOR JOIN(floats, KERNEL)
#include "dense_kernel_body.h"

#define KERNEL avx2
#define TARGET __attribute__((target("avx2,fma")))
#define LANES 8
#define WIDTH 2
#define FUNCTION(name) JOIN(name, KERNEL)
#define VECTOR JOIN(floats, KERNEL)
#include "dense_kernel_body.h"
#endif

/* What the compiler takes for granted: SSE2 on x86-64, NEON on AArch64. */
#if defined(__ARM_NEON)
#define KERNEL neon
#define WIDTH 4
#else
#define KERNEL baseline
#define WIDTH 2
#endif
#define TARGET
#define LANES 4
#define FUNCTION(name) JOIN(name, KERNEL)
#define VECTOR JOIN(floats, KERNEL)
#include "dense_kernel_body.h"

int dense_kernels(dense_kernel out[3])
{
    int n = 0;
#if defined(__x86_64__) || defined(__i386__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f"))
        out[n++] = (dense_kernel){"avx512", product_avx512};
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        out[n++] = (dense_kernel){"avx2", product_avx2};
#endif
#if defined(__ARM_NEON)
    out[n++] = (dense_kernel){"neon", product_neon};
#else
    out[n++] = (dense_kernel){"baseline", product_baseline};
#endif
    return n;
}
