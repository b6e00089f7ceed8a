# The ledger of one stream: its line of chunks in flight.
from libc.stdint cimport int64_t, uint64_t

from itp._core.order cimport FIFO, SRPT

# One task's chunk on one stream, not yet reported as done.
ctypedef struct Flight:
    uint64_t number             # of the decision; ascending, so the queue is sorted by it
    int64_t left_bytes          # of the chunk, as far as progress reports have told
    int64_t elsewhere_bytes     # of the task on other streams: left + elsewhere ranks it under SRPT
    int64_t bytes               # of the chunk
    double admitted_s
    double waited_s             # since then, while the stream served others, as far as outcomes have told ...
    double waited_to_s          # ... the last of which was through then
    int priority_class

# The chunks of one stream in order of admission: flights[head : head + count].
ctypedef struct Queue:
    Flight* flights
    int64_t head
    int64_t count
    int64_t capacity
    int64_t* heap               # scratch of `capacity`: what SRPT serves next
    double total_bytes          # sum of left_bytes over the queue, plus orphan_bytes
    double orphan_bytes         # of decisions dropped without an outcome; they only drain
    double drained_bytes        # presumed served since the last report: at most total_bytes
    double drained_at_s


# Room for one more flight; False: no memory for it, and nothing changed.
cdef bint queue_reserve(Queue* q) noexcept nogil
cdef void queue_free(Queue* q) noexcept nogil

# Presume that the stream has served at its bandwidth since the last look.
cdef void queue_drain(Queue* q, double rate_Bps, double now_s) noexcept nogil
# Bytes served before a task of this size and class that arrives now.
cdef double queue_ahead_bytes(const Queue* q, int order, double size_bytes, int klass,
                              double now_s) noexcept nogil
# Take bytes that are known to be delivered off the line, in service order.
cdef void queue_serve(Queue* q, int order, int64_t delivered_bytes, double now_s) noexcept nogil
# The flight of a decision, or NULL.
cdef Flight* queue_flight(const Queue* q, uint64_t number) noexcept nogil
# Bytes of older flights, their outcomes still to come, that one which is through waited for at this rate.
cdef double queue_unreported_bytes(const Queue* q, int order, const Flight* through, double rate_Bps,
                                   double now_s) noexcept nogil
# The stream has served one decision's chunk for so long, up to `until_s`; those behind it waited.
cdef void queue_note_service(Queue* q, int order, uint64_t number, double service_s,
                             double until_s) noexcept nogil
# Whether a decision's chunk is in the line.
cdef bint queue_holds(const Queue* q, uint64_t number) noexcept nogil
# Take one decision's chunk out, False if it is not there; with `orphan` its bytes stay, to drain.
cdef bint queue_remove(Queue* q, uint64_t number, bint orphan) noexcept nogil
