"""Printed and recorded values are read back unchanged by Hydra and by OmegaConf."""

import json
from contextlib import nullcontext

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import example, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from bbbrun.errors import UserError
from bbbrun.schema.config import composed, plain
from bbbrun.schema.fixing import fixed, yaml_text
from bbbrun.schema.quoting import quoted, word

PARSER = OverridesParser.create()
# Text of a command line: no NUL, and nothing that UTF-8 cannot hold.
TEXT = st.one_of(
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
    st.text("a'\"\\${}[]()=,:~@ \t5.e", max_size=12),
)
NUMBERS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False)
VALUES = st.recursive(TEXT | NUMBERS, lambda parts: st.lists(parts, max_size=3), max_leaves=6)


def read_back(text):
    """What a configuration holds after the override `text`."""
    override = PARSER.parse_override(text)
    assert not override.is_sweep_override()
    return OmegaConf.to_container(OmegaConf.create({"key": override.value()}), resolve=True)["key"]


@settings(deadline=None, database=None)
@given(VALUES)
@example("Dropbox (Uni)")
@example("josé")
@example("a,b")
@example("it's \\")
@example("\\\\'${x}\\")
@example("")
def test_a_quoted_value_is_read_back(value):
    assert read_back(f"key={quoted(value)}") == value
    assert read_back(word("key", value)) == value


@settings(deadline=None, database=None)
@given(TEXT)
@example("\\${x}")
@example("a\x85b")
def test_a_fixed_value_is_the_value(text):
    node = OmegaConf.create({"own": "${t:}", "list": ["${t:}"]})
    OmegaConf.register_new_resolver("t", lambda: text, replace=True)
    copy = fixed(node)
    OmegaConf.clear_resolver("t")  # whatever stays an interpolation now raises
    assert OmegaConf.to_container(copy, resolve=True) == {"own": text, "list": [text]}
    # Raw, and not as an escape within quotes, it is what PyYAML does not read back.
    with pytest.raises(UserError, match=r"U\+0085") if "\x85" in OmegaConf.to_yaml(copy) else nullcontext():
        record = OmegaConf.create(yaml_text(copy))
        assert OmegaConf.to_container(record, resolve=True) == {"own": text, "list": [text]}
    assert json.dumps(OmegaConf.to_container(copy)) == json.dumps(OmegaConf.to_container(fixed(copy)))


@pytest.mark.parametrize("value", ["seed=${oc.env:N}", "seed=${train.epochs}"])
def test_a_fixed_configuration_does_not_hear_the_environment(monkeypatch, value):
    monkeypatch.setenv("N", "3")
    copy = fixed(composed([value, "train.epochs=3"]))
    monkeypatch.setenv("N", "9")
    assert plain(copy)[value.partition("=")[0]] == 3


@pytest.mark.parametrize("text", ["1e5", ".5", "null", "True", "NaN", "-inf", "1_0", "~/x", "a=b"])
def test_a_word_stands_in_quotes_where_hydra_would_read_something_else(text):
    assert word("key", text) == f"key='{text}'"


def test_a_plain_path_needs_no_quotes():
    assert word("resume", "/results/runs/mnist/2026-01-01_1") == "resume=/results/runs/mnist/2026-01-01_1"
