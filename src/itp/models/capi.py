"""For C and C++: the folder of the header, the table of functions, and models that decide without Python."""

from __future__ import annotations

import os
from pathlib import Path

from itp._core.capi import api_address, model_address
from itp._core.decider import Served
from itp.errors import ModelError
from itp.models.load import load_model
from itp.models.serving import serve

__all__ = ["NativeModel", "c_api", "get_include", "native_model"]


class NativeModel:
    """A verified model for deciders in C.

    Attributes
    ----------
    address : int
        Address of its ``itp_model``, valid as long as this object lives.
    version, sha256 : str

    Notes
    -----
    Thread safety: immutable; any number of deciders in any threads may serve it at once.
    """

    def __init__(self, served: Served, sha256: str) -> None:
        self._served = served
        self.address = model_address(served)
        self.version = served.version
        self.sha256 = sha256


def native_model(model: str | os.PathLike[str], service_order: str = "fifo") -> NativeModel:
    """Load a model, a shipped name or a path, as ``TaskPartitioner`` does, for ``itp_api.serve``.

    Raises
    ------
    ModelError
        The file is bad, or its graph is neither a chain of dense layers nor a set network.
    """
    loaded = load_model(model, service_order)
    if loaded.net is None and loaded.set_net is None:
        raise ModelError(f"{loaded.path}: has no compiled forward pass: {loaded.why_not_native}")
    return NativeModel(serve(loaded), loaded.sha256)


def c_api(version: int = 2) -> int:
    """Address of the ``itp_api`` table, as ``itp_import_api`` in ``itp.h`` finds it.

    Parameters
    ----------
    version : {2, 1}
        What the table's ``version`` says. Code that was compiled with version 1 of ``itp.h``, and compares
        the two, needs 1; the functions are the same.
    """
    return api_address(version)


def get_include() -> str:
    """The folder of ``itp.h``, for the compiler's ``-I``."""
    return str(Path(__file__).parents[1] / "include")
