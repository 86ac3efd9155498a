"""The verbs of the command line, one file each: its options, and what it prints."""

# `bbbrun VERB WORDS` calls bbbrun.verbs.VERB.main(WORDS). The text is the verb's line in `bbbrun --help`.
VERBS = {
    "predict": "predict new inputs with finished runs: classes or numbers, with their uncertainty",
    "evaluate": "judge finished runs: calibration, abstaining, foreign and harder images, your own files",
    "export": "write a run's network for use without bbbrun: the mean, a draw, or the pruned one",
    "report": "make the paper's tables and figures from finished runs",
    "check": "compare our numbers with the paper's; exit code 1 unless all pass",
    "status": "show the progress of a sweep's jobs: finished, running, interrupted, failed, waiting",
    "search": "choose settings by validation, with Optuna; several workers share a study",
    "log": "copy runs to TensorBoard or MLflow",
    "reproduce": "run every experiment of the paper that is not finished yet",
    "bench": "time one training step of each method",
}
