"""Operators that list Faraday resources and force them to update."""
