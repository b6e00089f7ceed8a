"""A race on purpose: two threads use one C decider at once. The race detector must find it."""

import ctypes
import threading

import itp


class Api(ctypes.Structure):
    """The table of `itp.h`, as far as it is needed here."""

    _fields_ = [
        ("version", ctypes.c_int),
        ("create", ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_int, ctypes.c_int)),
        ("destroy", ctypes.CFUNCTYPE(None, ctypes.c_void_p)),
        ("serve", ctypes.c_void_p),
        ("explore", ctypes.c_void_p),
        (
            "update_stream",
            ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, *[ctypes.c_double] * 4),
        ),
    ]


api = Api.from_address(itp.c_api())
decider = api.create(4, 0)


def update() -> None:
    for k in range(20_000):
        api.update_stream(decider, 0, float(k), 1.0, 0.5, 1.0)


threads = [threading.Thread(target=update) for _ in range(2)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
