"""Operators that list Faraday's datasets and ask for reruns."""
