"""Records of joined decisions: gathered by the threads that report, taken by the one that writes them."""
cimport cython
from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_FromStringAndSize
from cpython.unicode cimport PyUnicode_AsUTF8AndSize
from libc.stdint cimport uint32_t
from libc.string cimport memcpy, memset

from itp._core.decision cimport Decision, action_of_mask

from itp.errors import LogError

cdef enum:
    CRC_BYTES = 4

cdef uint32_t _CRC[8][256]


def _fill_crc_tables():
    for i in range(256):
        crc = i
        for _ in range(8):
            crc = (crc >> 1) ^ (0xEDB88320 if crc & 1 else 0)
        _CRC[0][i] = crc
    for k in range(1, 8):
        for i in range(256):
            _CRC[k][i] = (_CRC[k - 1][i] >> 8) ^ _CRC[0][_CRC[k - 1][i] & 0xFF]


_fill_crc_tables()


cdef uint32_t _crc32(const unsigned char* data, size_t n) noexcept nogil:
    """The CRC-32 of zlib, eight bytes at a time."""
    cdef uint32_t crc = 0xFFFFFFFF
    while n >= 8:
        crc ^= (data[0] | <uint32_t>data[1] << 8 | <uint32_t>data[2] << 16 | <uint32_t>data[3] << 24)
        crc = (_CRC[7][crc & 0xFF] ^ _CRC[6][(crc >> 8) & 0xFF] ^ _CRC[5][(crc >> 16) & 0xFF]
               ^ _CRC[4][crc >> 24] ^ _CRC[3][data[4]] ^ _CRC[2][data[5]] ^ _CRC[1][data[6]]
               ^ _CRC[0][data[7]])
        data += 8
        n -= 8
    while n:
        crc = (crc >> 8) ^ _CRC[0][(crc ^ data[0]) & 0xFF]
        data += 1
        n -= 1
    return ~crc


def seal(unsigned char[::1] frames not None, size_t frame_bytes):
    """Close every frame by the CRC-32 of its other bytes, without the GIL."""
    cdef size_t k, count = frames.shape[0] // frame_bytes
    cdef unsigned char* frame
    cdef uint32_t crc
    with nogil:
        for k in range(count):
            frame = &frames[k * frame_bytes]
            crc = _crc32(frame, frame_bytes - CRC_BYTES)
            memcpy(frame + frame_bytes - CRC_BYTES, &crc, CRC_BYTES)


def first_damaged(const unsigned char[::1] frames not None, size_t frame_bytes):
    """The number of the first frame whose CRC-32 is wrong, or -1."""
    cdef Py_ssize_t k, count = frames.shape[0] // frame_bytes, found = -1
    cdef const unsigned char* frame
    cdef uint32_t crc
    with nogil:
        for k in range(count):
            frame = &frames[k * frame_bytes]
            memcpy(&crc, frame + frame_bytes - CRC_BYTES, CRC_BYTES)
            if crc != _crc32(frame, frame_bytes - CRC_BYTES):
                found = k
                break
    return found


