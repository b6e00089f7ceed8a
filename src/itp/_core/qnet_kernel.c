/* The same kernel for every instruction set worth having; the CPU is asked once, at import. */
#include "itp_qnet.h"

#include <stddef.h>
#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#endif

#define JOIN_(a, b) a##_##b
#define JOIN(a, b) JOIN_(a, b)

#if defined(__x86_64__) || defined(__i386__)
#define KERNEL avx512
#define TARGET __attribute__((target("avx512f,avx2,fma,popcnt")))
#define LANES 16
#define FUNCTION(name) JOIN(name, KERNEL)
#define VECTOR JOIN(floats, KERNEL)
#define INTEGERS JOIN(ints, KERNEL)
#include "qnet_kernel_body.h"

#define KERNEL avx2
#define TARGET __attribute__((target("avx2,fma")))
#define LANES 8
#define FUNCTION(name) JOIN(name, KERNEL)
#define VECTOR JOIN(floats, KERNEL)
#define INTEGERS JOIN(ints, KERNEL)
#include "qnet_kernel_body.h"
#endif

/* What the compiler takes for granted: SSE2 on x86-64, NEON on AArch64. */
#if defined(__ARM_NEON)
#define KERNEL neon
#else
#define KERNEL baseline
#endif
#define TARGET
#define LANES 4
#define FUNCTION(name) JOIN(name, KERNEL)
#define VECTOR JOIN(floats, KERNEL)
#define INTEGERS JOIN(ints, KERNEL)
#include "qnet_kernel_body.h"

int qnet_kernels(qnet_kernel out[3])
{
    int n = 0;
#if defined(__x86_64__) || defined(__i386__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f"))
        out[n++] = (qnet_kernel){"avx512", forward_one_avx512, forward_tile_avx512};
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        out[n++] = (qnet_kernel){"avx2", forward_one_avx2, forward_tile_avx2};
#endif
#if defined(__ARM_NEON)
    out[n++] = (qnet_kernel){"neon", forward_one_neon, forward_tile_neon};
#else
    out[n++] = (qnet_kernel){"baseline", forward_one_baseline, forward_tile_baseline};
#endif
    return n;
}
