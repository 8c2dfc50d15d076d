"""A job of a sweep and the folder that holds its state.

The layout is that of DomainBed's sweeps (Gulrajani and Lopez-Paz, ICLR 2021): a job is a folder, and marks
in it say how far it is.

    job.json      what the job is; it never changes, and its hash is part of the folder's name
    log.txt       what `lt-bench run` printed, every attempt after the one before
    done.json     the job's records are written; what they cost, where that was measured
    failed.json   the job ended by its own fault, and its sentence
    slurm.json    the id under which SLURM has it
    .lock         held by the processes of a running job, however they end
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lt_bench.config import digest
from lt_bench.engine.locks import held_since, is_held
from lt_bench.errors import LTBenchError
from lt_bench.evaluation.record import RunRecord, find_record
from lt_bench.files import write_atomically

State = Literal["waiting", "running", "interrupted", "failed", "done"]
STATES: tuple[State, ...] = ("done", "failed", "running", "interrupted", "waiting")
SPEC = "job.json"


@dataclass(frozen=True)
class Spec:
    """One call of ``lt-bench run``: the configs of a sweep that share a stage 1, and one seed.

    Attributes:
        configs: configs as they were given, names or paths.
        names: their experiments' names, in that order.
        keys: the keys of the records that they ask for, in that order.
        seed: the run's seed.
        options: words of ``--cfg-options``.
        stages: identities of the stage 1s that are trained, teachers included.
        work_dir: folder of stage-1 artefacts.
        records: folder of run records.
    """

    configs: tuple[str, ...]
    names: tuple[str, ...]
    keys: tuple[str, ...]
    seed: int
    options: tuple[str, ...]
    stages: tuple[str, ...]
    work_dir: str
    records: str

    @property
    def id(self) -> str:
        """The name of the job's folder."""
        return f"{self.names[0].replace('/', '.')}.seed_{self.seed}.{digest(dataclasses.asdict(self))[:8]}"

    @property
    def title(self) -> str:
        """What a person calls the job."""
        more = f" and {len(self.names) - 1} more" if len(self.names) > 1 else ""
        return f"{self.names[0]}{more} seed {self.seed}"

    @property
    def kind(self) -> tuple[Any, ...]:
        """Equal for jobs that differ in nothing but the seed, and so cost the same."""
        return self.names, self.options

    def folders(self) -> list[Path]:
        """Folders of the stage 1s, teachers' included."""
        return [Path(self.work_dir) / "stage1" / identity for identity in self.stages]

    def found(self) -> list[RunRecord]:
        """Those of the job's records that are written.

        Raises:
            LTBenchError: one is damaged.
        """
        asked = zip(self.names, self.keys, strict=True)
        there = (find_record(self.records, name, self.seed, key) for name, key in asked)
        return [record for _, record in filter(None, there)]

    def recorded(self) -> bool:
        """Whether all of the job's records are written."""
        return len(self.found()) == len(self.names)


@dataclass(frozen=True)
class SweepJob:
    """A job with its folder.

    Attributes:
        folder: where its state lies.
        spec: what it is.
    """

    folder: Path
    spec: Spec

    @property
    def log(self) -> Path:
        """What the job printed."""
        return self.folder / "log.txt"

    def state(self) -> State:
        """How far the job is, by its marks and its lock; by its records where nobody was left to mark it."""
        if self.marked("done"):
            return "done"
        if self.running():
            return "running"
        if self.spec.recorded():
            return "done"
        if self.marked("failed"):
            return "failed"
        return "interrupted" if self.log.exists() else "waiting"

    def marked(self, mark: Literal["done", "failed"]) -> bool:
        """Whether the job has a mark."""
        return (self.folder / f"{mark}.json").exists()

    def running(self) -> bool:
        """Whether a process holds the job's folder."""
        return is_held(self.folder)

    def began(self) -> float | None:
        """When a process took the job's folder last, in seconds since the epoch; None where none did."""
        return held_since(self.folder)

    def create(self) -> None:
        """Make the folder with its spec; one that is there is left as it is."""
        if not (self.folder / SPEC).exists():
            _write(self.folder / SPEC, dataclasses.asdict(self.spec))

    def mark_done(self, cost: dict[str, float] | None) -> None:
        """Say that every record is written.

        Args:
            cost: ``stage1`` and ``other``, in seconds; None where this sweep measured none.
        """
        _write(self.folder / "done.json", {"seconds": cost})
        (self.folder / "failed.json").unlink(missing_ok=True)

    def mark_failed(self, sentence: str, exit_code: int) -> None:
        """Say that the job ended by its own fault."""
        _write(self.folder / "failed.json", {"sentence": sentence, "exit_code": exit_code})

    def forget(self, mark: Literal["done", "failed"]) -> None:
        """Take a mark away, so that the job is run again."""
        (self.folder / f"{mark}.json").unlink(missing_ok=True)

    def cost(self) -> dict[str, float] | None:
        """What a finished job cost: seconds of ``stage1`` and ``other``, where they were measured."""
        path = self.folder / "done.json"
        return _read(path)["seconds"] if path.exists() else None

    def failure(self) -> str:
        """The sentence of a failed job."""
        return str(_read(self.folder / "failed.json")["sentence"])

    def mark_submitted(self, slurm_id: str) -> None:
        """Note the id under which SLURM has the job."""
        _write(self.folder / "slurm.json", {"id": slurm_id})

    def slurm_id(self) -> str | None:
        """The id under which SLURM had the job last."""
        path = self.folder / "slurm.json"
        return str(_read(path)["id"]) if path.exists() else None


def open_job(folder: Path) -> SweepJob:
    """The job of a folder.

    Raises:
        LTBenchError: its spec does not read.
    """
    given = _read(folder / SPEC)
    try:
        fields: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in given.items()
        }
        return SweepJob(folder, Spec(**fields))
    except TypeError as error:
        raise LTBenchError(f"{folder / SPEC} is not a job's; delete {folder} and sweep again") from error


def jobs_in(sweep: Path) -> list[SweepJob]:
    """The jobs of a sweep's folder, by name.

    Raises:
        LTBenchError: it is not a sweep's folder.
    """
    folders = sorted(path.parent for path in (sweep / "jobs").glob(f"*/{SPEC}"))
    if not folders:
        raise LTBenchError(f"{sweep} holds no jobs of a sweep; give the --folder that lt-bench sweep had")
    return [open_job(folder) for folder in folders]


def _write(path: Path, content: dict[str, Any]) -> None:
    write_atomically(path, json.dumps(content, indent=2, sort_keys=True) + "\n")


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text()))
    except OSError as error:
        raise LTBenchError(f"cannot read {path}: {error.strerror or error}; make it readable") from error
    except (ValueError, TypeError) as error:
        raise LTBenchError(f"{path} does not read; delete {path.parent} and sweep again") from error
