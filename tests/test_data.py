import gzip
import shutil

import numpy as np
import pytest
import torch

from bbbrun.data.images import load_images
from bbbrun.errors import UserError
from bbbrun.schema.datasets import DigitsConfig, MnistConfig

FILES = [f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]


def test_digits_are_split_without_overlap_and_scaled():
    images = load_images(DigitsConfig(name="digits", valid_size=200, pixel_divisor=8.0), torch.device("cpu"))
    sizes = [len(split.inputs) for split in (images.train, images.valid, images.test)]
    assert sizes == [1797 - 200 - 360, 200, 360]
    assert images.train.inputs.shape[1:] == (1, 8, 8)
    assert images.classes == 10
    assert images.train.inputs.max() == 2
    rows = torch.cat([split.inputs for split in (images.train, images.valid, images.test)])
    assert len(rows.unique(dim=0)) == 1797


def mnist(root, valid_size=10_000):
    config = MnistConfig(name="mnist", root=str(root), valid_size=valid_size, pixel_divisor=126.0)
    return load_images(config, torch.device("cpu"))


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
    with pytest.raises(UserError, match=f"{FILES[2]} is corrupt"):
        mnist(tmp_path)


def test_a_download_that_is_cut_short_leaves_nothing(data_root, tmp_path, monkeypatch):
    raw = tmp_path / "MNIST" / "raw"
    shutil.copytree(data_root / "MNIST" / "raw", raw)
    (raw / f"{FILES[0]}.gz").unlink()

    def torn(url, folder, filename):
        (folder / filename).write_bytes(b"half")
        raise RuntimeError("File not found or corrupted.")

    monkeypatch.setattr("bbbrun.data.download.download_url", torn)
    with pytest.raises(UserError, match=f"{FILES[0]}.gz is missing and could not be downloaded"):
        mnist(tmp_path)
    assert sorted(path.name for path in raw.iterdir()) == sorted(f"{name}.gz" for name in FILES[1:])


def test_a_download_takes_its_name_when_it_is_whole(data_root, tmp_path, monkeypatch):
    (tmp_path / "MNIST").mkdir()
    asked = []

    def copy(url, folder, filename):
        asked.append(url)
        shutil.copy(data_root / "MNIST" / "raw" / url.rpartition("/")[2], folder / filename)

    monkeypatch.setattr("bbbrun.data.download.download_url", copy)
    assert len(mnist(tmp_path).test.labels) == 10_000
    assert len(asked) == 4
    assert sorted(path.name for path in (tmp_path / "MNIST" / "raw").iterdir()) == sorted(
        f"{name}.gz" for name in FILES
    )
