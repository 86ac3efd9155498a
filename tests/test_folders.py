"""What file systems do to a run's folder: flipped bytes, full disks, missing locks, kills at the very start."""

import errno
import fcntl
import os
import random
import tempfile
import warnings
from pathlib import Path

import pandas as pd
import pytest
import torch

from bbbrun.errors import UserError
from bbbrun.runs import checkpoints, files, resume
from bbbrun.runs.checkpoints import read_checkpoint
from bbbrun.runs.on_disk import runs_on_disk
from bbbrun.runs.writer import RunFolder

COLUMNS = ["step", "nll"]
RECORD = {"config.yaml": "replicas: 1\n", "overrides.yaml": "[]\n"}


def state(step: int) -> dict:
    tensors = [torch.arange(64.0) + step, torch.tensor([step])]
    numbers = {"seconds": 1.0, "timed_steps": 0, "timed_seconds": 0.0, "metrics": [{}]}
    return {"step": step, "tensors": tensors} | numbers


def trained(path, steps: int) -> None:
    """A run that was stopped after `steps` rows, each with its checkpoint."""
    run = RunFolder(path, COLUMNS, RECORD)
    for step in range(1, steps + 1):
        run.append({"step": step, "nll": 0.5})
        run.save_checkpoint(state(step))
    run.close()


def flip(path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place % len(content)] ^= 1 << (place % 8)
    path.write_bytes(content)


def test_no_flipped_byte_changes_what_a_checkpoint_gives(tmp_path):
    trained(tmp_path / "run", 1)
    path = tmp_path / "run" / "checkpoint.pt"
    whole, numbers = path.read_bytes(), state(1)["tensors"][0]
    refused = 0
    places = random.Random(0)
    for _ in range(300):
        path.write_bytes(whole)
        flip(path, places.randrange(len(whole)))
        try:
            content = read_checkpoint(path)
        except Exception:
            refused += 1
            continue
        # Some bytes of an archive say nothing: padding, dates.
        assert torch.equal(content["tensors"][0], numbers)
        assert (content["step"], content["rows"]) == (1, 1)
    assert refused > 100
    # Every byte of the numbers.
    start = whole.index(numbers.numpy().tobytes())
    for place in range(start, start + numbers.nbytes, 17):
        path.write_bytes(whole)
        flip(path, place)
        with pytest.raises(ValueError, match="checksum"):
            read_checkpoint(path)


