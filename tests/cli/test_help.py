"""What a person reads before the first run: help with examples, completion, and what is missing."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec

import click
import pytest
import typer

from nmfuse.cli.app import app
from nmfuse.cli.doctor import states


def commands() -> dict[str, click.Command]:
    found: dict[str, click.Command] = {}
    top = typer.main.get_command(app)
    for name, command in top.commands.items():  # type: ignore[attr-defined]
        inner = getattr(command, "commands", None)
        found |= {name: command} if inner is None else {f"{name} {each}": value for each, value in inner.items()}
    return found


@pytest.mark.parametrize("name", commands())
def test_each_command_says_what_it_does_and_has_two_examples(name: str) -> None:
    first, *others = [part.strip() for part in (commands()[name].help or "").split("\n\n")]
    assert first.endswith((".", "one."))
    assert "\n" not in first
    examples = [part for part in others if part.startswith("nmfuse ")]
    assert len(examples) >= 2
    assert any(example.startswith(f"nmfuse {name}") for example in examples)


@pytest.mark.parametrize("name", commands())
def test_the_examples_have_options_that_exist(name: str) -> None:
    known = commands()
    for example in (part.strip() for part in (known[name].help or "").split("\n\n")):
        words = example.split()
        if words[:1] != ["nmfuse"]:
            continue
        command = known.get(" ".join(words[1:3])) or known[words[1]]
        options = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words if word.startswith("-")} <= options


def typed(*arguments: str, **environment: str) -> str:
    command = [sys.executable, "-m", "nmfuse.cli", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **environment})
    return done.stdout


def test_completion_is_there_and_completes() -> None:
    assert "complete -o default" in typed("--show-completion", "bash", _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    asked = {"_NMFUSE_COMPLETE": "complete_bash", "COMP_WORDS": "nmfuse al", "COMP_CWORD": "1"}
    assert typed(**asked).split() == ["align"]


def test_doctor_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nibabel", None)
    monkeypatch.setitem(sys.modules, "av", None)
    found = dict(states())
    assert found["NIfTI (.nii, .nii.gz)"] == "nibabel is missing: pip install 'nmfuse[medical]'"
    assert found["videos: nmfuse video"] == "av is missing: pip install 'nmfuse[video]'"
    assert found["PNG (.png)"] == "there"
    assert (found["DICOM (.dcm)"] == "there") == (find_spec("pydicom") is not None)
