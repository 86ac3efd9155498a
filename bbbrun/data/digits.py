"""scikit-learn's digits and their split, without loading scikit-learn, which takes as long as torch.

Source of the file: Alpaydin and Kaynak, "Optical recognition of handwritten digits", UCI, 1998, its test part.
"""

import importlib.util
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_TEST_SIZE = 360


def load_digits() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The 1797 images (N, 8, 8), values 0 .. 16, and labels (N,), in the file's order, which is by writer."""
    spec = importlib.util.find_spec("sklearn")
    folders = [] if spec is None else spec.submodule_search_locations or []
    files = [path for folder in folders for path in Path(folder).glob("datasets/data/digits.csv.gz")]
    if not files:
        from sklearn import datasets

        digits = datasets.load_digits()
        return digits.images, digits.target
    rows = np.loadtxt(files[0], delimiter=",")
    return rows[:, :-1].reshape(-1, 8, 8), rows[:, -1].astype(np.int64)


def digits_parts(labels: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The indices of the training and of the test images, the same for every run.

    What sklearn.model_selection.train_test_split with test_size=360, random_state=0 and stratify=labels chooses: each
    class has its share of both parts. Every version of NumPy gives this generator's numbers.
    """
    generator = np.random.RandomState(0)
    counts = np.bincount(labels)
    train_counts = _shares(counts, len(labels) - _TEST_SIZE, generator)
    test_counts = _shares(counts - train_counts, _TEST_SIZE, generator)
    members = np.split(np.argsort(labels, kind="stable"), np.cumsum(counts)[:-1])
    train, test = [], []
    for indices, first, second in zip(members, train_counts, test_counts, strict=True):
        shuffled = indices[generator.permutation(len(indices))]
        train.append(shuffled[:first])
        test.append(shuffled[first : first + second])
    return generator.permutation(np.concatenate(train)), generator.permutation(np.concatenate(test))


def _shares(counts: NDArray[np.int64], total: int, generator: np.random.RandomState) -> NDArray[np.int64]:
    """How many of `total` each class gets: its share rounded down, and one more for the largest remainders."""
    exact = counts / counts.sum() * total
    shares = np.floor(exact)
    remainders = exact - shares
    for remainder in np.unique(remainders)[::-1]:
        missing = int(total - shares.sum())
        if missing == 0:
            break
        [equal] = np.nonzero(remainders == remainder)
        shares[generator.choice(equal, size=min(len(equal), missing), replace=False)] += 1
    whole: NDArray[np.int64] = shares.astype(np.int64)
    return whole
