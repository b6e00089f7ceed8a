# Who is served when, in one simulated environment.
from libc.stdint cimport int64_t

from itp._core.sim.env cimport Env

# A chunk has come to a stream.
cdef void enqueue(Env* env, int i, int slot) noexcept nogil
# The chunk in service is through.
cdef void chunk_done(Env* env, int i) noexcept nogil
# Somebody in line has waited so long that he goes ahead.
cdef void come_of_age(Env* env, int i) noexcept nogil
# An outage begins or ends; a retransmission gets through.
cdef void outage_event(Env* env, int i) noexcept nogil
cdef void resume(Env* env, int i) noexcept nogil
# Let a stream that has been idle look for work elsewhere.
cdef void offer(Env* env, int i) noexcept nogil
# How much of a chunk will be lost and sent again.
cdef void draw_loss(Env* env, int slot, int i) noexcept nogil
cdef void complete_task(Env* env, int slot) noexcept nogil
# Bytes served before a task of this size and class that arrives now.
cdef double bytes_ahead(Env* env, int i, double size_bytes, int klass) noexcept nogil
# All bytes that are left on a stream.
cdef double bytes_waiting(const Env* env, int i) noexcept nogil


cdef inline double reference_s(const Env* env, int64_t size_bytes) noexcept nogil:
    """What a task would take over all paths together, empty."""
    return env.reference[0] + <double>size_bytes / env.reference[1]
