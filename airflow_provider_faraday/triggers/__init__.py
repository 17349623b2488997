"""Triggers that wait for Faraday's datasets or watch them in the triggerer, and the poll they share."""
