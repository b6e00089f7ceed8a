/* Includes BODY once for every instruction set worth having. It finds KERNEL (the name), TARGET, LANES (floats of a
 * register), FUNCTION(name), and VECTOR and INTEGERS (names for its types); it undefines them at its end. */
#define JOIN_(a, b) a##_##b
#define JOIN(a, b) JOIN_(a, b)

#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>

#define KERNEL avx512
#define TARGET __attribute__((target("avx512f,avx2,fma,popcnt")))
#define LANES 16
#define FUNCTION(name) JOIN(name, KERNEL)
#define VECTOR JOIN(floats, KERNEL)
#define INTEGERS JOIN(ints, KERNEL)
#include BODY

#define KERNEL avx2
#define TARGET __attribute__((target("avx2,fma,popcnt")))
#define LANES 8
#define FUNCTION(name) JOIN(name, KERNEL)
#define VECTOR JOIN(floats, KERNEL)
#define INTEGERS JOIN(ints, KERNEL)
#include BODY
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
#include BODY

/* Entries of the kernels this CPU can run, the fastest first: the CPU is asked once, at import. */
#if defined(__x86_64__) || defined(__i386__)
#define ADD_X86(out, n, ENTRY)                                                                                \
    do {                                                                                                      \
        __builtin_cpu_init();                                                                                 \
        if (__builtin_cpu_supports("avx512f"))                                                                \
            (out)[(n)++] = ENTRY(avx512);                                                                     \
        if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))                                  \
            (out)[(n)++] = ENTRY(avx2);                                                                       \
    } while (0)
#else
#define ADD_X86(out, n, ENTRY) (void)0
#endif
#if defined(__ARM_NEON)
#define ADD_KERNELS(out, n, ENTRY) ADD_X86(out, n, ENTRY); (out)[(n)++] = ENTRY(neon)
#else
#define ADD_KERNELS(out, n, ENTRY) ADD_X86(out, n, ENTRY); (out)[(n)++] = ENTRY(baseline)
#endif
