"""Sensors that wait for Faraday resources."""
