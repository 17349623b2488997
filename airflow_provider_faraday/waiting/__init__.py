"""Waiting for resources: sources, waits, and the polls that triggers share."""
