import gzip
import hashlib
import shutil
import struct

import numpy as np
import pytest
import torch
from sklearn import datasets
from sklearn.model_selection import train_test_split
from torchvision.datasets import KMNIST

from bbbrun.data import digits
from bbbrun.data.images import load_images
from bbbrun.data.mnist import IDX
from bbbrun.errors import UserError
from bbbrun.schema.datasets import DigitsConfig, MnistConfig

FILES = [f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]


@pytest.mark.parametrize("packaged", [True, False])
def test_digits_and_their_split_are_scikit_learns(monkeypatch, packaged):
    expected = datasets.load_digits()
    halves = train_test_split(expected.images, expected.target, test_size=360, random_state=0, stratify=expected.target)
    if not packaged:
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    images, labels = digits.load_digits()
    train, test = digits.digits_parts(labels)
    for part, same in zip((images[train], images[test], labels[train], labels[test]), halves, strict=True):
        assert np.array_equal(part, same)
        assert part.dtype == same.dtype


def test_digits_are_split_without_overlap_and_scaled():
    images = load_images(DigitsConfig(name="digits", valid_size=200, pixel_divisor=8.0, test=True), torch.device("cpu"))
    sizes = [len(split.inputs) for split in (images.train, images.valid, images.test)]
    assert sizes == [1797 - 200 - 360, 200, 360]
    assert images.train.inputs.shape[1:] == (1, 8, 8)
    assert images.classes == 10
    assert images.train.inputs.max() == 2
    rows = torch.cat([split.inputs for split in (images.train, images.valid, images.test)])
    assert len(rows.unique(dim=0)) == 1797


def load(name, root, valid_size=10_000):
    config = MnistConfig(name=name, root=root and str(root), valid_size=valid_size, pixel_divisor=126.0, test=True)
    return load_images(config, torch.device("cpu"))


def mnist(root, valid_size=10_000):
    return load("mnist", root, valid_size)


def test_the_real_mnist_from_packed_files_that_are_left_alone(data_root, tmp_path):
    raw = tmp_path / "MNIST" / "raw"
    shutil.copytree(data_root / "MNIST" / "raw", raw)
    before = sorted(path.name for path in raw.iterdir())
    images = mnist(tmp_path)
    assert sorted(path.name for path in raw.iterdir()) == before
    assert [len(split.labels) for split in (images.train, images.valid, images.test)] == [
        50_000,
        10_000,
        10_000,
    ]
    assert images.train.inputs.shape == (50_000, 1, 28, 28)
    assert images.train.inputs.max().item() == pytest.approx(255 / 126)
    # The published test set begins 7 2 1 0 4 and the training set 5 0 4 1 9; the mean pixel is 33.3 of 255.
    assert images.test.labels[:5].tolist() == [7, 2, 1, 0, 4]
    assert images.train.labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert images.train.inputs.mean().item() * 126 == pytest.approx(33.3, abs=0.3)


def test_unpacked_files_are_read_and_checked_too(data_root, tmp_path):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name in FILES:
        (raw / name).write_bytes(gzip.decompress((data_root / "MNIST" / "raw" / f"{name}.gz").read_bytes()))
    assert len(mnist(tmp_path, valid_size=0).train.labels) == 60_000
    content = np.frombuffer((raw / FILES[2]).read_bytes(), np.uint8).copy()
    content[5000] ^= 1
    (raw / FILES[2]).write_bytes(content.tobytes())
    with pytest.raises(UserError, match=f"{FILES[2]} is not the published file"):
        mnist(tmp_path)


def test_fashion_mnist_is_known_by_what_its_files_hold_however_they_are_packed(data_root, tmp_path):
    shared = data_root / "FashionMNIST" / "raw"
    if not shared.is_dir():
        pytest.skip("BBBRUN_DATA does not hold FashionMNIST/raw")
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for name in FILES:
        content = gzip.decompress((shared / f"{name}.gz").read_bytes())
        (raw / f"{name}.gz").write_bytes(gzip.compress(content, compresslevel=1))
    images = load("fashion_mnist", tmp_path)
    assert [len(split.labels) for split in (images.train, images.valid, images.test)] == [50_000, 10_000, 10_000]
    # Its authors' examples begin with an ankle boot, a T-shirt and another; the mean pixel is 0.286 of the brightest.
    assert images.train.labels[:3].tolist() == [9, 0, 0]
    assert images.train.inputs.mean().item() * 126 / 255 == pytest.approx(0.286, abs=0.001)
    assert torch.cat([images.train.labels, images.valid.labels]).bincount().tolist() == [6000] * 10
    # Each of the four files is told from the one of MNIST's that has its name.
    shutil.copytree(data_root / "MNIST", tmp_path / "MNIST")
    assert images.train.labels[:5].tolist() != mnist(tmp_path).train.labels[:5].tolist()
    shutil.copy(tmp_path / "MNIST" / "raw" / f"{FILES[3]}.gz", raw)
    with pytest.raises(UserError, match=f"{FILES[3]}.gz is not the published file"):
        load("fashion_mnist", tmp_path)


def packed_kmnist(raw, count=60):
    """Four small files in KMNIST's format, and what they hold: pixels and labels."""
    raw.mkdir(parents=True)
    parts = []
    for part in ("train", "t10k"):
        pixels = np.random.default_rng(len(parts)).integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = np.arange(count, dtype=np.uint8) % 10
        parts += [pixels, labels]
        heads = (struct.pack(">4i", 2051, count, 28, 28), struct.pack(">2i", 2049, count))
        for head, values, kind in zip(heads, (pixels, labels), ("images-idx3", "labels-idx1"), strict=True):
            (raw / f"{part}-{kind}-ubyte.gz").write_bytes(gzip.compress(head + values.tobytes(), mtime=0))
    return parts


