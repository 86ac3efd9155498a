"""Deliberate faults that the short runs must show, and the unbroken code on seeds that made no band."""

import re
import sys
from pathlib import Path

import pytest
from forked import THIRD_PARTY, Forks
from planted import FAULTS, RECORDS, RUNS, SEED, SOUND, checked, faulty, sound_table

from bbbrun.report.smoke import smoke
from bbbrun.runs.jobs import wanted
from bbbrun.runs.reader import finished_runs

README = (Path(__file__).parent / "README.md").read_text()
FRESH = (200, 201, 202)


def table(name):
    """The first cell of each row of the README's table."""
    block = re.search(f"<!-- {name} -->\n(.*?)\n<!-- /{name} -->", README, re.DOTALL)[1]
    return block, [line.split(" | ")[0].removeprefix("| ") for line in block.splitlines()[2:]]


@pytest.fixture(scope="module")
def forks(tmp_path_factory):
    if sys.platform != "linux":
        pytest.skip("forking a process with threads in it is safe on Linux alone")
    server = Forks(tmp_path_factory.mktemp("forks"), THIRD_PARTY)
    yield server
    server.close()


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.what)
def test_each_fault_changes_a_line_that_is_there(fault):
    compile(faulty(fault), fault.file, "exec")


def test_the_readme_shows_each_fault_caught():
    block, names = table("faults")
    assert names == [fault.what for fault in FAULTS]
    assert "not caught" not in block
    assert len(names) >= 15


def test_sound_runs_on_three_seeds_that_made_no_band_pass():
    sound, records = finished_runs([SOUND]), finished_runs([RECORDS])
    assert {run.seed for run in sound} == set(FRESH)
    assert not {run.seed for run in records} & set(FRESH)
    assert len(sound) == len(wanted(["smoke"], FRESH))
    verdicts = smoke(sound, records)
    assert verdicts["verdict"].to_list() == ["pass"] * len(verdicts)
    assert table("sound")[0] == sound_table()


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.what)
def test_a_planted_fault_is_a_miss(fault, forks, tmp_path, data_root):
    code, verdicts = checked(forks, fault, fault.run, SEED, tmp_path)
    assert code == 1
    assert set(verdicts["verdict"]) == {"pass", "miss"}


@pytest.mark.slow
@pytest.mark.parametrize("seed", [SEED, *FRESH])
@pytest.mark.parametrize("run", RUNS)
def test_the_same_copy_without_a_fault_passes(run, seed, forks, tmp_path, data_root):
    code, verdicts = checked(forks, None, run, seed, tmp_path)
    assert code == 0
    # The digits of a recorded seed stand in place of the band in a run's first rows, which may be all it has.
    rules = set(verdicts["rule"])
    assert rules <= {"band", "digits"}
    assert ("digits" in rules) == (seed == SEED)
