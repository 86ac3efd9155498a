"""MLflow's runs, by default in a local SQLite store: `mlflow ui --backend-store-uri sqlite:///results/mlflow.db`."""

import logging
import os
import time
from pathlib import Path
from typing import Any

# MLflow reads this at import: it must not call any server.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

from mlflow.entities import Metric, Param
from mlflow.tracking import MlflowClient

from bbbrun.runs.record import summary_of
from bbbrun.trackers.tracked import Tracked

_FOLDER, _ROWS, _DONE = "bbbrun.folder", "bbbrun.rows", "bbbrun.done"
_MOST_METRICS, _MOST_PARAMETERS, _LONGEST = 1000, 100, 6000  # MLflow's limits of one call, and of one value's length
_STATES = {"finished": "FINISHED", "failed": "FAILED", "running": "RUNNING", "interrupted": "KILLED"}


class MLflow:
    """An MLflow run for each run, identified by its folder, in an experiment of the run's name."""

    def __init__(self, target: str) -> None:
        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.WARNING)  # each table that it makes would be logged
        self._client, self._target = MlflowClient(target), target

    def update(self, run: Tracked) -> None:
        """Write the rows that MLflow's run lacks, and once the files of a finished run."""
        number, tags = self._run(run)
        written = int(tags.get(_ROWS, "0"))
        metrics = [
            Metric(name, value, int(1000 * row.moment), row.step)
            for row in run.rows[written:]
            for name, value in row.numbers.items()
        ]
        for start in range(0, len(metrics), _MOST_METRICS):
            self._client.log_batch(number, metrics=metrics[start : start + _MOST_METRICS])
        self._client.set_tag(number, _ROWS, str(len(run.rows)))
        if run.state == "finished" and _DONE not in tags:
            for path in run.files:
                self._client.log_artifact(number, str(path), "figures" if path.suffix == ".png" else None)
            for name in ("commit", "command", "device"):
                self._client.set_tag(number, name, str(summary_of(run.folder).get(name)))
            self._client.set_tag(number, _DONE, "yes")
        state = _STATES.get(run.state, "KILLED")
        if run.state in ("finished", "failed"):
            self._client.set_terminated(number, state, int(1000 * run.rows[-1].moment) if run.rows else None)
        else:  # without an end: an interrupted run may go on
            self._client.update_run(number, status=state)

    def _run(self, run: Tracked) -> tuple[str, dict[str, str]]:
        """The id and tags of the run in MLflow, created if it does not exist."""
        experiment = self._experiment(run.settings.get("name", "bbbrun"))
        location = run.folder.as_uri()  # without quotes, which would end the filter below
        for existing in self._client.search_runs([experiment], f"tags.`{_FOLDER}` = '{location}'", max_results=1):
            return existing.info.run_id, dict(existing.data.tags)
        start = int(1000 * (run.rows[0].moment if run.rows else time.time()))
        created = self._client.create_run(experiment, start_time=start, run_name=run.name, tags={_FOLDER: location})
        number: str = created.info.run_id
        settings = [Param(key, value[:_LONGEST]) for key, value in run.settings.items()]
        for begin in range(0, len(settings), _MOST_PARAMETERS):
            self._client.log_batch(number, params=settings[begin : begin + _MOST_PARAMETERS])
        return number, {}

    def _experiment(self, name: str) -> Any:
        existing = self._client.get_experiment_by_name(name)
        if existing is not None:
            return existing.experiment_id
        location = None
        if self._target.startswith("sqlite:///"):
            # Beside the store, not in the current folder.
            location = Path(self._target.removeprefix("sqlite:///")).absolute().with_suffix(".files").as_uri()
        return self._client.create_experiment(name, artifact_location=location and f"{location}/{name}")

    def close(self) -> None:
        """Do nothing: each call writes at once."""
