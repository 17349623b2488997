"""Faraday's endpoints, responses, errors and resources, without Airflow, sockets or a clock."""
