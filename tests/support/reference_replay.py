"""Oracles for the sum tree and the replay buffer, in NumPy and by definition."""

import numpy as np


def find(values, mass):
    """The first index whose inclusive cumulative sum exceeds `mass`; the last positive one at the end."""
    ends = np.cumsum(values)
    reached = int(np.searchsorted(ends, mass, side="right"))
    return min(reached, int(np.flatnonzero(values)[-1]))


def probabilities(priorities, alpha):
    """Schaul et al. 2016, equation 1, with priority 0 meaning never."""
    priorities = np.asarray(priorities, dtype=np.float64)
    masses = np.where(priorities > 0, priorities**alpha, 0.0)
    return masses / masses.sum()


def weights(probability, n, beta):
    """Schaul et al. 2016, section 3.4, over their maximum."""
    raw = (n * np.asarray(probability, dtype=np.float64)) ** -beta
    return raw / raw.max()


class Ring:
    """A ring of transitions with raw priorities, in lists."""

    def __init__(self, capacity):
        self.capacity = capacity
        self.transitions = []
        self.priorities = []
        self.max_priority = 0.0

    def add(self, transition, priority=None):
        if priority is None:
            priority = self.max_priority or 1.0
        self.max_priority = max(self.max_priority, priority)
        self.transitions.append(transition)
        self.priorities.append(priority)

    def live(self):
        return range(max(0, len(self.transitions) - self.capacity), len(self.transitions))

    def update(self, indexes, priorities):
        live = [(i, p) for i, p in zip(indexes, priorities, strict=True) if i in self.live()]
        for index, priority in live:
            self.priorities[index] = priority
            self.max_priority = max(self.max_priority, priority)
        return len(live)
