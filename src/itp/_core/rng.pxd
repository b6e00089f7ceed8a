# A seeded generator for C loops: xoshiro256++ (Blackman and Vigna, "Scrambled linear
# pseudorandom number generators", ACM TOMS 47(4), 2021), seeded through SplitMix64
# as its authors advise.
from libc.stdint cimport uint64_t


ctypedef struct Rng:
    uint64_t s[4]
    uint64_t process            # the process that draws from it


# 0; in a forked child a hash of its parent's number and of the fork's number in the parent.
cdef uint64_t process_number


cdef inline uint64_t rng_splitmix64(uint64_t* state) noexcept nogil:
    state[0] += <uint64_t>0x9E3779B97F4A7C15
    cdef uint64_t z = state[0]
    z = (z ^ (z >> 30)) * <uint64_t>0xBF58476D1CE4E5B9
    z = (z ^ (z >> 27)) * <uint64_t>0x94D049BB133111EB
    return z ^ (z >> 31)


cdef inline void rng_seed(Rng* rng, uint64_t seed) noexcept nogil:
    cdef int i
    for i in range(4):
        rng.s[i] = rng_splitmix64(&seed)
    rng.process = process_number


cdef inline uint64_t _rotl(uint64_t x, int k) noexcept nogil:
    return (x << k) | (x >> (64 - k))


cdef inline uint64_t rng_next(Rng* rng) noexcept nogil:
    """64 uniform bits; a forked child draws from a stream of its own."""
    if rng.process != process_number:
        rng_seed(rng, rng.s[0] ^ process_number)
    cdef uint64_t result = _rotl(rng.s[0] + rng.s[3], 23) + rng.s[0]
    cdef uint64_t t = rng.s[1] << 17
    rng.s[2] ^= rng.s[0]
    rng.s[3] ^= rng.s[1]
    rng.s[1] ^= rng.s[2]
    rng.s[0] ^= rng.s[3]
    rng.s[2] ^= t
    rng.s[3] = _rotl(rng.s[3], 45)
    return result


cdef inline double rng_double(Rng* rng) noexcept nogil:
    """Uniform in [0, 1), 53 bits."""
    return <double>(rng_next(rng) >> 11) * (1.0 / 9007199254740992.0)


cdef inline uint64_t rng_below(Rng* rng, uint64_t n) noexcept nogil:
    """Uniform integer in [0, n), n >= 1, without modulo bias (rejection)."""
    cdef uint64_t limit = <uint64_t>(-n) % n
    cdef uint64_t x = rng_next(rng)
    while x < limit:
        x = rng_next(rng)
    return x % n
