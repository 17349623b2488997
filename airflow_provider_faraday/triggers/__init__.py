"""Triggers that wait for Faraday resources, or watch them for assets."""
