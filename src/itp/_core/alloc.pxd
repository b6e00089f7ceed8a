# Chunk sizes in exact integer bytes, and completion-time estimates.
# A stream set is a bit mask over n <= 16 streams; chunks outside the returned mask are 0.
from libc.stdint cimport int64_t, uint32_t

cdef enum Rule:
    WATER_FILLING = 0       # equal estimated finish
    PROPORTIONAL = 1        # to capacity: bandwidth x success rate / (1 + congestion)
    EQUAL = 2               # the same number of bytes each

cdef enum:
    LEAST_CHUNK_BYTES = 65536   # where the caller names no other: a stream whose share is smaller is left out


# Shares proportional to weight >= 0; all weights zero: equal shares. Returns the streams kept:
# one whose share is under `min_chunk_bytes` (>= 1) is dropped, the smallest share first.
cdef uint32_t allocate_proportional(int64_t size_bytes, const double* weight, int n, uint32_t mask,
                                    int64_t min_chunk_bytes, int64_t* chunks) noexcept nogil

# Shares that finish together at rate_Bps >= 0 after delay_s >= 0; all rates zero: equal shares.
cdef uint32_t allocate_water_filling(int64_t size_bytes, const double* rate_Bps, const double* delay_s,
                                     int n, uint32_t mask, int64_t min_chunk_bytes,
                                     int64_t* chunks) noexcept nogil

# When the last of these chunks is done, in seconds; infinite if one has a stream of rate 0.
cdef double completion_time_s(const int64_t* chunks, const double* rate_Bps, const double* delay_s,
                              uint32_t mask) noexcept nogil

# The level T of water-filling over `mask` in double precision, its streams given in order of
# delay; the streams that carry at least `min_chunk_bytes` at that level go to `kept`.
cdef double water_level_s(double size_bytes, const double* rate_Bps, const double* delay_s,
                          const int* by_delay, int n, uint32_t mask, double min_chunk_bytes,
                          uint32_t* kept) noexcept nogil

# Indexes of streams 0..n-1 in order of `key`, ties by index.
cdef void order_by(const double* key, int n, int* order) noexcept nogil
