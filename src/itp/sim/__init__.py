"""Simulated worlds: scenarios, the simulator over them, and Gymnasium environments."""
