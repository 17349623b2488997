"""Triggers that wait for Faraday's datasets in the triggerer, and the poll they share."""
