"""What a decider has learnt, as plain values, and back: estimates, workload, reliability of the confidence.

Times are ages, so that they mean something to the monotonic clock of another boot.
"""
from libc.math cimport INFINITY
from libc.stdint cimport int64_t

from itp._core.arguments cimport integer, real_between
from itp._core.calibration cimport BINS, Reliability
from itp._core.decider cimport Decider
from itp._core.state cimport (
    MAX_INTERVAL_S,
    STREAM_LIMIT,
    Evidence,
    Freshness,
    Network,
    StreamMetrics,
    network_monotonic_s,
    network_unix_s,
    set_bandwidth,
    set_latency,
)
from itp._core.workload cimport WORKLOAD_WINDOW, Workload, workload_order

from itp._core.order import SERVICE_ORDERS as _SERVICE_ORDERS

cdef double _MOST = 1e30            # their products stay finite in double precision
cdef double _MOST_S = 1e12
cdef int64_t _MOST_TASKS = 1 << 53

# Fields of a Workload beside the sizes, the time and the count.
_MEANS = ("gap_short_s", "gap_long_s", "gap_square_s2", "bytes_short")
_WEIGHTS = ("weight_short", "weight_long", "bytes_weight")
_METRICS = ("bandwidth_Bps", "latency_s", "success_rate", "variability", "lateness", "measured_age_s")
_EVIDENCE = ("known", "share", "drift", "usual_Bps", "recovered_age_s", "bandwidth", "latency", "success")


def learnt(Decider decider not None):
    """All of it as a dict for JSON."""
    cdef Network* net = &decider.network.net
    cdef Workload workload = net.workload
    cdef Reliability reliability = decider.core.reliability
    cdef StreamMetrics metrics[STREAM_LIMIT]
    cdef Evidence evidence[STREAM_LIMIT]
    cdef double now_s = network_monotonic_s(net)
    cdef int i, kept = <int>min(workload.count, <int64_t>WORKLOAD_WINDOW)
    # Copied before anything is made that could run code of others.
    for i in range(net.n_streams):
        metrics[i] = net.streams[i]
        evidence[i] = net.evidence[i]
    return {
        "n_streams": net.n_streams,
        "service_order": _SERVICE_ORDERS[net.order],
        "saved_at_s": network_unix_s(net),
        "streams": [
            {
                "bandwidth_Bps": metrics[i].bandwidth_Bps, "latency_s": metrics[i].latency_s,
                "success_rate": metrics[i].success_rate, "variability": metrics[i].variability,
                "lateness": metrics[i].lateness, "measured_age_s": _age(now_s, metrics[i].measured_s),
                "evidence": _evidence_of(&evidence[i], now_s),
            }
            for i in range(net.n_streams)
        ],
        "workload": {
            "tasks": workload.count,
            "sizes_bytes": [workload.size_bytes[(workload.count - kept + i) % WORKLOAD_WINDOW]
                            for i in range(kept)],
            "age_s": _age(now_s, workload.last_s) if workload.count else 0.0,
            "gap_short_s": workload.gap_short_s, "gap_long_s": workload.gap_long_s,
            "gap_square_s2": workload.gap_square_s2, "bytes_short": workload.bytes_short,
            "weight_short": workload.weight_short, "weight_long": workload.weight_long,
            "bytes_weight": workload.bytes_weight,
        },
        "reliability": {
            "outcomes": [reliability.count[i] for i in range(BINS)],
            "hits": [reliability.hits[i] for i in range(BINS)],
            "error_sum": reliability.error_sum, "error_count": reliability.error_count,
        },
    }


cdef double _age(double now_s, double then_s) noexcept nogil:
    """No more than `restore` takes."""
    return min(max(0.0, now_s - then_s), _MOST_S)


cdef dict _evidence_of(const Evidence* e, double now_s):
    return {
        "known": bool(e.known), "share": e.share, "drift": e.drift, "usual_Bps": e.usual_Bps,
        "recovered_age_s": _age(now_s, e.recovered_s),
        "bandwidth": _freshness_of(&e.bandwidth, now_s),
        "latency": _freshness_of(&e.latency, now_s),
        "success": _freshness_of(&e.success, now_s),
    }


cdef dict _freshness_of(const Freshness* f, double now_s):
    return {
        "age_s": _age(now_s, f.at_s) if f.at_s > -INFINITY else None,
        "interval_s": f.interval_s, "outcomes": f.outcomes,
    }


def restore(Decider decider not None, state):
    """Take in what `learnt` gave, of this or of another process.

    Raises
    ------
    ValueError, TypeError
        A value is missing, out of its range, or of another site. Nothing is changed.
    """
    cdef Network* net = &decider.network.net
    cdef StreamMetrics metrics[STREAM_LIMIT]
    cdef Workload workload
    cdef Reliability reliability
    cdef Evidence evidence[STREAM_LIMIT]
    cdef double now_s = network_monotonic_s(net), away_s
    cdef int i
    _table("the state", state, ("n_streams", "service_order", "saved_at_s", "streams", "workload",
                                "reliability"))
    if state["n_streams"] != net.n_streams:
        raise ValueError(f"of {state['n_streams']!r} streams, not of {net.n_streams}")
    order = _SERVICE_ORDERS[net.order]
    if state["service_order"] != order:
        raise ValueError(f"of streams that are served by {state['service_order']!r}, not by {order!r}")
    away_s = network_unix_s(net) - real_between("saved_at_s", state["saved_at_s"], 0.0, _MOST_S, "Unix time")
    if not away_s > 0.0:
        away_s = 0.0
    for i, given in enumerate(_list("streams", state["streams"], net.n_streams)):
        metrics[i] = net.streams[i]
        _stream(f"streams[{i}]", given, now_s - away_s, &metrics[i], &evidence[i])
    _workload(state["workload"], now_s - away_s, &workload)
    _reliability(state["reliability"], &reliability)
    # All is well: from here on nobody comes between.
    for i in range(net.n_streams):
        net.streams[i] = metrics[i]
        net.evidence[i] = evidence[i]
    net.workload = workload
    decider.core.reliability = reliability


