"""Operators that list Faraday's datasets."""
