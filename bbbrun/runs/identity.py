"""When two runs are the same: their configurations agree in every key that changes the result."""

from typing import Any

# Keys that may differ between a run and its resumption: they decide where and how fast it runs. Threads and device
# change its result by rounding.
FREE_ON_RESUME = ("resume", "objective", "device", "threads", "dataset.root", "train.checkpoint_seconds")
# Runs of one setting may also differ in seed, name and how often they report.
_FREE = (*FREE_ON_RESUME, "seed", "replicas", "name", "compile", "train.evaluate_every")

# Keys that configurations of earlier versions lack, with the values that they had.
_LATER = {"precision": "float32", "objective": None}
# The same for one option of a group, or for each of them.
_LATER_IN: dict[tuple[str, str | None], dict[str, Any]] = {
    ("network", None): {"name": "mlp"},
    ("agent", "contextual"): {"cold_start": True},
    **{("dataset", name): {"test": True} for name in ("mnist", "fashion_mnist", "kmnist", "digits")},
}
# Methods that earlier versions named differently.
_RENAMED_METHODS = {"sgd": "mle"}


def leaves(tree: Any, prefix: str = "") -> dict[str, str]:
    """The leaves of nested dictionaries as text, by their dotted keys."""
    if not isinstance(tree, dict):
        return {prefix: str(tree)}
    return {
        key: leaf for name, part in tree.items() for key, leaf in leaves(part, f"{prefix}.{name}".lstrip(".")).items()
    }


def whole(config: dict[str, Any]) -> dict[str, Any]:
    """A run's configuration with the keys and names of this version: later keys added, renamed options renamed."""
    config = _LATER | config
    # Earlier versions had a switch for TensorFloat-32 alone.
    if config.pop("tf32", False):
        config["precision"] = "tf32"
    for (group, name), later in _LATER_IN.items():
        option = config.get(group)
        if isinstance(option, dict) and name in (None, option.get("name")):
            config[group] = later | option
    method = config.get("method")
    if isinstance(method, dict) and method.get("name") in _RENAMED_METHODS:
        config["method"] = method | {"name": _RENAMED_METHODS[method["name"]]}
    return config


def setting(config: dict[str, Any], *but: str) -> frozenset[tuple[str, str]]:
    """A run's setting, key by key, without the keys `but`: equal for the seeds of one experiment."""
    return frozenset((key, leaf) for key, leaf in leaves(whole(config)).items() if key not in (*_FREE, *but))


def differing(one: frozenset[tuple[str, str]], other: frozenset[tuple[str, str]]) -> set[str]:
    """The keys in which two settings differ."""
    return {key for key, _ in one ^ other}


def differing_on_resume(earlier: dict[str, Any], later: dict[str, Any]) -> dict[str, tuple[str | None, str | None]]:
    """The keys, with both values, whose difference forbids resuming a run of configuration `earlier` as `later`."""
    old, new = leaves(whole(earlier)), leaves(whole(later))
    return {
        key: (old.get(key), new.get(key))
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key) and key not in FREE_ON_RESUME
    }
