"""What a run record must look like: its fields, their types, and what must agree with what.

:func:`first_fault` is the whole of the check. It says what is wrong in words that name the field.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import torch

from lt_bench.errors import LTBenchError
from lt_bench.evaluation.report import PERCENTAGES, accuracy_scores
from lt_bench.evaluation.shots import find_convention, group_sizes

SCHEMA_VERSION = 1
KINDS = ("measured", "external")
SPLITS = ("train", "val", "test")

# Largest difference between a stored score and the one recomputed from per-class accuracies.
TOLERANCE = 1e-6
# Seconds that the parts of a stage may differ from the stage by rounding.
SECONDS_TOLERANCE = 0.01
# More than any run takes, and small enough to be reckoned with.
MOST_SECONDS = 1e12

NAME = re.compile(r"[A-Za-z0-9][\w.+=-]*(/[A-Za-z0-9][\w.+=-]*)*", re.ASCII)

_NULL = type(None)
_KINDS_OF_VALUE: dict[type, str] = {
    str: "a string",
    int: "an integer",
    float: "a number",
    bool: "true or false",
    dict: "an object",
    list: "a list",
    _NULL: "null",
}

# Every field of a record and the types it may have; all must be present, and no other may be.
FIELDS: dict[str, tuple[type, ...]] = {
    "schema_version": (int,),
    "kind": (str,),
    "name": (str,),
    "label": (str,),
    "method": (dict,),
    "dataset": (dict,),
    "dataset.name": (str,),
    "dataset.identity": (str,),
    "dataset.num_classes": (int,),
    "dataset.sizes": (dict,),
    "dataset.sizes.train": (int,),
    "dataset.sizes.val": (int, _NULL),
    "dataset.sizes.test": (int,),
    "dataset.counts": (list,),
    "dataset.facts": (dict,),
    "backbone": (str,),
    "protocol": (dict,),
    "protocol.selection_rule": (str,),
    "protocol.selection_split": (str, _NULL),
    "protocol.batch_norm": (str, _NULL),
    "protocol.checkpoint": (str,),
    "seed": (int, _NULL),
    "config": (dict,),
    "selected": (dict,),
    "stage1": (dict, _NULL),
    "stage1.identity": (str,),
    "stage1.epochs": (int,),
    "stage1.recipe": (str,),
    "stage1.recipe_epochs": (int,),
    "stage1.world_size": (int, _NULL),
    "stage1.trained_by": (list, _NULL),
    "stage1.teachers": (dict, _NULL),
    "scores": (dict,),
    "scores.convention": (str,),
    "scores.overall": (float,),
    "scores.mean_class": (float,),
    "scores.many": (float, _NULL),
    "scores.medium": (float, _NULL),
    "scores.few": (float, _NULL),
    "scores.worst_class": (float,),
    "scores.macro_f1": (float,),
    "scores.ece": (float, _NULL),
    "scores.group_classes": (dict,),
    "scores.per_class": (list,),
    "scores.tested": (list,),
    "stage_seconds": (dict,),
    "stage_parts": (dict,),
    "stage_parts.clock": (str,),
    "stage_parts.stage1": (dict, _NULL),
    "stage_parts.stage2": (dict,),
    "peak_memory_bytes": (int, _NULL),
    "code": (dict,),
    "code.version": (str,),
    "code.commit": (str, _NULL),
    "code.dirty": (bool, _NULL),
    "environment": (dict,),
    "created": (str,),
}

# Fields that a record may lack: they came after the first records of this layout.
OPTIONAL = ("stage1.world_size", "stage1.trained_by", "stage1.teachers", "stage_parts")

# Objects whose keys are free; all others hold exactly the keys that FIELDS lists.
_OPEN = (
    "method",
    "dataset.facts",
    "config",
    "selected",
    "stage1.teachers",
    "scores.group_classes",
    "stage_seconds",
    "stage_parts.stage1",
    "stage_parts.stage2",
    "environment",
)


def _has_type(value: Any, types: tuple[type, ...]) -> bool:
    if isinstance(value, bool):
        return bool in types
    return isinstance(value, types) or (float in types and isinstance(value, int))


def first_fault(content: Any) -> str | None:
    """What is wrong with the content of a record, as part of a sentence; None if nothing is."""
    return next(_faults(content), None)


def _faults(content: Any) -> Iterator[str]:
    """Every check in order; each relies on those before it, so only the first item is of use."""
    if not isinstance(content, dict):
        yield "it is not a JSON object"
    version = content.get("schema_version")
    if version != SCHEMA_VERSION:
        yield (f"its schema_version is {version!r}, and this version of lt-bench reads {SCHEMA_VERSION}")
    yield from _layout_faults(content)
    yield from _meaning_faults(content)
    yield from _score_faults(content)


def _layout_faults(content: dict[str, Any]) -> Iterator[str]:
    """Missing, unknown and ill-typed fields."""
    objects: dict[str, dict[str, Any]] = {"": content}
    for name, types in FIELDS.items():
        parent, _, last = name.rpartition(".")
        if parent not in objects:  # an optional object that is null
            continue
        if last not in objects[parent] and name in OPTIONAL:
            continue
        if last not in objects[parent]:
            yield f"field {name!r} is missing"
        value = objects[parent][last]
        if not _has_type(value, types):
            expected = " or ".join(_KINDS_OF_VALUE[kind] for kind in types)
            yield f"field {name!r} must be {expected}, got {value!r:.60}"
        if isinstance(value, dict) and name not in _OPEN:
            objects[name] = value
    for parent, fields in objects.items():
        for key in fields:
            name = f"{parent}.{key}".strip(".")
            if name not in FIELDS:
                yield f"field {name!r} is unknown"


def _meaning_faults(content: dict[str, Any]) -> Iterator[str]:
    """Values of the right type that cannot be right."""
    dataset, protocol = content["dataset"], content["protocol"]
    if content["kind"] not in KINDS:
        yield f"field 'kind' must be one of {', '.join(KINDS)}, got {content['kind']!r}"
    if not NAME.fullmatch(content["name"]):
        yield f"field 'name' must be parts of letters, digits and _.+=-, got {content['name']!r}"
    for name in ("seed", "stage1"):
        if content["kind"] == "measured" and content[name] is None:
            yield f"field {name!r} is null, which only an external record may have"
    if content["seed"] is not None and content["seed"] < 0:
        yield f"field 'seed' must be 0 or more, got {content['seed']}"
    split = protocol["selection_split"]
    if split is not None and split not in SPLITS:
        yield f"field 'protocol.selection_split' must be null or one of {SPLITS}, got {split!r}"
    parts = content.get("stage_parts", {})
    timed = {"stage_seconds": content["stage_seconds"]}
    timed |= {f"stage_parts.{stage}": parts[stage] for stage in ("stage1", "stage2") if parts.get(stage)}
    for field, times in timed.items():
        for name, seconds in times.items():
            yield from _seconds_faults(f"{field}.{name}", seconds)
    yield from _part_faults(content["stage_seconds"], parts)
    yield from _training_faults(content["stage1"] or {})
    try:
        moment = datetime.fromisoformat(content["created"])
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        yield f"field 'created' must be an ISO 8601 time with its zone, got {content['created']!r}"
    counts = dataset["counts"]
    for key, value in content["environment"].items():
        if isinstance(value, (dict, list)):
            yield f"field 'environment.{key}' must be a string, a number or null, got {value!r:.60}"
    if not all(_has_type(count, (int,)) and 0 <= count < 2**63 for count in counts):
        yield "field 'dataset.counts' must hold integers of 0 or more"
    if not len(counts) == dataset["num_classes"] > 0:
        yield (f"field 'dataset.counts' has {len(counts)} entries for {dataset['num_classes']} classes")
    if sum(counts) != dataset["sizes"]["train"]:
        yield (
            f"field 'dataset.counts' adds up to {sum(counts)}, "
            f"'dataset.sizes.train' is {dataset['sizes']['train']}"
        )


def _seconds_faults(field: str, seconds: Any) -> Iterator[str]:
    if not _has_type(seconds, (float,)) or not 0 <= seconds < MOST_SECONDS:
        yield f"field '{field}' must be seconds from 0 to {MOST_SECONDS:g}, got {seconds!r:.60}"


def _part_faults(stages: dict[str, float], parts: dict[str, Any]) -> Iterator[str]:
    """Parts of a stage that are not the whole of it."""
    stage1, stage2 = parts.get("stage1"), parts.get("stage2")
    sums = {}
    if stage1 is not None:
        sums["stage1"] = (sum(stage1.values()) - stage1.get("followers", 0), stages.get("stage1", 0))
    if stage2 is not None:
        sums["stage2"] = (sum(stage2.values()), stages.get("classifier", 0) + stages.get("evaluation", 0))
    for name, (found, total) in sums.items():
        if abs(found - total) > SECONDS_TOLERANCE:
            yield f"field 'stage_parts.{name}' adds up to {found:.3f} s, 'stage_seconds' says {total:.3f} s"


def _training_faults(stage1: dict[str, Any]) -> Iterator[str]:
    """What trained stage 1 and its teachers, where that is not of the form that tables read."""
    stages = {"stage1": stage1}
    for identity, teacher in (stage1.get("teachers") or {}).items():
        field = f"stage1.teachers.{identity}"
        if not isinstance(teacher, dict):
            yield f"field '{field}' must be an object, got {teacher!r:.60}"
        if not isinstance(teacher.get("name"), str):
            yield f"field '{field}.name' must be a string, got {teacher.get('name')!r:.60}"
        yield from _seconds_faults(f"{field}.seconds", teacher.get("seconds"))
        stages[field] = teacher
    for field, stage in stages.items():
        calls = stage.get("trained_by") or []
        if not isinstance(calls, list):
            yield f"field '{field}.trained_by' must be a list or null, got {calls!r:.60}"
        for call in calls:
            if not _is_call(call):
                yield (
                    f"field '{field}.trained_by' must hold objects of strings, numbers, nulls and one "
                    f"'environment' of such, got {call!r:.60}"
                )


def _is_call(value: Any) -> bool:
    """Whether it can be one of the calls that trained a stage."""
    if not isinstance(value, dict) or not isinstance(value.get("environment", {}), dict):
        return False
    said = [entry for key, entry in value.items() if key != "environment"]
    return not any(isinstance(e, (dict, list)) for e in [*said, *value.get("environment", {}).values()])


def _score_faults(content: dict[str, Any]) -> Iterator[str]:
    """Scores out of range, or that do not follow from the per-class accuracies."""
    scores, dataset = content["scores"], content["dataset"]
    per_class, tested = scores["per_class"], scores["tested"]
    for name in ("per_class", "tested"):
        if len(scores[name]) != dataset["num_classes"]:
            yield (
                f"field 'scores.{name}' has {len(scores[name])} entries for {dataset['num_classes']} classes"
            )
    if not all(_has_type(size, (int,)) and size >= 0 for size in tested):
        yield "field 'scores.tested' must hold integers of 0 or more"
    if sum(tested) != dataset["sizes"]["test"]:
        yield (
            f"field 'scores.tested' adds up to {sum(tested)}, "
            f"'dataset.sizes.test' is {dataset['sizes']['test']}"
        )
    for index, (value, size) in enumerate(zip(per_class, tested, strict=True)):
        if (value is None) != (size == 0):
            yield f"field 'scores.per_class[{index}]' is {value!r} with {size} test samples"
        if value is not None and not (_has_type(value, (float,)) and 0 <= value <= 100):
            yield f"field 'scores.per_class[{index}]' must be a percentage, got {value!r:.60}"
    for name in PERCENTAGES:
        if scores[name] is not None and not 0 <= scores[name] <= 100:
            yield f"field 'scores.{name}' must be a percentage, got {scores[name]!r}"
    try:
        convention = find_convention(scores["convention"]).name
        expected = accuracy_scores(per_class, tested, dataset["counts"], convention)
        sizes = group_sizes(torch.tensor(dataset["counts"]), convention)
    except LTBenchError as error:
        yield f"field 'scores': {error}"
        return
    for name, value in expected.items():
        stored = scores[name]
        same = stored is value or (
            stored is not None and value is not None and abs(stored - value) <= TOLERANCE
        )
        if not same:
            yield f"field 'scores.{name}' is {stored}, but the per-class accuracies give {value}"
    if scores["group_classes"] != sizes:
        yield (
            f"field 'scores.group_classes' is {scores['group_classes']}, but the training counts give {sizes}"
        )
