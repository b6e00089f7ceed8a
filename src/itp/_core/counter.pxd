# Counter-based random numbers: a pure function of (key, index), so that what one part of a
# simulation draws never shifts what another sees. The function is SplitMix64's (Steele, Lea and
# Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014): its output number `index`
# from the state `key`. Inline only, so that every module carries its own copy.
from libc.math cimport exp, log1p, sqrt
from libc.stdint cimport uint64_t


cdef inline uint64_t mix64(uint64_t z) noexcept nogil:
    z = (z ^ (z >> 30)) * <uint64_t>0xBF58476D1CE4E5B9
    z = (z ^ (z >> 27)) * <uint64_t>0x94D049BB133111EB
    return z ^ (z >> 31)


cdef inline uint64_t draw_bits(uint64_t key, uint64_t index) noexcept nogil:
    """64 uniform bits."""
    return mix64(key + (index + 1) * <uint64_t>0x9E3779B97F4A7C15)


cdef inline uint64_t draw_key(uint64_t seed, uint64_t process) noexcept nogil:
    """The key of one random process of the world `seed`."""
    return draw_bits(mix64(seed ^ <uint64_t>0xD1B54A32D192ED03), process)


cdef inline double uniform_of(uint64_t bits) noexcept nogil:
    """Uniform in [0, 1), 53 bits."""
    return <double>(bits >> 11) * (1.0 / 9007199254740992.0)


cdef inline double draw_uniform(uint64_t key, uint64_t index) noexcept nogil:
    return uniform_of(draw_bits(key, index))


cdef inline double draw_exponential(uint64_t key, uint64_t index) noexcept nogil:
    """Mean 1."""
    return -log1p(-draw_uniform(key, index))


cdef inline double draw_bell(uint64_t key, uint64_t index) noexcept nogil:
    """Mean 0, variance 1: the sum of four uniforms, near to normal and bounded by +-3.5."""
    cdef uint64_t bits = draw_bits(key, index)
    cdef double total = <double>((bits & 0xFFFF) + ((bits >> 16) & 0xFFFF)
                                 + ((bits >> 32) & 0xFFFF) + (bits >> 48))
    # Each sixteenth has mean 65535 / 2 and variance (65536^2 - 1) / 12.
    return (total - 131070.0) * (1.0 / 37837.22705)


cdef inline double draw_poisson(double mean, double u, double z) noexcept nogil:
    """A Poisson count from a uniform (mean up to 16) or from a standard normal (beyond)."""
    cdef double term, total
    cdef double count = 0.0
    if mean > 16.0:
        count = mean + sqrt(mean) * z + 0.5
        return <double><long long>count if count > 0.0 else 0.0
    term = exp(-mean)
    total = term
    while u >= total and count < 200.0:
        count += 1.0
        term *= mean / count
        total += term
    return count