def test_kmnist_is_read_from_its_packed_files_alone(tmp_path, monkeypatch):
    raw = tmp_path / "KMNIST" / "raw"
    pixels, labels, test_pixels, _ = packed_kmnist(raw)
    with pytest.raises(UserError, match=f"{FILES[0]}.gz is not the published file"):
        load("kmnist", tmp_path, valid_size=10)
    # torchvision holds the published digests, which files as small as these do not have.
    digests = [(f"{name}.gz", hashlib.md5((raw / f"{name}.gz").read_bytes()).hexdigest()) for name in FILES]
    monkeypatch.setattr(KMNIST, "resources", digests)
    (raw / FILES[0]).write_bytes(b"of no published digest")
    images = load("kmnist", tmp_path, valid_size=10)
    both = torch.cat([images.train.inputs, images.valid.inputs])
    torch.testing.assert_close(both[:, 0] * 126, torch.from_numpy(pixels).float())
    torch.testing.assert_close(images.test.inputs[:, 0] * 126, torch.from_numpy(test_pixels).float())
    assert images.train.labels.tolist() == labels[:50].tolist()
    (raw / f"{FILES[2]}.gz").unlink()
    with pytest.raises(UserError, match=r"KMNIST/raw/t10k-images-idx3-ubyte\.gz is missing"):
        load("kmnist", tmp_path, valid_size=10)


@pytest.mark.parametrize("name", IDX)
def test_each_set_is_downloaded_from_its_own_mirrors_into_its_own_folder(cache, monkeypatch, name):
    asked = []

    def unreachable(url, folder, filename):
        asked.append(url)
        raise RuntimeError("no network")

    monkeypatch.setattr("bbbrun.data.download.download_url", unreachable)
    source = IDX[name].source
    with pytest.raises(
        UserError, match=rf"{source.__name__}/raw/{FILES[0]}\.gz is missing and could not be downloaded"
    ):
        load(name, None)
    assert sorted(asked) == sorted(f"{mirror}{FILES[0]}.gz" for mirror in source.mirrors)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The user's cache folder, the only one into which anything is downloaded."""
    monkeypatch.delenv("BBBRUN_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "bbbrun"


def test_a_download_that_is_cut_short_leaves_nothing(data_root, cache, monkeypatch):
    raw = cache / "MNIST" / "raw"
    shutil.copytree(data_root / "MNIST" / "raw", raw)
    (raw / f"{FILES[0]}.gz").unlink()

    def torn(url, folder, filename):
        (folder / filename).write_bytes(b"half")
        raise RuntimeError("File not found or corrupted.")

    monkeypatch.setattr("bbbrun.data.download.download_url", torn)
    with pytest.raises(UserError, match=f"{FILES[0]}.gz is missing and could not be downloaded"):
        mnist(None)
    assert sorted(path.name for path in raw.iterdir()) == sorted(f"{name}.gz" for name in FILES[1:])


def test_a_download_takes_its_name_when_it_is_whole(data_root, cache, monkeypatch):
    asked = []

    def copy(url, folder, filename):
        asked.append(url)
        shutil.copy(data_root / "MNIST" / "raw" / url.rpartition("/")[2], folder / filename)

    monkeypatch.setattr("bbbrun.data.download.download_url", copy)
    assert len(mnist(None).test.labels) == 10_000
    assert len(asked) == 4
    assert sorted(path.name for path in (cache / "MNIST" / "raw").iterdir()) == sorted(f"{name}.gz" for name in FILES)


@pytest.mark.parametrize("named", [".", "MNIST", "MNIST/raw"])
def test_the_folder_of_the_data_set_itself_may_be_named(data_root, tmp_path, named):
    raw = tmp_path / "MNIST" / "raw"
    shutil.copytree(data_root / "MNIST" / "raw", raw)
    before = sorted(tmp_path.rglob("*"))
    assert len(mnist(tmp_path / named).test.labels) == 10_000
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("key", ["dataset.root", "BBBRUN_DATA"])
@pytest.mark.parametrize("given", [[], ["MNIST/raw/"], ["raw/"], [f"MNIST/raw/{FILES[1]}"]])
def test_nothing_is_written_into_a_folder_that_was_named(tmp_path, monkeypatch, key, given):
    def download(*_):
        raise AssertionError("downloaded")

    monkeypatch.setattr("bbbrun.data.download.download_url", download)
    monkeypatch.setenv("BBBRUN_DATA", str(tmp_path) if key == "BBBRUN_DATA" else "")
    for name in given:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).mkdir() if name.endswith("/") else (tmp_path / name).write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match="nothing is downloaded into a folder that you named"):
        mnist(tmp_path if key == "dataset.root" else None)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("ours", [True, False])
def test_another_data_sets_file_is_called_that_and_nobody_is_told_to_delete_it(tmp_path, cache, ours):
    raw = (cache if ours else tmp_path) / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name in FILES:
        (raw / name).write_bytes(b"\0" * 1000)  # as FashionMNIST's, whose files have the same names
    with pytest.raises(UserError, match="is another data set's, changed, or cut short") as refusal:
        mnist(None if ours else tmp_path)
    line = str(refusal.value)
    assert FILES[0] in line
    assert "delete" not in line
    assert ("move it away to have it downloaded again" in line) is ours
