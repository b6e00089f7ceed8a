"""Shared by all rooms: files written whole, signals, standard streams, text for terminals, extras."""
