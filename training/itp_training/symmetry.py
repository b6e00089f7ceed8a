"""Streams are exchangeable: what is learnt of them in one order holds in all 24."""

from itertools import permutations

import numpy as np

from itp.actions import ACTIONS, action_of

ORDERS = np.array(list(permutations(range(4))))
"""int64[24, 4]: stream i, as seen, is stream ORDERS[., i]."""

STATE_SEEN = np.hstack([*(ORDERS + 4 * group for group in range(4)), np.tile(np.arange(16, 20), (24, 1))])
"""int64[24, 20]: the entry of the state that each entry, as seen, is."""

ACTIONS_SEEN = np.array(
    [[action_of(order[list(streams)].tolist()) for streams in ACTIONS] for order in ORDERS]
)
"""int64[24, 15]: the action that each action, as seen, is."""
