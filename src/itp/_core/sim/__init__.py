"""Simulated environments, compiled: links, flows, service, the event loop."""
