"""The product of two float32 matrices, which is what a dense layer and its gradient are made of.

With a column of ones beside the inputs x, and the biases as the last row of the weights W, a layer
relu(x W) has three: that one, the weights' gradient x^T e, and the gradient e W^T for the layer before,
where its outputs are positive. BLAS libraries are tuned for larger matrices.
"""

cdef dense_kernel _kernels[3]
cdef int _n_kernels = dense_kernels(_kernels)

KERNELS = tuple([_kernels[k].name.decode() for k in range(_n_kernels)])


def product(const float[:, :] a not None, const float[:, :] b not None, float[:, :] out not None, *,
            bint relu=False, const float[:, :] gate=None, int kernel=0):
    """out = a b; then ReLU, or 0 where `gate` is not positive.

    Parameters
    ----------
    a : float32[rows, depth]
        In any layout, so that it may be a transposed matrix.
    b : float32[depth, columns]
        In any layout.
    out : float32[rows, columns]
        The entries of a row lie side by side. It shares no memory with the other arrays.
    relu : bool
    gate : float32[rows, columns], optional
        The entries of a row lie side by side.
    kernel : int
        Of ``KERNELS``, those this CPU can run; the first one is the fastest.

    Raises
    ------
    ValueError
        Shapes that do not fit, a depth of 0, another layout, or an unknown kernel.

    Notes
    -----
    The order of summation, and so the last bits, depends on the kernel alone. Thread safety: the arrays
    must not change meanwhile; the GIL is released.
    """
    cdef dense_product p
    if not 0 <= kernel < _n_kernels:
        raise ValueError(f"kernel = {kernel}: expected 0 to {_n_kernels - 1}, of {', '.join(KERNELS)}")
    p.rows, p.depth, p.columns = a.shape[0], a.shape[1], b.shape[1]
    if p.depth < 1 or b.shape[0] != p.depth:
        raise ValueError(f"a and b: expected shapes [rows, depth] and [depth, columns], depth at least 1; "
                         f"got {[a.shape[0], a.shape[1]]} and {[b.shape[0], b.shape[1]]}")
    if out.shape[0] != p.rows or out.shape[1] != p.columns:
        raise ValueError(f"out: expected shape {[p.rows, p.columns]}; got {[out.shape[0], out.shape[1]]}")
    if gate is not None and (gate.shape[0] != p.rows or gate.shape[1] != p.columns):
        raise ValueError(f"gate: expected shape {[p.rows, p.columns]}; got {[gate.shape[0], gate.shape[1]]}")
    if p.rows == 0 or p.columns == 0:
        return
    p.a_row, p.a_column = _in_floats(a.strides[0]), _in_floats(a.strides[1])
    p.b_row, p.b_column = _in_floats(b.strides[0]), _in_floats(b.strides[1])
    p.c_row, p.gate_row = _in_floats(out.strides[0]), 0
    _check_row("out", out.strides[1])
    p.a, p.b, p.c, p.gate = &a[0, 0], &b[0, 0], &out[0, 0], NULL
    if gate is not None:
        _check_row("gate", gate.strides[1])
        p.gate, p.gate_row = &gate[0, 0], _in_floats(gate.strides[0])
    p.relu = relu
    with nogil:
        _kernels[kernel].product(&p)


cdef Py_ssize_t _in_floats(Py_ssize_t stride) except? -1:
    if stride % <Py_ssize_t>sizeof(float):
        raise ValueError(f"expected rows and columns whole floats apart; got {stride} bytes")
    return stride // <Py_ssize_t>sizeof(float)


cdef int _check_row(str name, Py_ssize_t stride) except -1:
    if stride != sizeof(float):
        raise ValueError(f"{name}: expected the entries of a row side by side; got {stride} bytes apart")
    return 0
