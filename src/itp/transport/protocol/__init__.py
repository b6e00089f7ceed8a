"""Bytes in, frames and decisions out: no socket, no thread, no clock."""
