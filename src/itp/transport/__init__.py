"""Files over parallel TCP streams, split as a TaskPartitioner decides; needs ``itp[transport]``."""

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
