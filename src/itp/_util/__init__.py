"""What every room may use: whole files, signals, terminal text."""
