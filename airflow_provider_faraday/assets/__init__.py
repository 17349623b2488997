"""Airflow assets that represent Faraday resources."""
