"""The verbs of the command line, one file each: its options, and what it prints."""

# `bbbrun VERB WORDS` calls bbbrun.verbs.VERB.main(WORDS). The text is the verb's line in `bbbrun --help`.
VERBS = {
    "predict": "ask finished runs about new inputs: classes or numbers, and how unsure they are",
    "evaluate": "judge finished runs: calibration, abstaining, foreign and harder images, your own files",
    "export": "write a run's network for use without bbbrun: the mean, a draw, or the pruned one",
    "report": "make the paper's tables and figures out of finished runs",
    "check": "compare our numbers with the paper's; exit code 1 unless all pass",
    "status": "how far a sweep's jobs are: finished, running, interrupted, failed, waiting",
    "search": "choose settings by validation, with Optuna; several workers share a study",
    "log": "write what runs left where TensorBoard or MLflow look",
    "reproduce": "run every experiment of the paper that is not finished yet",
    "bench": "time one training step of each method",
}
