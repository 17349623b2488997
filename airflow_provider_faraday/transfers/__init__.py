"""Operators that move files between Faraday and Airflow's object storage."""