cdef int _stream(str where, given, double saved_s, StreamMetrics* m, Evidence* e) except -1:
    _table(where, given, (*_METRICS, "evidence"))
    set_bandwidth(m, _real(where, given, "bandwidth_Bps", 0.0, _MOST))
    set_latency(m, _real(where, given, "latency_s", 0.0, _MOST_S))
    m.success_rate = _real(where, given, "success_rate", 0.0, 1.0)
    m.variability = _real(where, given, "variability", 0.0, 1.0)
    m.lateness = _real(where, given, "lateness", -1.0, 1.0)
    m.measured_s = saved_s - _real(where, given, "measured_age_s", 0.0, _MOST_S)
    return _evidence(f"{where}: evidence", given["evidence"], saved_s, e)


cdef int _evidence(str where, given, double saved_s, Evidence* e) except -1:
    _table(where, given, _EVIDENCE)
    if not isinstance(given["known"], bool):
        raise TypeError(f"{where}: known = {given['known']!r}: expected true or false")
    e.known = given["known"]
    e.share = _real(where, given, "share", 0.0, 1.0)
    e.drift = _real(where, given, "drift", -1.0, 1.0)
    e.usual_Bps = _real(where, given, "usual_Bps", 0.0, _MOST)
    e.recovered_s = saved_s - _real(where, given, "recovered_age_s", 0.0, _MOST_S)
    _freshness(f"{where}: bandwidth", given["bandwidth"], saved_s, &e.bandwidth)
    _freshness(f"{where}: latency", given["latency"], saved_s, &e.latency)
    _freshness(f"{where}: success", given["success"], saved_s, &e.success)
    return 0


cdef int _freshness(str where, given, double saved_s, Freshness* f) except -1:
    _table(where, given, ("age_s", "interval_s", "outcomes"))
    f.at_s = -INFINITY if given["age_s"] is None else saved_s - _real(where, given, "age_s", 0.0, _MOST_S)
    f.interval_s = _real(where, given, "interval_s", 0.0, MAX_INTERVAL_S)
    f.outcomes = _real(where, given, "outcomes", 0.0, _MOST)
    return 0


cdef int _workload(given, double saved_s, Workload* w) except -1:
    cdef int k, kept
    _table("workload", given, ("tasks", "sizes_bytes", "age_s", *_MEANS, *_WEIGHTS))
    tasks = integer("workload: tasks", given["tasks"])
    if not 0 <= tasks <= _MOST_TASKS:
        raise ValueError(f"workload: tasks = {tasks!r}: expected 0 to 2**53")
    kept = <int>min(tasks, WORKLOAD_WINDOW)
    sizes = _list("workload: sizes_bytes", given["sizes_bytes"], kept)
    w.count = tasks
    for k in range(WORKLOAD_WINDOW):
        w.size_bytes[k] = 0.0
    for k in range(kept):
        w.size_bytes[(w.count - kept + k) % WORKLOAD_WINDOW] = <float>real_between(
            f"workload: sizes_bytes[{k}]", sizes[k], 1.0, _MOST, "1 to 1e30")
    workload_order(w)
    w.last_s = saved_s - _real("workload", given, "age_s", 0.0, _MOST_S)
    w.gap_short_s = _real("workload", given, "gap_short_s", 0.0, _MOST_S)
    w.gap_long_s = _real("workload", given, "gap_long_s", 0.0, _MOST_S)
    w.gap_square_s2 = _real("workload", given, "gap_square_s2", 0.0, _MOST_S * _MOST_S)
    w.bytes_short = _real("workload", given, "bytes_short", 0.0, _MOST)
    w.weight_short = _real("workload", given, "weight_short", 0.0, 1.0)
    w.weight_long = _real("workload", given, "weight_long", 0.0, 1.0)
    w.bytes_weight = _real("workload", given, "bytes_weight", 0.0, 1.0)
    return 0


cdef int _reliability(given, Reliability* r) except -1:
    cdef int k
    _table("reliability", given, ("outcomes", "hits", "error_sum", "error_count"))
    outcomes = _list("reliability: outcomes", given["outcomes"], BINS)
    hits = _list("reliability: hits", given["hits"], BINS)
    for k in range(BINS):
        r.count[k] = real_between(f"reliability: outcomes[{k}]", outcomes[k], 0.0, _MOST, "0 to 1e30")
        r.hits[k] = real_between(f"reliability: hits[{k}]", hits[k], 0.0, r.count[k], "0 to the outcomes")
    r.error_sum = _real("reliability", given, "error_sum", 0.0, _MOST)
    r.error_count = _real("reliability", given, "error_count", 0.0, _MOST)
    return 0


cdef double _real(str where, given, str key, double low, double high) except? -1.0:
    value = given[key]
    if isinstance(value, bool):
        raise TypeError(f"{where}: {key} = {value!r}: expected a number")
    return real_between(f"{where}: {key}", value, low, high, f"{low:g} to {high:g}")


cdef int _table(str where, given, tuple keys) except -1:
    if not isinstance(given, dict) or set(given) != set(keys):
        raise ValueError(f"{where}: expected an object with {', '.join(keys)}")
    return 0


cdef list _list(str where, given, Py_ssize_t length):
    if not isinstance(given, list) or len(given) != length:
        raise ValueError(f"{where}: expected a list of {length}")
    return given
