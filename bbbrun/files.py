"""The names of the files in a run's folder."""

METRICS, CHECKPOINT, PREDICTIONS, SUMMARY = "metrics.csv", "checkpoint.pt", "predictions.csv", "summary.json"
