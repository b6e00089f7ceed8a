"""Service orders by name."""

SERVICE_ORDERS = ("fifo", "srpt")
"""First in, first out; or least remaining first, within priority classes and with ageing."""

AGEING_S = ORDER_AGEING_S
"""Under ``srpt``, a task that has waited so long goes ahead of everything younger."""


cdef int service_order_number(object name) except -1:
    if name not in SERVICE_ORDERS:
        raise ValueError(f"service_order must be {' or '.join(map(repr, SERVICE_ORDERS))}; got {name!r}")
    return SERVICE_ORDERS.index(name)
