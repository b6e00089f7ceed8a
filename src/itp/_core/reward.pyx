"""The one reward, for production, simulator and training alike."""
cimport cython
from libc.stdint cimport int64_t

from itp._core.arguments cimport byte_count, real_between


@cython.final
cdef class RewardWeights:
    """Weights of the reward's five terms; from 0 to 1e6, penalties are subtracted.

    reward = throughput * improvement - latency * latency penalty - imbalance * stream imbalance
    + completion * completed - retransmission * retransmission penalty
    """

    def __cinit__(self, *, throughput=1.0, latency=0.5, imbalance=0.3, completion=2.0, retransmission=1.0):
        self.throughput = real_between("throughput", throughput, 0.0, 1e6, "0 to 1e6")
        self.latency = real_between("latency", latency, 0.0, 1e6, "0 to 1e6")
        self.imbalance = real_between("imbalance", imbalance, 0.0, 1e6, "0 to 1e6")
        self.completion = real_between("completion", completion, 0.0, 1e6, "0 to 1e6")
        self.retransmission = real_between("retransmission", retransmission, 0.0, 1e6, "0 to 1e6")

    def as_dict(self):
        """The weights by name."""
        return {"throughput": self.throughput, "latency": self.latency, "imbalance": self.imbalance,
                "completion": self.completion, "retransmission": self.retransmission}

    def __repr__(self):
        return f"RewardWeights({', '.join(f'{k}={v}' for k, v in self.as_dict().items())})"

    def __eq__(self, other):
        if not isinstance(other, RewardWeights):
            return NotImplemented
        return self.as_dict() == other.as_dict()

    def __hash__(self):
        return hash(tuple(self.as_dict().values()))

    def __reduce__(self):
        return _weights_from_dict, (self.as_dict(),)


def _weights_from_dict(weights):
    return RewardWeights(**weights)


cdef double reference_time(int64_t size_bytes, const double* rate_Bps, const double* latency_s,
                           int n) noexcept nogil:
    cdef double rate = 0.0, latency = latency_s[0]
    cdef int i
    for i in range(n):
        rate += rate_Bps[i]
        if latency_s[i] < latency:
            latency = latency_s[i]
    # With no rate known a second a byte stands in: bounded terms, no division by zero.
    return latency + <double>size_bytes / (rate if rate > 0.0 else 1.0)


cdef void reward_terms(const Outcome* outcome, int64_t size_bytes, double reference_time_s,
                       Terms* out) noexcept nogil:
    cdef double size = <double>size_bytes
    cdef double resent = <double>outcome.retransmitted_bytes
    # 0 where nothing is known to move, in an infinite time.
    cdef double reference_mbps = size * 8e-6 / reference_time_s
    cdef double sum_mbps = outcome.throughput_mbps + reference_mbps
    # (x - 1) / (x + 1) of x = achieved / reference, written so that no ratio overflows.
    out.throughput = ((outcome.throughput_mbps - reference_mbps) / sum_mbps) if sum_mbps > 0.0 else 0.0
    out.latency = outcome.latency_s / (outcome.latency_s + reference_time_s)
    out.imbalance = outcome.imbalance
    out.completion = 1.0 if outcome.success else 0.0
    out.retransmission = resent / (resent + size)


cdef double weighted(const Terms* terms, double throughput, double latency, double imbalance,
                     double completion, double retransmission) noexcept nogil:
    return (throughput * terms.throughput - latency * terms.latency - imbalance * terms.imbalance
            + completion * terms.completion - retransmission * terms.retransmission)


def terms(*, size_bytes, reference_time_s, throughput_mbps, latency_s, success,
          retransmitted_bytes=0, imbalance=0.0):
    """The reward's five terms of one outcome, by name.

    Parameters
    ----------
    size_bytes : int
        The task's size, >= 1.
    reference_time_s : float
        > 0; what the task would take over all paths that are up together, if they were empty.
    throughput_mbps, latency_s : float
        Achieved goodput, and time from decision to completion; finite and >= 0.
    success : bool
    retransmitted_bytes : int
        >= 0.
    imbalance : float
        1 - (first stream's finish / last stream's finish), in [0, 1].
    """
    cdef Outcome outcome
    cdef Terms t
    cdef int64_t size = byte_count("size_bytes", size_bytes, 1)
    cdef double reference = real_between("reference_time_s", reference_time_s, 0.0, 1e300, "0 to 1e300")
    if reference == 0.0:
        raise ValueError("reference_time_s = 0: expected a time > 0")
    outcome.throughput_mbps = real_between("throughput_mbps", throughput_mbps, 0.0, 1e300, "0 to 1e300")
    outcome.latency_s = real_between("latency_s", latency_s, 0.0, 1e300, "0 to 1e300")
    outcome.success = success
    outcome.retransmitted_bytes = byte_count("retransmitted_bytes", retransmitted_bytes, 0)
    outcome.imbalance = real_between("imbalance", imbalance, 0.0, 1.0, "0 to 1.0")
    reward_terms(&outcome, size, reference, &t)
    return {"throughput": t.throughput, "latency": t.latency, "imbalance": t.imbalance,
            "completion": t.completion, "retransmission": t.retransmission}


def reward(weights, **outcome):
    """The weighted sum of ``terms(**outcome)``."""
    cdef RewardWeights w = weights
    cdef dict t = terms(**outcome)
    return (w.throughput * t["throughput"] - w.latency * t["latency"] - w.imbalance * t["imbalance"]
            + w.completion * t["completion"] - w.retransmission * t["retransmission"])
