"""What Faraday means, without Airflow, sockets or a clock of its own."""
