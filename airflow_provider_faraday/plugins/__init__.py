"""The Airflow plugin that receives Faraday's webhooks."""
