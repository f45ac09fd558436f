"""What README shows must exist: commands, options, recipes, packages, the names that it imports."""

import ast
import importlib
import re
from pathlib import Path

import typer
from click import Command

from realm.cli.main import app

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")

_COMMAND = "(?:evaluate |documents (?=add|remove|list)|spans (?=train))?[a-z-]+"


def commands() -> dict[str, Command]:
    program = typer.main.get_command(app)
    found = dict(program.commands)  # type: ignore[attr-defined]
    for name, group in list(found.items()):
        for inner, command in getattr(group, "commands", {}).items():
            found[f"{name} {inner}"] = command
    return found


def test_every_command_exists_with_its_options() -> None:
    known = commands()
    shown = re.findall(rf"\brealm ({_COMMAND})([^\n`]*)", README)
    shown = [(name, rest) for name, rest in shown if f"realm {name}" in README and name in known]
    assert len({name for name, _ in shown}) >= 10
    for name, rest in shown:
        options = {option for p in known[name].params for option in p.opts}
        assert set(re.findall(r"--[a-z-]+", rest)) <= options, f"realm {name}{rest}"
    unknown = set(re.findall(rf"`realm ({_COMMAND})", README)) - set(known)
    assert not unknown


def test_the_python_of_the_first_screen_imports_what_exists() -> None:
    block = re.search(r"```python\n(.*?)```", README, re.DOTALL)
    assert block is not None
    for node in ast.walk(ast.parse(block.group(1))):
        if isinstance(node, ast.ImportFrom):
            assert node.module is not None
            module = importlib.import_module(node.module)
            assert all(hasattr(module, alias.name) for alias in node.names)


def test_every_package_and_recipe_is_named() -> None:
    source = ROOT / "src" / "realm"
    packages = {p.parent.name for p in source.glob("*/__init__.py")} - {"demo"}
    assert all(f"`{package}`" in README for package in packages)
    assert all(f"`{recipe.stem}`" in README for recipe in (source / "recipes").glob("*.toml"))


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^make ([a-z]+)", README, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
