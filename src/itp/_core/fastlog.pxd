# log2 of a positive, finite float to 5e-6, in a few vectorizable operations; the same bits on every CPU.
cdef extern from * nogil:
    """
    #include <stdint.h>
    #include <string.h>

    static inline float itp_log2(float x)
    {
        int32_t bits;
        float f, p;
        memcpy(&bits, &x, sizeof bits);
        const int32_t exponent = (bits >> 23) - 127;
        bits = (bits & 0x7fffff) | 0x3f800000;
        memcpy(&f, &bits, sizeof f);
        f -= 1.0f;
        /* log2(1 + f) = f + f (1 - f) p(f): exact at both ends, so that octaves join. */
        p = 0.02395705f;
        p = p * f - 0.09192337f;
        p = p * f + 0.17894162f;
        p = p * f - 0.27469423f;
        p = p * f + 0.44245486f;
        return (float)exponent + f + f * (1.0f - f) * p;
    }
    """
    float fast_log2 "itp_log2"(float x)
