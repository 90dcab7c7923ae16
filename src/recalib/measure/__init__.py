"""Latencies of networks: what is timed together, one run of it, and the file of its cells."""
