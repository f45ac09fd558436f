"""A misspelt recipe is refused before it trains the wrong thing."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from realm.config import Settings, override, read_settings, read_toml
from realm.errors import SettingError


class Inner(Settings):
    num_steps: int = 10
    learning_rate: float = 0.1


class Outer(Settings):
    name: str
    inner: Inner = Inner()
    other: Inner | None = None
    width: int | None = 128


def test_nested_values_are_read() -> None:
    settings = read_settings(Outer, {"name": "x", "inner": {"num_steps": 3}}, origin="recipe")
    assert settings == Outer(name="x", inner=Inner(num_steps=3))


def test_an_optional_setting_is_left_out_by_name() -> None:
    values = override({"name": "none"}, ["width=none"])
    settings = read_settings(Outer, values, origin="recipe")
    assert settings.width is None
    assert settings.name == "none", "what cannot be left out keeps its word"
    with pytest.raises(SettingError, match=r"num_steps: .*\(got 'none'\)"):
        read_settings(Inner, {"num_steps": "none"}, origin="recipe")


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        Inner().num_steps = 3


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "x", "innr": {}}, "recipe: unknown key 'innr'; did you mean 'inner'?"),
        (
            {"name": "x", "inner": {"num_stps": 3}},
            "recipe: unknown key 'inner.num_stps'; did you mean 'num_steps'?",
        ),
        (
            {"name": "x", "other": {"learning_rat": 3}},
            "recipe: unknown key 'other.learning_rat'; did you mean 'learning_rate'?",
        ),
        (
            {"name": "x", "inner": {"qqq": 3}},
            "recipe: unknown key 'inner.qqq'; known keys: num_steps, learning_rate",
        ),
    ],
)
def test_an_unknown_key_names_the_nearest(values: dict[str, object], message: str) -> None:
    with pytest.raises(SettingError) as caught:
        read_settings(Outer, values, origin="recipe")
    assert str(caught.value) == message


def test_an_impossible_value_is_shown() -> None:
    with pytest.raises(SettingError, match=r"recipe: inner\.num_steps: .*\(got 'many'\)"):
        read_settings(Outer, {"name": "x", "inner": {"num_steps": "many"}}, origin="recipe")


def test_a_missing_key_is_named() -> None:
    with pytest.raises(SettingError, match="recipe: name: Field required"):
        read_settings(Outer, {}, origin="recipe")


def test_overrides_are_read_as_toml_or_as_text() -> None:
    values = {"a": {"b": 1}, "c": "x"}
    changed = override(
        values,
        ["a.b=2", "a.d = 0.5", "c=plain words", "e.f=[1, 2]", "g=true", 'h="2"', "i=a=b"],
    )
    assert changed == {
        "a": {"b": 2, "d": 0.5},
        "c": "plain words",
        "e": {"f": [1, 2]},
        "g": True,
        "h": "2",
        "i": "a=b",
    }
    assert values == {"a": {"b": 1}, "c": "x"}


def test_the_last_override_wins() -> None:
    assert override({}, ["a=1", "a=2"]) == {"a": 2}


@pytest.mark.parametrize("assignment", ["a", "=1", " =1"])
def test_an_override_needs_key_and_value(assignment: str) -> None:
    with pytest.raises(SettingError, match=r"section\.key=value"):
        override({}, [assignment])


def test_an_override_cannot_go_into_a_value() -> None:
    with pytest.raises(SettingError, match="a is a value, not a section"):
        override({"a": 1}, ["a.b=2"])


def test_toml_errors_name_the_file(tmp_path: Path) -> None:
    file = tmp_path / "recipe.toml"
    with pytest.raises(SettingError, match="there is no recipe"):
        read_toml(file)
    file.write_text("a = ")
    with pytest.raises(SettingError, match=r"recipe\.toml is not valid TOML"):
        read_toml(file)
    file.write_bytes(b"a = '\xff'")
    with pytest.raises(SettingError, match=r"recipe\.toml is not valid TOML"):
        read_toml(file)
    file.write_text("[a]\nb = 1")
    assert read_toml(file) == {"a": {"b": 1}}
