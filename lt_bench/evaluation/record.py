"""The run record: one JSON file that says what was run, on what, how, and what it scored.

A record is complete enough to recompute every figure that a table shows under any shot-group
convention (per-class accuracies, training and test counts), and to run the same again (resolved
config, seed, code version, environment). It is checked when it is written and when it is read;
every fault is one sentence that names the file and the field.

A record lies at ``<folder>/<config name>/seed_<s>.json``. The same content always gives the same
bytes: keys sorted, floats as ``repr``.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from lt_bench.errors import LTBenchError
from lt_bench.evaluation.record_schema import NAME, SCHEMA_VERSION, first_fault
from lt_bench.evaluation.report import Scores, regroup
from lt_bench.files import remove_leftovers, write_atomically


def utc_now() -> str:
    """The time as records write it, e.g. ``2026-01-31T09:30:00+00:00``."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(frozen=True)
class RunRecord:
    """One run of one method with one seed, or one set of external predictions.

    Attributes:
        kind: ``measured`` (this harness trained it) or ``external`` (predictions were handed in).
        name: the config's name, e.g. ``digits_lt/breadcrumb_strong``.
        label: what a table calls the method.
        method: the resolved seams: ``representation``, ``classifier``, ``prediction``.
        dataset: ``name``, ``identity``, ``num_classes``, ``sizes`` (``train``, ``val`` or None,
            ``test``), ``counts`` (C training counts) and ``facts``.
        backbone: what a table calls the backbone.
        protocol: ``selection_rule`` (in words, naming the split), ``selection_split`` (``train``,
            ``val``, ``test`` or None where nothing was selected), ``batch_norm`` (mode of a frozen
            backbone's batch norm, None where no backbone was frozen) and ``checkpoint`` (``last``).
        seed: the run's seed; None for external predictions of unknown seed.
        config: the fully resolved config.
        selected: hyper-parameters that were selected, e.g. ``{'tau': 0.7}``.
        stage1: ``identity``, ``epochs`` that were run, ``recipe`` (its label) and the ``recipe_epochs`` that
            the recipe asks for, ``world_size``, ``trained_by`` (of every call that trained it the code's
            version, as ``code`` has it, and the processor, device and threads as its ``environment``) and
            ``teachers``, the stage 1s that it learned from, by identity: ``name``, ``seconds`` of training
            and ``trained_by``; None for external predictions.
        scores: the scores on the test split, in percent.
        stage_seconds: seconds that each stage took; ``stage1`` without its teachers, without the classifiers
            that followed it, and without a pass for snapshots of its own where the classifier learns from
            none (with all that its call made where it does).
        stage_parts: the same by parts (:mod:`lt_bench.timing`): the ``clock`` that measured them, ``stage1``
            (with ``followers``, all that followed; None where it was trained before parts were measured) and
            ``stage2`` (``classifier`` and ``evaluation`` of ``stage_seconds``); None for external predictions
            and older records.
        peak_memory_bytes: peak of the device's (or the process's) memory; None if not measured.
        code: ``version`` of the package, git ``commit`` and ``dirty``, None outside of a checkout.
        environment: versions, platform, devices and threads.
        created: UTC time, ISO 8601.
        schema_version: the version of this layout.
    """

    kind: str
    name: str
    label: str
    method: dict[str, Any]
    dataset: dict[str, Any]
    backbone: str
    protocol: dict[str, Any]
    seed: int | None
    config: dict[str, Any]
    selected: dict[str, Any]
    stage1: dict[str, Any] | None
    scores: Scores
    stage_seconds: dict[str, float]
    peak_memory_bytes: int | None
    code: dict[str, Any]
    environment: dict[str, Any]
    stage_parts: dict[str, Any] | None = None
    created: str = field(default_factory=utc_now)
    schema_version: int = SCHEMA_VERSION

    @property
    def key(self) -> str:
        """What decides whether an identical call has been run: see :func:`record_key`."""
        return record_key(self.config, self.seed, self.dataset["identity"])

    @property
    def teachers(self) -> dict[str, dict[str, Any]]:
        """The stage 1s that this run's learned from, by identity: none for most methods."""
        return (self.stage1 or {}).get("teachers") or {}

    @property
    def training_calls(self) -> list[dict[str, Any]]:
        """The calls that trained stage 1 and its teachers; ``{}`` for each of them that does not say."""
        stages = (self.stage1 or {}, *self.teachers.values())
        silent: list[dict[str, Any]] = [{}]
        return [call for stage in stages for call in stage.get("trained_by") or silent]

    def scores_under(self, convention: str) -> Scores:
        """The scores under another shot-group convention, from the stored per-class accuracies."""
        return regroup(self.scores, torch.tensor(self.dataset["counts"]), convention)

    def to_dict(self) -> dict[str, Any]:
        """The record as plain JSON values.

        Raises:
            LTBenchError: a value that JSON cannot hold, NaN included.
        """
        content = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        content["scores"] = dataclasses.asdict(self.scores)
        if self.stage_parts is None:
            del content["stage_parts"]
        return plain(content)

    @classmethod
    def from_dict(cls, content: Any, where: str = "the run record") -> RunRecord:
        """The record that ``content`` describes.

        Args:
            content: what :meth:`to_dict` gave.
            where: how an error names the record.

        Raises:
            LTBenchError: any fault, in one sentence.
        """
        fault = first_fault(content)
        if fault is not None:
            raise LTBenchError(
                f"{where} cannot be used: {fault}; restore the file, or delete it and run again"
            )
        scores = dict(content["scores"])
        scores["per_class"] = tuple(scores["per_class"])
        scores["tested"] = tuple(scores["tested"])
        return cls(**{**content, "scores": Scores(**scores)})


