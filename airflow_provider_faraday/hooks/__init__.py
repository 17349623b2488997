"""FaradayHook, which calls Faraday with an Airflow connection."""
