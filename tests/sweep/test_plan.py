"""Planning: what shares a stage 1 is one job."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lt_bench.commands.options import parse_options
from lt_bench.config import load_experiment
from lt_bench.errors import LTBenchError
from lt_bench.run.jobs import Settings, jobs_of
from lt_bench.sweep import plan as planning
from lt_bench.sweep.job import Spec
from lt_bench.sweep.plan import Asked, plan, stages_of


@pytest.fixture()
def planned(tmp_path: Path, options: list[str]) -> Callable[..., list[Spec]]:
    def make(*configs: str, seeds: tuple[int, ...] = (0,), words: tuple[str, ...] = ()) -> list[Spec]:
        given = [*options, *words]
        asked = [Asked(name, load_experiment(name, parse_options(given))) for name in configs]
        return plan(asked, seeds, given, tmp_path / "here" / "work", tmp_path / "here" / "records")

    return make


def test_one_job_a_stage_1_and_seed(planned: Callable) -> None:
    specs = planned("digits_lt/crt", "digits_lt/ldam", "digits_lt/breadcrumb_strong", seeds=(3, 1))
    together = ("digits_lt/crt", "digits_lt/breadcrumb_strong")
    assert [(spec.seed, spec.names) for spec in specs] == [
        (3, together),
        (3, ("digits_lt/ldam",)),
        (1, together),
        (1, ("digits_lt/ldam",)),
    ]
    assert len({spec.stages for spec in specs}) == 4 and len({spec.id for spec in specs}) == 4
    assert specs[0].kind == specs[2].kind != specs[1].kind


def test_the_same_call_gives_the_same_jobs(planned: Callable) -> None:
    first = planned("digits_lt/crt")
    assert planned("digits_lt/crt") == first
    assert planned("digits_lt/crt", words=("classifier_recipe.epochs=3",))[0].id != first[0].id


def test_teachers_count(planned: Callable, tmp_path: Path, short: Callable) -> None:
    """Two jobs must not train one teacher at once."""
    (job,) = jobs_of([short("lfme")], [0], Settings(tmp_path / "work", tmp_path / "records"))
    stages = stages_of(job.stage)
    assert job.stage.identity in stages and len(stages) > 1


def test_a_run_between_two_groups_joins_them(planned: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = planning.stages_of

    def with_a_shared_teacher(stage: Any) -> set[str]:
        name = stage.config["method"]["representation"]["type"]
        return whole(stage) | {"focal": {"f"}, "ldam": {"l"}, "mixup": {"f", "l"}}.get(name, set())

    monkeypatch.setattr(planning, "stages_of", with_a_shared_teacher)
    names = ["digits_lt/focal", "digits_lt/plain", "digits_lt/ldam", "digits_lt/mixup"]
    first, second = planned(*names)
    assert first.names == ("digits_lt/focal", "digits_lt/ldam", "digits_lt/mixup")
    assert second.names == ("digits_lt/plain",)
    assert {"f", "l"} < set(first.stages) and len(first.stages) == 5


def test_records_that_are_there(planned: Callable, launch: Callable, short: Callable, tmp_path: Path) -> None:
    (spec,) = planned("digits_lt/plain")
    assert not spec.recorded()
    launch(short("plain", **{"stage1.numerics.threads": 1}))
    assert spec.recorded() and planned("digits_lt/plain") == [spec]
    with pytest.raises(LTBenchError, match="is the record of another run"):
        planned("digits_lt/plain", words=("stage1.epochs=4",))
    shutil.rmtree(tmp_path / "here" / "records")
    assert not spec.recorded()


def test_bad_input_is_refused_first(planned: Callable) -> None:
    with pytest.raises(LTBenchError, match="twice"):
        planned("digits_lt/plain", seeds=(1, 1))
    with pytest.raises(LTBenchError, match="no config"):
        planned("digits_lt/plane")
