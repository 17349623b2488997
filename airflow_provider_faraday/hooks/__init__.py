"""From an Airflow connection to a configured Faraday client."""
