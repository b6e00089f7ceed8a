"""The protocol without I/O: bytes in, frames and bookkeeping out. No socket, no thread, no clock, no file."""
