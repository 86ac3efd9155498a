"""The names of the files in a run's folder."""

METRICS, CHECKPOINT, SUMMARY = "metrics.csv", "checkpoint.pt", "summary.json"
