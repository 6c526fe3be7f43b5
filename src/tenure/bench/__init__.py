"""Streams, worlds, metrics and attack suites that measure all of the above."""
