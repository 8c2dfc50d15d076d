"""The environment and the code version, inside and outside of a checkout."""

from __future__ import annotations

import json
import subprocess

import numpy
import torch

import lt_bench
from lt_bench.evaluation import environment
from lt_bench.evaluation.environment import code_version, describe_environment


def git(folder, *arguments):
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    answer = subprocess.run(
        ["git", "-C", str(folder), *identity, *arguments],
        check=True,
        capture_output=True,
        text=True,
    )
    return answer.stdout.strip()


def package_at(folder, monkeypatch):
    package = folder / "lt_bench" / "__init__.py"
    package.parent.mkdir(parents=True)
    package.write_text("")
    monkeypatch.setattr(environment.lt_bench, "__file__", str(package))
    return package


def test_the_environment_names_versions_and_nothing_personal():
    found = describe_environment("cpu")
    assert found["torch"] == torch.__version__.split("+")[0] or found["torch"] in torch.__version__
    assert found["numpy"] == numpy.__version__
    assert found["threads"] == torch.get_num_threads()
    assert found["device"] == "cpu" and found["cpu"]
    assert "/" not in json.dumps({**found, "cpu": ""})


def test_a_checkout_has_a_commit_and_may_be_dirty(tmp_path, monkeypatch):
    package = package_at(tmp_path, monkeypatch)
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "lt_bench")
    git(tmp_path, "commit", "-q", "-m", "one")
    clean = {"version": lt_bench.__version__, "commit": git(tmp_path, "rev-parse", "HEAD")}
    (tmp_path / "notes.txt").write_text("a result, no code")
    assert code_version() == {**clean, "dirty": False}
    package.write_text("changed = True")
    assert code_version() == {**clean, "dirty": True}


def test_an_installation_inside_another_repository_has_no_commit(tmp_path, monkeypatch):
    package_at(tmp_path / "site", monkeypatch)
    git(tmp_path, "init", "-q")
    (tmp_path / "own.py").write_text("")
    git(tmp_path, "add", "own.py")
    git(tmp_path, "commit", "-q", "-m", "one")
    assert code_version() == {"version": lt_bench.__version__, "commit": None, "dirty": None}


def test_without_git_there_is_no_commit(tmp_path, monkeypatch):
    package_at(tmp_path, monkeypatch)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert code_version() == {"version": lt_bench.__version__, "commit": None, "dirty": None}
