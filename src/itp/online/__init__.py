"""Learning from production: what the fast loop writes and the slow loop reads."""