@pytest.mark.parametrize(
    "damage", [lambda p: flip(p, len(p.read_bytes()) // 2), lambda p: p.write_bytes(b""), os.remove]
)
def test_a_damaged_checkpoint_gives_way_to_the_one_before_it(tmp_path, damage):
    trained(tmp_path / "run", 3)
    damage(tmp_path / "run" / "checkpoint.pt")
    gone = not (tmp_path / "run" / "checkpoint.pt").exists()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run = RunFolder(tmp_path / "run", COLUMNS, RECORD)
    assert [("continues from the checkpoint before it, of step 2" in str(one.message)) for one in caught] == [True] * (
        not gone
    )
    assert run.checkpoint is not None
    assert run.checkpoint["step"] == 2
    assert (tmp_path / "run" / "metrics.csv").read_text() == "step,nll\n1,0.5\n2,0.5\n"
    run.append({"step": 3, "nll": 0.5})
    run.save_checkpoint(state(3))
    run.finish({})
    run.close()
    assert not (tmp_path / "run" / "checkpoint.previous.pt").exists()
    assert read_checkpoint(tmp_path / "run" / "checkpoint.pt")["rows"] == 3


def test_a_save_that_fails_after_a_damaged_checkpoint_loses_nothing(tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    trained(tmp_path / "run", 3)
    flip(tmp_path / "run" / "checkpoint.pt", len((tmp_path / "run" / "checkpoint.pt").read_bytes()) // 2)
    with pytest.warns(UserWarning, match="damaged and deleted"):
        run = RunFolder(tmp_path / "run", COLUMNS, RECORD)
    with monkeypatch.context() as patched:
        patched.setattr(checkpoints, "write_atomically", full)
        run.append({"step": 3, "nll": 0.5})
        with pytest.raises(OSError, match="No space left"):
            run.save_checkpoint(state(3))
    run.close()
    again = RunFolder(tmp_path / "run", COLUMNS, RECORD)
    again.close()
    assert again.checkpoint is not None
    assert again.checkpoint["step"] == 2


def test_a_disk_that_fails_for_a_while_costs_no_checkpoint(tmp_path, monkeypatch):
    def fail(*_: object) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    trained(tmp_path / "run", 3)
    with monkeypatch.context() as patched:
        patched.setattr(checkpoints.Path, "read_bytes", fail)
        with pytest.raises(OSError, match="Input/output error"):
            RunFolder(tmp_path / "run", COLUMNS, RECORD)
    again = RunFolder(tmp_path / "run", COLUMNS, RECORD)
    again.close()
    assert again.checkpoint is not None
    assert again.checkpoint["step"] == 3


def test_two_damaged_checkpoints_are_one_line(tmp_path):
    trained(tmp_path / "run", 3)
    for name in ("checkpoint.pt", "checkpoint.previous.pt"):
        flip(tmp_path / "run" / name, len((tmp_path / "run" / name).read_bytes()) // 2)
    with pytest.raises(UserError, match=r"checkpoint\.pt is not a checkpoint that can be read"):
        RunFolder(tmp_path / "run", COLUMNS, RECORD)


def test_a_file_system_without_hard_links_keeps_the_last_good_one_too(tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    trained(tmp_path / "run", 3)
    assert [read_checkpoint(tmp_path / "run" / f"checkpoint{name}.pt")["step"] for name in ("", ".previous")] == [3, 2]


@pytest.mark.parametrize("number", ["ENOSYS", "ENOLCK", "EOPNOTSUPP", "EINVAL", "EIO", "EPERM"])
def test_where_there_are_no_locks_a_run_goes_on_with_one_warning(tmp_path, monkeypatch, number):
    def refuse(*_: object) -> None:
        raise OSError(getattr(errno, number), os.strerror(getattr(errno, number)))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.warns(UserWarning, match=r"metrics\.csv cannot be locked") as caught:
        RunFolder(tmp_path / "run", COLUMNS, RECORD).close()
    assert len(caught) == 1
    assert not files.in_use(tmp_path / "run")


@pytest.mark.parametrize("number", [errno.EWOULDBLOCK, errno.EAGAIN])
def test_a_lock_that_another_process_has_refuses(tmp_path, monkeypatch, number):
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    trained(tmp_path / "run", 1)
    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(UserError, match="is being written by another process"):
        RunFolder(tmp_path / "run", COLUMNS, RECORD)
    assert files.in_use(tmp_path / "run")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_full_disk_names_the_file(tmp_path, monkeypatch, number):
    trained(tmp_path / "run", 2)
    run = RunFolder(tmp_path / "run", COLUMNS, RECORD)

    def full(_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", full)
    for write, name in (
        (lambda: run.append({"step": 3, "nll": 0.5}), "metrics.csv"),
        (lambda: run.save_checkpoint(state(3)), "checkpoint.pt"),
        (lambda: run.finish({}), "summary.json"),
    ):
        with pytest.raises(OSError, match=name) as caught:
            write()
        assert caught.value.filename == str(tmp_path / "run" / name)
    run.close()
    assert not list((tmp_path / "run").glob("*.tmp"))
    monkeypatch.undo()
    run = RunFolder(tmp_path / "run", COLUMNS, RECORD)
    assert run.checkpoint is not None
    assert run.checkpoint["step"] == 2
    run.close()


@pytest.mark.parametrize("left", [[], ["metrics.csv"], [".hydra/"], ["metrics.csv", ".hydra/overrides.yaml"]])
def test_what_a_kill_leaves_at_the_very_start_takes_a_new_run(tmp_path, left):
    for name in left:
        path = tmp_path / name
        (path if name.endswith("/") else path.parent).mkdir(exist_ok=True)
        if not name.endswith("/"):
            path.write_text("")
    resume.require_unused(tmp_path)
    RunFolder(tmp_path, COLUMNS, RECORD).close()
    assert (tmp_path / ".hydra" / "config.yaml").read_text() == RECORD["config.yaml"]
    # From here on it is a run, which resume takes.
    with pytest.raises(UserError, match="continue it with resume="):
        resume.require_unused(tmp_path)


def test_each_moment_of_a_start_leaves_what_can_be_begun_or_resumed(tmp_path, monkeypatch):
    """A full disk at the n-th write, for every n."""
    real, count = os.fsync, 0
    for moment in range(3):
        folder = tmp_path / str(moment)
        count = 0

        def full(file: int, moment: int = moment) -> None:
            nonlocal count
            count += 1
            if count > moment:
                raise OSError(errno.ENOSPC, "No space left on device")
            real(file)

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            RunFolder(folder, COLUMNS, RECORD)
        monkeypatch.setattr(os, "fsync", real)
        if not (folder / ".hydra" / "config.yaml").exists():
            resume.require_unused(folder)
        RunFolder(folder, COLUMNS, RECORD).close()
        assert (folder / "metrics.csv").read_text() == "step,nll\n"


@pytest.mark.parametrize(
    ("around", "expected"),
    [("replicas: 3\n", True), ("replicas: 1\n", False), ("name: mine\n", False), ("{", False), (None, False)],
)
def test_only_the_record_of_replicas_makes_a_run_one_of_them(tmp_path, around, expected):
    (tmp_path / ".hydra").mkdir()
    if around is not None:
        (tmp_path / ".hydra" / "config.yaml").write_text(around)
    config = "seed: 0\ntrain: {epochs: 4}\n"
    folder = tmp_path / "seed-0"
    RunFolder(folder, ["epoch", "seconds", *COLUMNS], RECORD | {"config.yaml": config}).close()
    assert files.is_replica(folder) is expected
    assert [run.folder for run in runs_on_disk(tmp_path)] == [folder] * (not expected)


def test_a_file_of_the_users_may_be_a_link_or_a_pipe(tmp_path):
    for name in ("there", "loop"):
        (tmp_path / f"{name}.link").symlink_to(tmp_path / ("there" if name == "there" else "loop.link"))
    for _ in range(2):  # the file that the link names is not there at first, then it is
        files.write_atomically(tmp_path / "there.link", b"new", follow=True)
        assert (tmp_path / "there.link").is_symlink()
        assert (tmp_path / "there").read_bytes() == b"new"
    files.write_atomically(tmp_path / "loop.link", b"new", follow=True)  # a link to itself names no file
    assert (tmp_path / "loop.link").read_bytes() == b"new"
    os.mkfifo(tmp_path / "pipe")
    reading = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    files.write_atomically(tmp_path / "pipe", b"new", follow=True)
    assert os.read(reading, 9) == b"new"
    os.close(reading)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["loop.link", "pipe", "there", "there.link"]


def test_what_the_process_has_open_is_added_to_and_a_file_in_memory_replaced(tmp_path):
    with (tmp_path / "open").open("ab") as file:
        file.write(b"before ")
        file.flush()
        files.write_atomically(Path(f"/dev/fd/{file.fileno()}"), b"new", follow=True)
    assert (tmp_path / "open").read_bytes() == b"before new"
    if not Path("/dev/shm").is_dir():
        pytest.skip("no /dev/shm")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        for content in (b"old", b"new"):
            files.write_atomically(Path(folder) / "file", content, follow=True)
        assert (Path(folder) / "file").read_bytes() == b"new"


def test_a_runs_own_files_replace_links_which_may_lead_anywhere(tmp_path):
    (tmp_path / "elsewhere.pt").write_bytes(b"not ours")
    trained(tmp_path / "run", 1)
    (tmp_path / "run" / "checkpoint.pt").rename(tmp_path / "moved.pt")
    (tmp_path / "run" / "checkpoint.pt").symlink_to(tmp_path / "moved.pt")
    (tmp_path / "run" / "predictions.csv").symlink_to(tmp_path / "elsewhere.pt")
    run = RunFolder(tmp_path / "run", COLUMNS, RECORD)
    run.append({"step": 2, "nll": 0.5})
    run.save_checkpoint(state(2))
    run.save_predictions(pd.DataFrame({"x": [1]}))
    run.close()
    steps = [read_checkpoint(tmp_path / "run" / name)["step"] for name in ("checkpoint.pt", "checkpoint.previous.pt")]
    assert steps == [2, 1]
    assert (tmp_path / "elsewhere.pt").read_bytes() == b"not ours"
