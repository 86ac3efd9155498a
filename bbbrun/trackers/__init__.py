"""Runs in other tools: the content of their folders, copied to TensorBoard and MLflow."""
