from typing import Final

SERVICE_ORDERS: Final = ("fifo", "srpt")
AGEING_S: float
