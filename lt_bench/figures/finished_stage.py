"""A finished stage 1 with all of its snapshots, as figures need it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lt_bench.arguments import check_seeds
from lt_bench.config import load_experiment
from lt_bench.engine.stage2 import FrozenRepresentation
from lt_bench.errors import LTBenchError
from lt_bench.run.jobs import Job, Settings, jobs_of
from lt_bench.run.shared_stage1 import check_snapshots_of, held


@contextmanager
def finished_stage(
    config: str, seed: int, options: Mapping[str, Any], work_dir: Path
) -> Iterator[tuple[Job, FrozenRepresentation]]:
    """The stage 1 of a config, for this call alone.

    Args:
        config: a name or a path.
        seed: the run's seed.
        options: overrides of the config, dotted keys.
        work_dir: folder of stage-1 artefacts.

    Raises:
        LTBenchError: the config is faulty or takes no snapshots, its stage 1 was not trained, or its
            snapshots were taken in another way or not all kept; where training helps, the sentence has the
            command.
    """
    check_seeds([seed])
    experiment = load_experiment(config, options)
    if experiment.config["snapshots"]["capture"] == "none":
        raise LTBenchError(
            f"this figure is made of snapshots, and {experiment.name} takes none (snapshots.capture is "
            "'none'); give --cfg-options snapshots.capture=training_forward, or name another config"
        )
    (job,) = jobs_of([experiment], [seed], Settings(work_dir, work_dir / "records"))
    stage = job.stage
    command = _command(config, seed, options, work_dir)
    manifest = stage.manifest()
    if manifest is None:
        raise LTBenchError(
            f"there is no finished stage 1 of {experiment.name} with seed {seed} in {work_dir}; "
            f"train it: {command}"
        )
    check_snapshots_of([job], manifest)
    missing = set(range(1, stage.epochs + 1)) - set(stage.store().epochs())
    if missing:
        raise LTBenchError(
            f"stage 1 in {stage.folder} kept no snapshot of {len(missing)} of its {stage.epochs} epochs (the "
            f"first is {min(missing)}); delete that folder and train it again: {command}"
        )
    with held([job]):
        yield job, FrozenRepresentation(stage)


def chosen_epochs(asked: Sequence[int] | None, first: int, last: int, number: int) -> list[int]:
    """The epochs that a figure shows, ascending.

    Args:
        asked: by a person; None for ``number`` of them, evenly spaced, with the first and the last.
        first: the first that can be shown.
        last: the last that can be.
        number: how many unless asked for.

    Raises:
        LTBenchError: there are fewer than two, or one cannot be shown.
    """
    if asked is None:
        steps = max(1, number - 1)
        asked = [first + round(step * (last - first) / steps) for step in range(number)]
    epochs = sorted(set(asked))
    if first > last or len(epochs) < 2 or epochs[0] < first or epochs[-1] > last:
        raise LTBenchError(
            f"this figure shows two or more epochs from {first} to {last}, got "
            f"{', '.join(map(str, epochs))}; name others, or train stage 1 for longer"
        )
    return epochs


def _command(config: str, seed: int, options: Mapping[str, Any], work_dir: Path) -> str:
    given = {**options, "snapshots.keep": "all"}
    words = ["lt-bench", "run", config, "--seeds", str(seed), "--cfg-options"]
    words += [f"{key}={value}" for key, value in given.items()]
    # Not beside the records of a board, whose runs may have kept less; one that is there may have, too.
    words += ["--work-dir", str(work_dir), "--records", str(work_dir / "records"), "--replace"]
    return shlex.join(words)
