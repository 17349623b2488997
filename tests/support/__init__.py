"""What the tests share: the sandbox's ids, DAG runs in this process, whole deployments, the docs' pages."""
