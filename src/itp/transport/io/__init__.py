"""Sockets, TCP_INFO, files and addresses: what the transport asks of the system."""
