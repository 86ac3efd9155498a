"""The UCI mushrooms: found or downloaded, verified, and made one-hot.

Source: J. Schlimmer, "Mushroom", UCI Machine Learning Repository, data set 73, 1981, CC BY 4.0.
"""

from io import BytesIO

import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from bbbrun.data.download import Checksum, data_root, file_in, read_verified

_FOLDER, _FILE = "mushroom", "agaricus-lepiota.data"
_CHECKSUM = Checksum("sha256", "e65d082030501a3ebcbcd7c9f7c71aa9d28fdfff463bf4cf4716a3fe13ac360e")
# UCI's file, the copy of the wheel bandit's authors, and the archive that UCI offers now.
_MIRRORS = (
    "https://archive.ics.uci.edu/ml/machine-learning-databases/mushroom/agaricus-lepiota.data",
    "https://storage.googleapis.com/bandits_datasets/mushroom.data",
    "https://archive.ics.uci.edu/static/public/73/mushroom.zip",
)


def load_mushrooms(root: str | None) -> tuple[Tensor, Tensor]:
    """Contexts float32 (8124, 117), one 1 for each of the 22 features, and edible bool (8124,).

    A feature has an input for each letter that occurs, in the alphabet's order; "?" (a stalk root that was not
    recorded) is a letter like the others. `root` is the folder that holds the file or mushroom/ with the file;
    None means $BBBRUN_DATA or else the user's cache folder, the only one into which a missing file is downloaded.
    Raises UserError naming the file that is missing, another one or unreachable.
    """
    folder = data_root(root, f"{_FOLDER}/{_FILE}")
    content = read_verified(file_in(folder, (_FOLDER, "."), (_FILE,)), _CHECKSUM, _MIRRORS, ours=folder.ours)
    # The first column is the label, e: edible, p: poisonous.
    table = pd.read_csv(BytesIO(content), header=None, dtype=str, keep_default_na=False)
    columns = [_one_hot(table[column]) for column in table.columns[1:]]
    return torch.cat(columns, dim=1).to(torch.float32), torch.from_numpy((table[0] == "e").to_numpy(dtype=bool).copy())


def _one_hot(column: "pd.Series[str]") -> Tensor:
    codes, letters = pd.factorize(column, sort=True)
    return one_hot(torch.tensor(codes), len(letters))
