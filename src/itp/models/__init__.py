"""Q-networks: read, verified, and served by one of two engines."""
