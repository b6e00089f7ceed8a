/* The same kernel for every instruction set worth having; the CPU is asked once, at import. */
#include "itp_setnet.h"

#include <stddef.h>

#define JOIN_(a, b) a##_##b
#define JOIN(a, b) JOIN_(a, b)

#if defined(__x86_64__) || defined(__i386__)
#define KERNEL avx512
#define TARGET __attribute__((target("avx512f,avx2,fma,popcnt")))
#define LANES 16
#define FUNCTION(name) JOIN(name, KERNEL)
#define VECTOR JOIN(floats, KERNEL)
#define INTEGERS JOIN(ints, KERNEL)
#include "setnet_kernel_body.h"

#define KERNEL avx2
#define TARGET __attribute__((target("avx2,fma,popcnt")))
#define LANES 8
#define FUNCTION(name) JOIN(name, KERNEL)
#define VECTOR JOIN(floats, KERNEL)
#define INTEGERS JOIN(ints, KERNEL)
#include "setnet_kernel_body.h"
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
#include "setnet_kernel_body.h"

int setnet_kernels(setnet_kernel out[3])
{
    int n = 0;
#if defined(__x86_64__) || defined(__i386__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f"))
        out[n++] = (setnet_kernel){"avx512", forward_avx512};
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        out[n++] = (setnet_kernel){"avx2", forward_avx2};
#endif
#if defined(__ARM_NEON)
    out[n++] = (setnet_kernel){"neon", forward_neon};
#else
    out[n++] = (setnet_kernel){"baseline", forward_baseline};
#endif
    return n;
}
