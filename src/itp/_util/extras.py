"""What to install where a package of an extra is missing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from itp.errors import MissingExtraError

_PACKAGES = frozenset(
    (
        "blake3",
        "gymnasium",
        "matplotlib",
        "onnx",
        "prometheus_client",
        "pyarrow",
        "rich",
        "tensorboard",
        "torch",
        "xxhash",
    )
)


@contextmanager
def extra(need: str, names: str) -> Iterator[None]:
    """Raise MissingExtraError where an import in the block fails for lack of an extra's package.

    Parameters
    ----------
    need : str
        Subject and verb of the message: ``charts need``.
    names : str
        Of the extras that bring the packages, as in the brackets of a requirement.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in _PACKAGES:
            raise
        raise MissingExtraError(f"{need} {package.replace('_', '-')}: pip install 'itp[{names}]'") from None
