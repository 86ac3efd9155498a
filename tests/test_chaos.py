"""Stress, by `scripts/test -m chaos -n 0`: kills at random moments, and command lines drawn from a grammar.

BBBRUN_CHAOS_SEED chooses other moments and words, BBBRUN_CHAOS_KILLS, _STOPS and _WORDS how many. Takes minutes.
"""

import csv
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from bbbrun.schema.config import OPTIONS, composed, plain

pytestmark = pytest.mark.chaos

SEED = int(os.environ.get("BBBRUN_CHAOS_SEED", "0"))
KILLS, WORDS, STOPS = (
    int(os.environ.get(f"BBBRUN_CHAOS_{name}", default))
    for name, default in (("KILLS", 100), ("WORDS", 200), ("STOPS", 40))
)
RECORDS = Path(__file__).parents[1] / "results" / "paper" / "runs"
FAST = ["threads=1", "device=cpu", "compile=false", "train.checkpoint_seconds=0.2", "network.hidden=[8]"]
RUNS = {
    "digits": ["experiment=digits", "train.epochs=60"],
    "digits, mle": ["experiment=digits", "method=mle", "prior=none", "train.epochs=60"],
    "regression": ["experiment=regression", "train.epochs=30", "train.evaluate_every=1"],
    "wheel": ["experiment=wheel", "agent.steps=150", "agent.updates=8", "train.evaluate_every=25"],
    "replicas": ["experiment=digits", "train.epochs=40", "replicas=2"],
}
VALUES = ["-1e400", "[]", "{a:1}", "[[1]]", "-7", f"{2**63}", "1e999", "nan", "'ünï ✓'", f"'{999 * 'x'}'", "''"]
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


def rows(folder: Path) -> dict[str, list[dict[str, str]]]:
    tables = {}
    for path in sorted(folder.rglob("metrics.csv")):
        with path.open() as file:
            table = [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(file)]
        tables[str(path.relative_to(folder))] = table
    return tables


def begin(folder: Path, words: list[str]) -> subprocess.Popen[str]:
    def hear_interrupts() -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background processes ignore them

    return subprocess.Popen(
        [sys.executable, "-m", "bbbrun", *words],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=hear_interrupts,
    )


def test_kills_at_random_moments(tmp_path):
    """Each run is stopped again and again until it ends; its metrics.csv is then that of a run never stopped."""
    draw, stops, wholes, seconds = random.Random(SEED), Counter(), {}, {}
    for kind, words in RUNS.items():
        start = time.monotonic()
        process = begin(tmp_path, [*words, *FAST, f"hydra.run.dir=whole/{kind.replace(', ', '-')}"])
        output, errors = process.communicate(timeout=300)
        assert (process.returncode, output) == (0, ""), errors
        wholes[kind], seconds[kind] = rows(tmp_path / "whole" / kind.replace(", ", "-")), time.monotonic() - start
    number = 0
    while stops.total() < KILLS:
        kind = draw.choice(list(RUNS))
        folder, number = tmp_path / f"run-{number}", number + 1
        for _ in range(50):
            begun = (folder / ".hydra" / "config.yaml").exists()
            again = f"resume={folder}" if begun else f"hydra.run.dir={folder}"
            process = begin(tmp_path, [*RUNS[kind], *FAST, again])
            which = draw.choice(SIGNALS)
            try:
                output, errors = process.communicate(timeout=draw.uniform(0.2, 1.1 * seconds[kind]))
            except subprocess.TimeoutExpired:
                process.send_signal(which)
                output, errors = process.communicate(timeout=120)
                stops[f"{kind}, {which.name}"] += 1
            assert "Traceback" not in errors, errors
            # What libraries log as they end is not for the user.
            assert output == ""
            expected = {0, -signal.SIGKILL} if which is signal.SIGKILL else {0, 130, -signal.SIGTERM, -signal.SIGINT}
            assert process.returncode in expected, errors
            if process.returncode == 0:
                break
        else:
            # Moments that all came too early.
            process = begin(tmp_path, [*RUNS[kind], *FAST, again])
            _, errors = process.communicate(timeout=300)
            assert process.returncode == 0, errors
        assert rows(folder) == wholes[kind], kind
        print(f"{stops.total()} stops so far", flush=True)
    summary = dict(sorted(stops.items()))
    print(f"{stops.total()} stops of {number} runs, each equal to one that nothing stopped: {summary}")


