from typing import Any

import numpy as np

LINK: np.dtype[Any]
PATH: np.dtype[Any]
WORKLOAD: np.dtype[Any]
SIZE_KINDS: tuple[str, ...]
ARRIVAL_KINDS: tuple[str, ...]
CONGESTION_CONTROLS: tuple[str, ...]
