"""How a table's columns become inputs, as plain data: stored with a run, and applied again in prediction."""

import json
import math
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from bbbrun.errors import UserError

Label = str | int | bool


class Feature(NamedTuple):
    """An input column. A number enters the network as (x - mean[0]) / scale; a category one-hot, by `levels`.

    levels: the values of a category, as text, in order; () of a number. mean: of a number its mean over the training
    part, of a category the share of each level there. Either stands in for a missing value. scale: the deviation.
    """

    name: str
    levels: tuple[str, ...]
    mean: tuple[float, ...]
    scale: float

    @property
    def width(self) -> int:
        """The number of inputs of the network that it becomes."""
        return len(self.mean)


class Target(NamedTuple):
    """The column that is predicted: one of `classes`, or, where these are (), a number of this mean and deviation."""

    name: str
    classes: tuple[Label, ...]
    mean: float
    scale: float


class Form(NamedTuple):
    """How the rows of a table become inputs (N, D) of a network.

    ignored: columns that are not used. fill: whether missing values are replaced by `Feature.mean`. rows: their numbers
    in the training, validation and test parts. files: name -> SHA-256 of the files of the rows.
    """

    features: tuple[Feature, ...]
    target: Target
    ignored: tuple[str, ...]
    fill: bool
    rows: tuple[int, int, int]
    files: dict[str, str]

    @property
    def width(self) -> int:
        """D, the inputs of the network."""
        return sum(feature.width for feature in self.features)

    @property
    def texts(self) -> tuple[str, ...]:
        """The columns of texts, even where these look like numbers: categories, and classes that are no numbers."""
        named = any(isinstance(each, str) for each in self.target.classes)
        categories = [feature.name for feature in self.features if feature.levels]
        return (*categories, self.target.name) if named else tuple(categories)

    @property
    def meaning(self) -> tuple[Any, ...]:
        """Equal for two forms whose networks take the same columns and predict the same classes or target."""
        return tuple((each.name, each.levels) for each in self.features), self.target.name, self.target.classes

    def scaled(self, raw: Tensor) -> Tensor:
        """Inputs float32 (N, D) for raw values float64 (N, columns): numbers, levels' positions, NaN where missing."""
        parts = []
        for column, feature in zip(raw.unbind(1), self.features, strict=True):
            mean = torch.tensor(feature.mean, dtype=torch.float64)
            missing = column.isnan()
            if feature.levels:
                codes = torch.nan_to_num(column).to(torch.int64)
                part = torch.nn.functional.one_hot(codes, feature.width).double()
                part[missing] = mean
            else:
                part = ((column - mean) / feature.scale).masked_fill(missing, 0).unsqueeze(1)
            parts.append(part)
        # Numbers beyond float32's range are clipped to it.
        limit = torch.finfo(torch.float32).max
        return torch.cat(parts, dim=1).clamp(-limit, limit).to(torch.float32)

    def labels(self, values: "np.ndarray[Any, Any]") -> Tensor:
        """The network's targets for values of the target: classes 0 .. K - 1, or (y - mean) / scale float32 (N,)."""
        if self.target.classes:
            return torch.from_numpy(values.astype(np.int64))
        return torch.from_numpy(((values - self.target.mean) / self.target.scale).astype(np.float32))


def text_of(form: Form) -> str:
    """The form as JSON."""
    features = [
        {"name": each.name, "levels": list(each.levels), "shares": list(each.mean)}
        if each.levels
        else {"name": each.name, "mean": each.mean[0], "scale": each.scale}
        for each in form.features
    ]
    target = form.target
    predicted = {"classes": list(target.classes)} if target.classes else {"mean": target.mean, "scale": target.scale}
    content = {
        "features": features,
        "target": {"name": target.name} | predicted,
        "ignored": list(form.ignored),
        "fill": form.fill,
        "rows": dict(zip(PARTS, form.rows, strict=True)),
        "files": form.files,
    }
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def form_of(text: str, source: str) -> Form:
    """The form that `text_of` wrote; raises UserError naming `source` for any other text, since it may be anybody's."""
    try:
        content = json.loads(text)
        features = tuple(_feature(each) for each in _list(content["features"], dict))
        target, rows = content["target"], content["rows"]
        classes = tuple(_list(target.get("classes", []), (str, int)))
        number = {"mean": 0.0, "scale": 1.0} if classes else target
        form = Form(
            features,
            Target(_text(target["name"]), classes, _number(number["mean"]), _scale(number["scale"])),
            tuple(_list(content["ignored"], str)),
            bool(content["fill"]),
            (int(rows["train"]), int(rows["valid"]), int(rows["test"])),
            {_text(name): _text(digest) for name, digest in content["files"].items()},
        )
        if not features or len({each.name for each in features}) != len(features) or len(classes) == 1:
            raise ValueError("no columns, or the same one twice")
        if any(isinstance(each, int) and abs(each) >= 2**63 for each in classes):
            raise ValueError("a class beyond the whole numbers of pandas")
        # Half a character cannot be written to a file.
        json.dumps(content, ensure_ascii=False).encode()
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise UserError(
            f"{source} does not say how columns become inputs: train again, or leave the run out"
        ) from error
    return form


PARTS = ("train", "valid", "test")


def _feature(content: dict[str, Any]) -> Feature:
    name = _text(content["name"])
    if "levels" not in content:
        return Feature(name, (), (_number(content["mean"]),), _scale(content["scale"]))
    levels = tuple(_list(content["levels"], str))
    shares = tuple(_number(each) for each in _list(content["shares"], (int, float)))
    if not levels or len(levels) != len(shares) or len(set(levels)) != len(levels):
        raise ValueError("levels without shares, or the same one twice")
    return Feature(name, levels, shares, 1.0)


def _list(content: Any, kind: Any) -> list[Any]:
    if not isinstance(content, list) or not all(isinstance(each, kind) for each in content):
        raise TypeError("not a list of what belongs there")
    return content


def _text(content: Any) -> str:
    if not isinstance(content, str):
        raise TypeError("not a text")
    return content


def _number(content: Any) -> float:
    if isinstance(content, bool) or not isinstance(content, int | float) or not math.isfinite(content):
        raise ValueError("not a finite number")
    return float(content)


def _scale(content: Any) -> float:
    value = _number(content)
    if value <= 0:
        raise ValueError("not a positive number")
    return value