VERBS = {
    "report": ["report", str(RECORDS), "-o", "report"],
    "check": ["check", str(RECORDS.parent)],
    "reproduce": ["reproduce", "--only", "smoke", "--device", "cpu"],
    "reproduce --jobs": ["reproduce", "--only", "smoke", "--device", "cpu", "--jobs", "2"],
    "evaluate": ["evaluate", "run", "--on", "test", "noise", "-o", "page"],
    "sweep": ["-m", *FAST, "train.epochs=200", "seed=range(0,4)"],
    "joblib": ["-m", *FAST, "train.epochs=200", "seed=range(0,4)", "hydra/launcher=joblib"],
}


def test_stops_of_verbs_and_sweeps_at_random_moments(tmp_path):
    """A stop is one line, the last, whatever was going on; nothing that it leaves keeps the same words from ending."""
    draw, stops = random.Random(SEED), Counter()
    process = begin(tmp_path, [*RUNS["digits"], *FAST, "hydra.run.dir=run"])
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    while stops.total() < STOPS:
        verb, which = draw.choice(list(VERBS)), draw.choice((signal.SIGTERM, signal.SIGINT))
        folder = tmp_path if verb == "evaluate" else tmp_path / verb
        folder.mkdir(exist_ok=True)
        process = begin(folder, VERBS[verb])
        try:
            output, errors = process.communicate(timeout=draw.uniform(0.1, 15))
        except subprocess.TimeoutExpired:
            process.send_signal(which)
            output, errors = process.communicate(timeout=120)
            stops[f"{verb}, {which.name}"] += 1
        assert "Traceback" not in output + errors, errors
        if process.returncode in (130, -signal.SIGTERM, -signal.SIGINT):  # a shell shows the last as 130, too
            assert sum("interrupted; " in line for line in errors.splitlines()) <= 1, errors
            assert process.returncode < 0 or errors.splitlines()[-1].startswith("interrupted; "), errors
        else:  # too late: check ends with 1, since the paper's numbers are not all met
            assert process.returncode in (0, verb == "check"), errors
    for verb in ("report", "evaluate", "sweep"):
        folder = tmp_path if verb == "evaluate" else tmp_path / verb
        folder.mkdir(exist_ok=True)
        process = begin(folder, VERBS[verb])
        _, errors = process.communicate(timeout=600)
        assert process.returncode == 0, errors
    for sweep in tmp_path.rglob("sweep.json"):
        process = begin(sweep.parent, ["status", str(sweep.parent)])
        output, errors = process.communicate(timeout=60)
        assert (process.returncode, errors) == (0, ""), errors
    print(f"{stops.total()} stops of verbs and sweeps, each one line: {dict(sorted(stops.items()))}")


def wrong_words(draw: random.Random) -> list[str]:
    """A command line with one value that no key takes."""
    group = draw.choice(list(OPTIONS))
    option = draw.choice(list(OPTIONS[group]))
    bandit = option in ("contextual", "mushroom", "wheel")
    base = ["experiment=wheel"] if bandit else []
    keys = [key for key in plain(composed([*base, f"{group}={option}"]))[group] if key != "name"]
    top = ["seed", "threads", "device", "compile", "replicas", "train.epochs", "train.batch_size", "name", "resume"]
    key = draw.choice([f"{group}.{each}" for each in keys] + top)
    words = [*base, f"{group}={option}", f"{key}={draw.choice(VALUES)}"]
    return [*words, draw.choice(["seed=-1", "sede=1", "train=3", "optimizer.lr=-1", "network.hidden=[0]"])]


def test_wrong_command_lines_are_one_line(bbbrun, tmp_path):
    """The last word of each is wrong whatever the one drawn means."""
    draw, reasons = random.Random(SEED), Counter()
    for _ in range(WORDS):
        words = wrong_words(draw)
        result = bbbrun(*words)
        lines = result.stderr.splitlines()
        assert (result.returncode, len(lines)) == (1, 1), (words, result.stderr)
        assert lines[0].startswith("bbbrun: error: "), (words, result.stderr)
        assert not (tmp_path / "results").exists(), words
        reasons[lines[0].split()[2]] += 1
    print(f"{WORDS} wrong command lines, each refused in one line, by their first word: {dict(reasons.most_common())}")
