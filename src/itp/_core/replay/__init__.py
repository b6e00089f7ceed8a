"""The prioritized replay buffer."""