def plain(value: Any, where: str = "") -> Any:
    """``value`` as JSON holds it: tuples become lists, classes and functions their dotted name.

    Args:
        value: nested dicts, lists and scalars; NumPy and torch scalars are taken too.
        where: the field's name, for errors.

    Raises:
        LTBenchError: NaN, infinity, or an object that JSON cannot hold; the field is named.
    """
    if isinstance(value, Mapping):
        return {str(key): plain(item, f"{where}.{key}".strip(".")) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item, f"{where}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, torch.dtype):
        return str(value)
    if callable(value) and hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        raise LTBenchError(f"field {where!r} of the record is {value}, which no record may hold")
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise LTBenchError(
        f"field {where!r} of the record is a {type(value).__name__}; records hold numbers, "
        "strings, lists and dicts only"
    )


def record_key(config: Mapping[str, Any], seed: int | None, dataset_identity: str) -> str:
    """A hash that is equal for two calls exactly if they ask for the same run.

    Args:
        config: the fully resolved config.
        seed: the run's seed.
        dataset_identity: the hash over the dataset's content.

    Returns:
        64 hexadecimal digits (SHA-256).
    """
    asked = {"config": plain(config), "seed": seed, "dataset": dataset_identity}
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def record_path(folder: str | os.PathLike[str], name: str, seed: int | None) -> Path:
    """Where the record of config ``name`` and ``seed`` lies.

    Raises:
        LTBenchError: a name that is no relative path of plain parts.
    """
    if not NAME.fullmatch(name):
        raise LTBenchError(
            f"{name!r} cannot name a record: expected parts of letters, digits and _.+=- "
            "separated by '/', e.g. 'digits_lt/plain'"
        )
    return Path(folder, *name.split("/"), "external.json" if seed is None else f"seed_{seed}.json")


def serialise(content: Mapping[str, Any]) -> str:
    """JSON of plain values: keys sorted, lists of scalars on one line, a newline at the end."""
    return _layout(content, "") + "\n"


def _layout(value: Any, indent: str) -> str:
    inner = indent + "  "
    if isinstance(value, dict) and value:
        parts = [f"{json.dumps(key)}: {_layout(value[key], inner)}" for key in sorted(value)]
        return "{\n" + ",\n".join(inner + part for part in parts) + "\n" + indent + "}"
    if isinstance(value, list) and any(isinstance(item, (dict, list)) for item in value):
        parts = [_layout(item, inner) for item in value]
        return "[\n" + ",\n".join(inner + part for part in parts) + "\n" + indent + "]"
    return json.dumps(value, allow_nan=False)


def write_record(record: RunRecord, folder: str | os.PathLike[str], *, replace: bool = False) -> Path:
    """Check the record and write it to its place, atomically.

    Args:
        record: the record.
        folder: the folder of all records.
        replace: whether the record of *another* run (another config or dataset under the same name
            and seed) may be replaced. The same run's own earlier record always is.

    Returns:
        The file's path.

    Raises:
        LTBenchError: a faulty record, another run's record in its place, an unwritable folder.
    """
    content = record.to_dict()
    RunRecord.from_dict(content, f"the new record of {record.name} seed {record.seed}")
    path = record_path(folder, record.name, record.seed)
    if path.exists() and not replace and read_record(path).key != record.key:
        raise LTBenchError(
            f"{path} holds the record of another run (its config or dataset differs); "
            "choose another name or folder, or delete it"
        )
    # Not the folder: other seeds' runs may be writing into it.
    remove_leftovers(path.parent, path.name)
    return write_atomically(path, serialise(content))


def read_record(path: str | os.PathLike[str]) -> RunRecord:
    """Read and check one record.

    Raises:
        LTBenchError: a missing or unreadable file, no JSON, a truncated file, another schema
            version, a missing, unknown or ill-typed field, NaN, or scores that disagree with the
            per-class accuracies.
    """
    where = f"the run record {path}"
    try:
        text = Path(path).read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise LTBenchError(f"{where} cannot be read: {reason}") from error
    try:
        content = json.loads(text, parse_constant=_refuse_constant, parse_float=_finite_float)
    except LTBenchError as error:
        raise LTBenchError(
            f"{where} cannot be used: {error}; restore the file, or delete it and run again"
        ) from error
    except (ValueError, RecursionError) as error:
        state = "it is empty" if not text.strip() else "it is not JSON, or was cut off"
        at = f" (line {error.lineno})" if isinstance(error, json.JSONDecodeError) else ""
        raise LTBenchError(
            f"{where} cannot be used: {state}{at}; restore the file, or delete it and run again"
        ) from error
    if isinstance(content, dict) and "schema_version" not in content:
        raise LTBenchError(f"{path} is no run record; name a folder that holds records alone")
    return RunRecord.from_dict(content, where)


def _finite_float(digits: str) -> float:
    value = float(digits)
    return value if math.isfinite(value) else _refuse_constant(digits)  # such as 1e999


def _refuse_constant(constant: str) -> float:
    raise LTBenchError(f"it holds {constant}, which no record may hold")


def read_records(folder: str | os.PathLike[str], *, missing_ok: bool = False) -> list[RunRecord]:
    """Every record below ``folder``, sorted by name, then seed.

    Args:
        folder: the folder of all records, or a part of it.
        missing_ok: whether a folder that does not exist means that there are no records.

    Raises:
        LTBenchError: no such folder, a faulty record, or two files for one name and seed.
    """
    root = Path(folder)
    if not root.is_dir() and not (missing_ok and not root.exists()):
        raise LTBenchError(f"there is no folder of run records at {root}; name one that exists")
    seen: dict[tuple[str, int], tuple[Path, RunRecord]] = {}
    for path in sorted(root.rglob("*.json")):
        record = read_record(path)
        identity = (record.name, -1 if record.seed is None else record.seed)
        if identity in seen:
            raise LTBenchError(
                f"{path} and {seen[identity][0]} both hold the record of {record.name}, seed "
                f"{record.seed}; delete one"
            )
        seen[identity] = (path, record)
    return [seen[identity][1] for identity in sorted(seen)]


def find_record(
    folder: str | os.PathLike[str], name: str, seed: int | None, key: str
) -> tuple[Path, RunRecord] | None:
    """The record of an identical call, if there is one.

    Args:
        folder: the folder of all records.
        name: the config's name.
        seed: the run's seed.
        key: :func:`record_key` of the call.
    """
    path = record_path(folder, name, seed)
    if not path.exists():
        return None
    record = read_record(path)
    return (path, record) if record.key == key else None
