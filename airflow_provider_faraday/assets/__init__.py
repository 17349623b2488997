"""Airflow assets for what Faraday holds."""