@cython.final
cdef class RecordQueue:
    """Records in memory of bounded size, each a frame of the log: the record and room for its CRC-32.

    Parameters
    ----------
    n_streams : int
    limit_bytes : int
        Of the frames gathered and taken together; what does not fit is lost and counted.
    chunk_bytes : int
        Memory is taken in pieces of at most this size, and of at least one frame.

    Attributes
    ----------
    frame_bytes, chunk_bytes : int
        A chunk is whole frames.
    gathered_bytes : int
        Ready to be taken.
    lost : int
        Records that did not fit.

    Notes
    -----
    Thread safety: every method keeps the GIL and is atomic. None waits for a lock or for a disk, so a fork
    finds the queue whole.
    """

    def __cinit__(self, int n_streams, size_t limit_bytes, size_t chunk_bytes):
        self.n_streams = n_streams
        self.frame_bytes = record_bytes(n_streams) + CRC_BYTES
        self.chunk_bytes = max(chunk_bytes // self.frame_bytes, 1) * self.frame_bytes
        self.limit_bytes = limit_bytes
        self.full = []
        self.newest = []
        self.provisional = []

    def add(self, Decision decision not None):
        """Gather the record of a reported decision.

        That of the newest decision lacks its next state. It is kept aside until the next decision is made.

        Returns
        -------
        bool
            Whether the writer is to be woken: it rests, or a chunk is full.

        Raises
        ------
        ValueError
            The decision is about another number of streams, or its outcome was not reported.
        LogError
            The queue is closed.
        """
        if self.closed:
            raise LogError("the log is closed")
        if decision.plan.paths.n != self.n_streams:
            raise ValueError(f"the decision is about {decision.plan.paths.n} streams; "
                             f"the log keeps those about {self.n_streams}")
        if not decision.reported:
            raise ValueError(f"task {decision.task.id!r}: report the outcome before the decision is kept")
        cdef Py_ssize_t full = len(self.full)
        self._gather_complete()
        if decision.has_next:
            self._gather(decision, done=False)
        else:
            self.newest.append(decision)
        wake = not self.awake or len(self.full) > full
        self.awake = True
        return wake

    def take(self, bint newest):
        """Hand over what is gathered.

        Parameters
        ----------
        newest : bool
            With it, hand over the newest decisions too, as if nothing came after them. When a next one is
            made, they are gathered again, with their next states.

        Returns
        -------
        (list of bytearray, int, int)
            Chunks, all full but the last one; the bytes of the last one; how many of the decisions that
            were handed over as the newest ones, now or before, still are.
        """
        cdef Decision decision
        cdef list empty = []
        self._gather_complete()
        while newest and self.newest:
            decision = self.newest.pop(0)
            self._gather(decision, done=True)
            self.provisional.append(decision)
        chunks, self.full = self.full, empty
        last, used = self.chunk, self.used
        self.chunk, self.used = None, 0
        self.taken_bytes += self.gathered_bytes
        self.gathered_bytes = 0
        if used:
            chunks.append(last)
        return chunks, used if used else self.chunk_bytes, len(self.provisional)

    def written(self, size_t n_bytes):
        """Give back the room of frames that were taken."""
        self.taken_bytes -= n_bytes

    def rest(self):
        """Whether there is nothing to take; the next `add` then asks to wake the writer."""
        if self.gathered_bytes or self.newest:
            return False
        self.awake = False
        return True

    @property
    def waiting(self):
        """Records that are not written yet."""
        return (self.gathered_bytes + self.taken_bytes) // self.frame_bytes + len(self.newest)

    def close(self):
        """Refuse whatever comes."""
        self.closed = True

    cdef int _gather_complete(self) except -1:
        """Gather the records of decisions whose next state has become known."""
        self._complete(self.newest)
        self._complete(self.provisional)
        return 0

    cdef int _complete(self, list decisions) except -1:
        """Gather the complete ones and leave the others in the list."""
        cdef Decision decision
        cdef Py_ssize_t i = 0
        # Each is removed before it is gathered: a collection may run code that adds another one.
        while i < len(decisions):
            decision = decisions[i]
            if decision.has_next:
                del decisions[i]
                self._gather(decision, done=False)
            else:
                i += 1
        return 0

    cdef int _gather(self, Decision decision, bint done) except -1:
        cdef RecordHead head
        head.number = decision.plan.number
        head.decided_at_s = decision.plan.decided_at_s
        head.completed_at_s = decision.completed_at_s
        head.reward = <float>decision.reward
        head.propensity = <float>decision.plan.propensity
        head.action = action_of_mask(decision.plan.action_mask, self.n_streams)
        head.source = decision.plan.source
        head.explored = decision.plan.explored
        head.done = done
        _write_text(head.task_id, decision.task.id)
        _write_text(head.model_version, decision.model_version)
        # From here on no Python code runs.
        if self.gathered_bytes + self.taken_bytes + self.frame_bytes > self.limit_bytes:
            self.lost += 1
            return 0
        if self.chunk is None:
            try:
                self.chunk = PyByteArray_FromStringAndSize(NULL, self.chunk_bytes)
            except MemoryError:
                self.lost += 1
                return 0
        write_record(PyByteArray_AS_STRING(self.chunk) + self.used, &head, decision.plan.state,
                     decision.state_next, self.n_streams)
        self.used += self.frame_bytes
        self.gathered_bytes += self.frame_bytes
        if self.used == self.chunk_bytes:
            self.full.append(self.chunk)
            self.chunk = None
            self.used = 0
        return 0


cdef int _write_text(char* out, str text) except -1:
    """UTF-8, cut between two characters, padded with zeros."""
    cdef Py_ssize_t n = 0
    cdef const char* encoded
    cdef bytes replaced
    memset(out, 0, TEXT_BYTES)
    if text is None:
        return 0
    try:
        encoded = PyUnicode_AsUTF8AndSize(text, &n)
    except UnicodeEncodeError:  # a lone surrogate
        replaced = text.encode("utf-8", "replace")
        encoded = replaced
        n = len(replaced)
    if n > TEXT_BYTES:
        n = TEXT_BYTES
        while n and (encoded[n] & 0xC0) == 0x80:
            n -= 1
    memcpy(out, encoded, n)
    return 0
