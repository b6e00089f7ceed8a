"""Losses of a batch of Q-values and their slopes, which a learner needs between forward and backward pass.

Huber loss of delta d at an error e, with c = e clipped to [-d, d]: c (e - c / 2); its slope is c.
"""
from libc.math cimport fabs, isnan
from libc.stdint cimport int64_t


cdef inline double _clip(double error, double delta) noexcept nogil:
    # NaN and infinite errors must show in the loss: neither comparison holds for NaN.
    return delta if error > delta else -delta if error < -delta else error


def _check(name, shape, *wanted):
    if shape != wanted:
        raise ValueError(f"{name}: expected shape {list(wanted)}; got {list(shape)}")


def look_ahead_loss(const float[:, ::1] values, const float[:, ::1] returns, const int64_t[:, ::1] order,
                    const float[::1] weights, double delta, float[:, ::1] slope, double[::1] error):
    """Loss of values against the returns of all actions; adds to `slope` and `error`.

    Only differences between a state's actions count: all were tried in the same future, on which their mean
    depends. So the mean of a state's errors is taken off each; its known actions share its weight.

    Parameters
    ----------
    values : float32[batch, actions]
    returns : float32[batch, actions]
        NaN where the return is not known.
    order : int64[batch, actions]
        The action, in the order of `returns`, that each column of `values` stands for.
    weights : float32[batch]
    delta : float
        The Huber loss is linear beyond it.
    slope : float32[batch, actions]
        The derivative of the loss by `values` is added to it.
    error : float64[batch]
        The mean absolute error of each state is added to it.

    Returns
    -------
    float
        Mean over the batch of weight times loss.
    """
    cdef Py_ssize_t n = values.shape[0], m = values.shape[1], i, k
    cdef double total = 0.0, mean, mean_slope, deviation, clipped, loss, size, e
    cdef int count
    _check("returns", (returns.shape[0], returns.shape[1]), n, m)
    _check("order", (order.shape[0], order.shape[1]), n, m)
    _check("slope", (slope.shape[0], slope.shape[1]), n, m)
    _check("weights", (weights.shape[0],), n)
    _check("error", (error.shape[0],), n)
    for i in range(n):
        for k in range(m):
            if not 0 <= order[i, k] < m:
                raise ValueError(f"order: expected actions from 0 to {m - 1}; got {order[i, k]}")
    with nogil:
        for i in range(n):
            count = 0
            mean = 0.0
            for k in range(m):
                e = returns[i, order[i, k]]
                if not isnan(e):
                    count += 1
                    mean += values[i, k] - e
            if count == 0:
                continue
            mean /= count
            loss = size = mean_slope = 0.0
            for k in range(m):
                e = returns[i, order[i, k]]
                if not isnan(e):
                    deviation = values[i, k] - e - mean
                    clipped = _clip(deviation, delta)
                    loss += clipped * (deviation - 0.5 * clipped)
                    size += fabs(deviation)
                    mean_slope += clipped
            mean_slope /= count
            for k in range(m):
                e = returns[i, order[i, k]]
                if not isnan(e):
                    clipped = _clip(values[i, k] - e - mean, delta)
                    slope[i, k] += <float>(weights[i] * (clipped - mean_slope) / count / n)
            error[i] += size / count
            total += weights[i] * loss / count
    return total / n


def bootstrap_loss(const float[:, ::1] values, const int64_t[::1] action, const int64_t[:, ::1] order,
                   const float[::1] target, const float[::1] weights, double delta, double factor,
                   float[:, ::1] slope, double[::1] error):
    """Loss of the taken actions' values against `target`, times `factor`; adds to `slope` and `error`.

    `action` int64[batch] counts as the entries of `order` do, `target` is float32[batch]; for the other
    arguments, and what is returned, see `look_ahead_loss`.
    """
    cdef Py_ssize_t n = values.shape[0], m = values.shape[1], i, k
    cdef double total = 0.0, difference, clipped
    _check("order", (order.shape[0], order.shape[1]), n, m)
    _check("slope", (slope.shape[0], slope.shape[1]), n, m)
    for name, array in (("action", action), ("target", target), ("weights", weights), ("error", error)):
        _check(name, (array.shape[0],), n)
    with nogil:
        for i in range(n):
            for k in range(m):
                if order[i, k] == action[i]:
                    difference = values[i, k] - target[i]
                    clipped = _clip(difference, delta)
                    slope[i, k] += <float>(factor * weights[i] * clipped / n)
                    error[i] += fabs(difference)
                    total += factor * weights[i] * clipped * (difference - 0.5 * clipped)
    return total / n


def take_columns(const float[:, ::1] values, const int64_t[:, ::1] order, float[:, ::1] out):
    """out[i, k] = values[i, order[i, k]], float32 and int64 [n, m]."""
    cdef Py_ssize_t n = values.shape[0], m = values.shape[1], i, k
    _check("order", (order.shape[0], order.shape[1]), n, m)
    _check("out", (out.shape[0], out.shape[1]), n, m)
    for i in range(n):
        for k in range(m):
            if not 0 <= order[i, k] < m:
                raise ValueError(f"order: expected columns from 0 to {m - 1}; got {order[i, k]}")
            out[i, k] = values[i, order[i, k]]
