"""Sensors that wait for Faraday's datasets."""
