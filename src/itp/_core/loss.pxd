# Losses of a batch of Q-values, and their slopes; for Python alone.
