"""Apache Airflow provider for Faraday (faraday.ai)."""

__version__ = "0.1.0"
