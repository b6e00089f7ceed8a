"""Streams are exchangeable: a decision among them in one order is the same decision in all 24."""

from itertools import permutations

import numpy as np

from itp.actions import ACTIONS, action_of

ORDERS = np.array(list(permutations(range(4))))
"""int64[24, 4]: the stream in each place of an order."""

STATE_COLUMNS = np.hstack([*(ORDERS + 4 * group for group in range(4)), np.tile(np.arange(16, 20), (24, 1))])
"""int64[24, 20]: the entry of the state in each place of the reordered state."""

ACTION_COLUMNS = np.array(
    [[action_of(order[list(streams)].tolist()) for streams in ACTIONS] for order in ORDERS]
)
"""int64[24, 15]: the action that each action on the reordered streams stands for."""
