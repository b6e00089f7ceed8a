"""Files over parallel TCP streams, split as a TaskPartitioner decides; needs ``itp[transport]``."""

try:
    import blake3  # noqa: F401 (tried here, for an error that says what to do)
    import xxhash  # noqa: F401
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"itp.transport needs {error.name}: pip install blake3 xxhash (the extra [transport] of itp)",
        name=error.name,
    ) from None

from itp.transport.receiver import DEFAULT_PORT, Receiver
from itp.transport.sender import Sender
from itp.transport.session import ReceivedFile, SessionSummary
from itp.transport.stream import StreamStatus
from itp.transport.transfer import Transfer, TransferResult

__all__ = [
    "DEFAULT_PORT",
    "ReceivedFile",
    "Receiver",
    "Sender",
    "SessionSummary",
    "StreamStatus",
    "Transfer",
    "TransferResult",
]
