"""Runs as other tools read them: what their folders hold, written where TensorBoard and MLflow look."""
