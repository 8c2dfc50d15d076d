"""Every cell of Tables 1 to 4 has a config, and each one builds and trains on images in the real layout.

Sizes alone are overridden: batch, crop, workers. ResNet-152 starts from random weights here; that its
pretrained ones are found, checked and loaded is tested in ``tests/models/test_pretrained.py``.
"""

from __future__ import annotations

import copy
import math
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.optim import build_optim_wrapper

import lt_bench.engine.stage1 as stage1
from lt_bench.config import changed, load_dataset, load_experiment
from lt_bench.config.folders import find_config, list_configs
from lt_bench.data.dataset import LongTailData
from lt_bench.data.imagenet_lt import IMAGENET_LT
from lt_bench.data.inaturalist2018 import INATURALIST2018
from lt_bench.data.places_lt import PLACES_LT
from lt_bench.engine.data import build_data, evaluation_loader, training_loader
from lt_bench.engine.identity import stage1_identity
from lt_bench.engine.stage1 import StageOne, build_model, representation_of
from lt_bench.errors import LTBenchError
from lt_bench.evaluation.shots import shot_groups
from lt_bench.leaderboard.spec import Section, TableSpec, load_spec, parse_spec
from lt_bench.models.stage_one import build_backbone
from lt_bench.registry import METHODS
from lt_bench.run.jobs import Settings, jobs_of
from lt_bench.task import Task
from tests.image_tree import ImageTree, coloured_splits, write_image_tree

TABLES = ("table1", "table2", "table3", "table4")
PUBLIC = {public.name: public for public in (IMAGENET_LT, PLACES_LT, INATURALIST2018)}
SPLITS = Path(__file__).parents[3] / "shared" / "data" / "splits"
# A section's title ends in its backbone.
BACKBONES = {
    "ResNet-10": {"type": "resnet10"},
    "ResNeXt-50": {"type": "mmpretrain.ResNeXt", "depth": 50, "groups": 32, "width_per_group": 4},
    "ResNet-152": {"type": "mmpretrain.ResNet", "depth": 152},
    "ResNet-50": {"type": "mmpretrain.ResNet", "depth": 50},
}
SMALL: dict[str, Any] = {
    "train_transforms.0.size": 32,
    "test_transforms.0.size": 36,
    "test_transforms.1.size": 32,
    "stage1.batch_size": 4,
    "runtime.workers": 0,
    "runtime.eval_batch_size": 32,
    # Quick on any processor.
    "stage1.numerics.precision": "fp32",
}


def cells(tables: tuple[str, ...] = TABLES) -> list[tuple[Section, str]]:
    """Each config of the tables once, with the section that it stands in."""
    found: dict[str, Section] = {}
    for table in tables:
        for section in load_spec(table).sections:
            for row in section.rows:
                if row.config is not None:
                    found.setdefault(row.config, section)
    return [(section, config) for config, section in found.items()]


CELLS = cells()
CONFIGS = [config for _, config in CELLS]


def without_a_config(spec: TableSpec) -> list[str]:
    """Configs that a table's rows name and that do not exist."""
    named = [row.config for section in spec.sections for row in section.rows if row.config is not None]
    return sorted(set(named) - set(list_configs()))


def options_of(config: str) -> dict[str, Any]:
    return {"model.backbone.init_cfg": None} if config.startswith("places_lt/") else {}


# ---- names, datasets, recipes -------------------------------------------------------------------


@pytest.mark.parametrize("table", TABLES)
def test_every_cell_has_its_config(table: str) -> None:
    assert without_a_config(load_spec(table)) == []


def test_a_cell_without_a_config_is_caught() -> None:
    rows = [{"label": "A", "config": "imagenet_lt/crt_r10"}, {"label": "B", "config": "imagenet_lt/crt_r11"}]
    section = {"title": "T", "dataset": "imagenet_lt", "convention": "paper", "rows": rows}
    spec = parse_spec({"name": "own", "title": "Own", "metrics": ["overall"], "sections": [section]})
    assert without_a_config(spec) == ["imagenet_lt/crt_r11"]


def test_every_config_of_the_three_datasets_is_a_cell() -> None:
    assert sorted(CONFIGS) == [name for name in list_configs() if name.partition("/")[0] in PUBLIC]


@pytest.mark.parametrize(("section", "config"), CELLS, ids=CONFIGS)
def test_a_config_agrees_with_its_section(section: Section, config: str) -> None:
    resolved = load_experiment(config).config
    assert resolved["dataset"]["type"] == section.dataset == config.partition("/")[0]
    assert resolved["convention"] == section.convention
    expected = BACKBONES[section.title.rpartition(", ")[2]]
    backbone = resolved["model"]["backbone"]
    assert {key: backbone[key] for key in expected} == expected
    assert resolved["dataset"].get("require_public", True), "the public lists, unless a person says otherwise"


def test_a_config_is_a_few_lines() -> None:
    for config in CONFIGS:
        assert len(find_config(config).path.read_text().splitlines()) <= 22, config


@pytest.mark.parametrize("name", PUBLIC)
def test_a_dataset_config_is_found_by_the_dataset_s_name(name: str) -> None:
    found = load_dataset(name, {})
    assert found["dataset"]["type"] == name and found["convention"] == "paper"


def test_groups_of_the_sections_are_those_of_the_datasets() -> None:
    counted = 0
    for section, _ in CELLS:
        if section.class_counts is not None:
            groups = PUBLIC[section.dataset].groups[section.convention]
            assert tuple(section.class_counts[group] for group in ("many", "medium", "few")) == groups
            assert sum(groups) == PUBLIC[section.dataset].num_classes
            counted += 1
    assert counted


def test_sections_take_records_of_the_whole_dataset_only() -> None:
    for section, _ in CELLS:
        public = PUBLIC[section.dataset]
        assert section.facts == {
            "num_classes": public.num_classes,
            "imbalance_factor": public.largest / public.smallest,
        }


def test_sizes_are_the_public_split_s() -> None:
    assert {name: (public.num_classes, tuple(public.sizes.values())) for name, public in PUBLIC.items()} == {
        "imagenet_lt": (1000, (115_846, 20_000, 50_000)),
        "places_lt": (365, (62_500, 7_300, 36_500)),
        "inaturalist2018": (8142, (437_513, 24_426)),
    }


@pytest.mark.skipif(not SPLITS.is_dir(), reason="the public list files are not here")
@pytest.mark.parametrize("name", PUBLIC)
def test_sizes_and_groups_are_those_of_the_public_lists(name: str) -> None:
    public = PUBLIC[name]
    known = {split: SPLITS / file for split, file in public.lists.items() if (SPLITS / file).is_file()}
    assert known
    labels = {
        split: [int(line.rpartition(" ")[2]) for line in file.read_text().splitlines()]
        for split, file in known.items()
    }
    assert {split: len(held) for split, held in labels.items()} == {
        split: public.sizes[split] for split in labels
    }
    assert all(set(held) == set(range(public.num_classes)) for held in labels.values())
    assert len(set(Counter(labels["test"]).values())) == 1, "the test split is balanced"
    if name == "imagenet_lt":
        counts = [int(line) for line in (SPLITS / "ImageNet_LT_class_counts.txt").read_text().split()]
    elif name == "places_lt":
        counts = [count for _, count in sorted(Counter(labels["train"]).items())]
    else:
        return
    assert (sum(counts), min(counts), max(counts)) == (public.sizes["train"], public.smallest, public.largest)
    for convention, groups in public.groups.items():
        sizes = torch.bincount(shot_groups(torch.tensor(counts), convention).long(), minlength=3)
        assert tuple(sizes.tolist()) == groups, convention
    (expected,) = {
        tuple(section.class_counts.values())
        for section, _ in CELLS
        if section.dataset == name and section.class_counts is not None
    }
    assert public.groups["paper"] == expected


# Epochs, batch, rate and weight decay of stage 1; epochs, batch, rate and weight decay of stage 2.
DECOUPLING = (90, 512, 0.2, 5e-4), (10, 512, 0.2, 5e-4)
RECIPES = {
    "imagenet_lt": DECOUPLING,
    "places_lt": DECOUPLING,
    "inaturalist2018": ((200, 512, 0.2, 1e-4), (30, 512, 0.2, 1e-4)),
    "imagenet_lt/lfme_r10": ((90, 256, 0.1, 5e-4), (10, 512, 0.2, 5e-4)),
    "places_lt/lfme_r152": ((90, 256, 0.1, 5e-4), (10, 512, 0.2, 5e-4)),
    "places_lt/oltr_r152": ((30, 128, 1e-3, 5e-4), (10, 512, 0.2, 5e-4)),
}


@pytest.mark.parametrize("config", CONFIGS)
def test_recipes(config: str) -> None:
    resolved = load_experiment(config).config
    first, second = RECIPES.get(config, RECIPES[config.partition("/")[0]])
    settings, classifier = resolved["stage1"], resolved["classifier_recipe"]
    sgd = settings["optimizer"]
    assert (settings["epochs"], settings["batch_size"], sgd["lr"], sgd["weight_decay"]) == first
    assert tuple(classifier[key] for key in ("epochs", "batch_size", "lr", "weight_decay")) == second
    assert sgd["momentum"] == classifier["momentum"] == 0.9 and not sgd.get("nesterov")
    assert settings["recipe"]["epochs"] == settings["epochs"]
    (schedule,) = settings["schedule"]
    if config not in RECIPES:
        assert schedule == {"type": "CosineAnnealingLR", "T_max": settings["epochs"], "by_epoch": True}
    if resolved["method"]["classifier"]["type"] == "lws":
        assert resolved["method"]["classifier"]["recipe"]["epochs"] == 5


@pytest.mark.parametrize("config", CONFIGS)
def test_augmentation(config: str) -> None:
    resolved = load_experiment(config).config
    train = {transform["type"]: transform for transform in resolved["train_transforms"]}
    inaturalist = config.startswith("inaturalist2018/")
    assert train["RandomResizedCrop"]["size"] == 224 and "batch_random_flip" in train
    assert ("batch_color_jitter" in train) != inaturalist
    if not inaturalist:
        jitter = train["batch_color_jitter"]
        assert [jitter[key] for key in ("brightness", "contrast", "saturation")] == [0.4] * 3
        assert not jitter.get("hue")
    mean, std = (
        ([0.466, 0.471, 0.380], [0.195, 0.194, 0.192])
        if inaturalist
        else ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    )
    for transforms in (resolved["train_transforms"], resolved["test_transforms"]):
        assert transforms[-1]["type"] == "batch_normalize"
        assert transforms[-1]["mean"] == pytest.approx([255 * value for value in mean])
        assert transforms[-1]["std"] == pytest.approx([255 * value for value in std])
    assert [(t["type"], t.get("size")) for t in resolved["test_transforms"][:2]] == [
        ("Resize", 256),
        ("CenterCrop", 224),
    ]


def test_the_ablations_of_table_1_are_what_their_rows_say() -> None:
    named = {config.removeprefix("imagenet_lt/"): config for _, config in cells(("table1",))}
    taken = {stem: load_experiment(config).config["method"]["classifier"] for stem, config in named.items()}
    keys = ("variant", "alignment", "class_specific", "length")
    assert {
        stem: tuple(given[key] for key in keys if key in given)
        for stem, given in taken.items()
        if given["type"] == "breadcrumb"
    } == {
        "back_tracking_r10": ("weak", "none", False, 10),
        "class_specific_r10": ("weak", "none"),
        "breadcrumb_weak_r10": ("weak", "mean"),
        "breadcrumb_strong_r10": ("strong", "mean"),
        "breadcrumb_var_r10": ("strong", "variance"),
        "breadcrumb_agn_r10": ("strong", "class_agnostic"),
    }
    assert taken["crt_r10"]["type"] == "crt"


def test_rows_of_one_section_share_stage_1_where_their_papers_do() -> None:
    def identity(config: str) -> str:
        return stage1_identity(load_experiment(config, options_of(config)).config, "data", 0)

    for table in ("table1", "table3"):
        assert len({identity(config) for _, config in cells((table,))}) == 1, table
    plain = {c for c in CONFIGS if load_experiment(c).config["method"]["representation"] == {"type": "plain"}}
    of_places = {identity(c) for c in plain if c.startswith("places_lt/") and "oltr" not in c}
    assert len(of_places) == 1 and identity("places_lt/oltr_r152") not in of_places


# ---- one step of each ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ImageTree]:
    folder = tmp_path_factory.mktemp("trees")
    splits = coloured_splits()
    return {name: write_image_tree(folder / name, name, splits) for name in PUBLIC}


@pytest.fixture(scope="module")
def datasets() -> dict[str, LongTailData]:
    return {}


@pytest.fixture(scope="module")
def backbones() -> dict[str, torch.nn.Module]:
    return {}


@pytest.fixture()
def shared_backbones(backbones: dict[str, torch.nn.Module], monkeypatch: pytest.MonkeyPatch) -> None:
    """A backbone of each kind is built once for all tests, and copied."""

    def build(cfg: dict[str, Any]) -> torch.nn.Module:
        if repr(cfg) not in backbones:
            backbones[repr(cfg)] = build_backbone(cfg)
        return copy.deepcopy(backbones[repr(cfg)])

    monkeypatch.setattr(stage1, "build_backbone", build)


def first_step(stage: StageOne) -> tuple[dict[str, torch.Tensor], torch.nn.Module, float]:
    """One step of stage 1's optimiser, as the runner builds it: weights before, the model, the loss."""
    cpu = torch.device("cpu")
    model = build_model(stage)
    representation = representation_of(model)
    teachers = {
        name: build_model(
            StageOne(stage.folder, name, changed(stage.config, change), stage.data, stage.task, stage.seed)
        )
        for name, change in representation.teachers(stage.config).items()
    }
    if teachers:
        batches = {
            split: list(evaluation_loader(stage.data, stage.config, split, cpu)) for split in ("train", "val")
        }
        representation.learn_from({name: teacher.eval() for name, teacher in teachers.items()}, batches)
    settings = stage.config["stage1"]
    wrapper = build_optim_wrapper(
        model,
        {
            "type": "OptimWrapper",
            "optimizer": dict(settings["optimizer"]),
            "paramwise_cfg": representation.paramwise() or None,
        },
    )
    loader = training_loader(
        stage.data,
        stage.config,
        dict(representation.sampler),
        batch_size=settings["batch_size"],
        epochs=stage.epochs,
        seed=0,
        device=cpu,
    )
    before = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    model.train()
    representation.start_epoch(1, stage.epochs)
    loss = model(next(iter(loader)), mode="loss")
    wrapper.update_params(loss)
    return before, model, float(loss.detach())


@pytest.mark.parametrize(
    ("section", "config"),
    [
        # Three ResNet-152 experts see all images before the step.
        pytest.param(*cell, id=cell[1], marks=[pytest.mark.slow] if cell[1] == "places_lt/lfme_r152" else [])
        for cell in CELLS
    ],
)
@pytest.mark.usefixtures("shared_backbones")
def test_one_step(
    section: Section,
    config: str,
    trees: dict[str, ImageTree],
    datasets: dict[str, LongTailData],
    tmp_path: Path,
) -> None:
    tree = trees[section.dataset]
    small = {"method.classifier.batch_size": 16} if "/oltr_" in config else {}
    resolved = load_experiment(config, {**SMALL, **small, **tree.options, **options_of(config)}).config
    if section.dataset not in datasets:
        datasets[section.dataset] = build_data(resolved["dataset"])
    data = datasets[section.dataset]
    assert data.counts.tolist() == [101, 30, 21, 6, 3, 2] and data.name == section.dataset
    task = Task.of(data, resolved["convention"])
    for seam in ("classifier", "prediction"):
        built = METHODS.build({**resolved["method"][seam], "task": task})
        # Of stage 1's real length; a weak trail over two images wants more than a short one has.
        built.check(splits=data.splits().keys(), epochs=resolved["stage1"]["epochs"])
    before, model, loss = first_step(StageOne(tmp_path, "unused", resolved, data, task, 0))
    assert math.isfinite(loss)
    parameters = dict(model.named_parameters())
    moved = {name for name in parameters if not torch.equal(parameters[name], before[name])}
    assert any(name.startswith("head.") for name in moved)
    frozen = resolved["model"]["backbone"].get("frozen_stages", -1)
    first = {name for name in moved if re.match(r"backbone\.(conv1|bn1|layer[123])\.", name)}
    assert any(name.startswith("backbone.layer4.") for name in moved)
    assert bool(first) == (frozen < 0)
    # Statistics of frozen layers are those of the pretrained weights.
    kept = torch.equal(model.state_dict()["backbone.bn1.running_mean"], before["backbone.bn1.running_mean"])
    assert kept == (frozen >= 0)


# ---- every kind of classifier -------------------------------------------------------------------


# Sizes of single methods; n_b and length keep the trails within two epochs.
SHORTER: dict[str, dict[str, Any]] = {
    "breadcrumb": {"n_b": 4, "length": 2},
    "fslwf_generator": {"episodes": 5, "epochs": 2},
    # Batch and rate go together.
    "oltr": {"epochs": 2, "batch_size": 16, "backbone_lr": 0.0005, "head_lr": 0.005},
}
ONE_OF_EACH = tuple(
    f"imagenet_lt/{stem}"
    for stem in (
        "plain_r10",
        "crt_r10",
        "back_tracking_r10",
        "breadcrumb_strong_r10",
        "breadcrumb_var_r10",
        "fslwf_r10",
        "oltr_r10",
        "tau_norm_rx50",
        "lws_rx50",
        "ncm_rx50",
    )
)


def shortened(config: str, tree: ImageTree) -> Any:
    kind = load_experiment(config).config["method"]["classifier"]["type"]
    own = {f"method.classifier.{key}": value for key, value in SHORTER.get(kind, {}).items()}
    # One backbone for all: what is tested here is how classifiers hang on a stage 1.
    small = {"model.backbone": {"_delete_": True, "type": "resnet10"}, "model.feature_dim": 512}
    sizes = {**SMALL, "stage1.batch_size": 32, "stage1.epochs": 2, "classifier_recipe.epochs": 2}
    return load_experiment(
        config, {**sizes, "classifier_recipe.batch_size": 32, **small, **tree.options, **own}
    )


def test_every_kind_of_classifier_is_fitted(trees: dict[str, ImageTree], launch: Callable) -> None:
    kinds = {load_experiment(config).config["method"]["classifier"]["type"] for config in CONFIGS}
    experiments = [shortened(config, trees["imagenet_lt"]) for config in ONE_OF_EACH]
    assert {e.config["method"]["classifier"]["type"] for e in experiments} == kinds
    outcome = launch(*experiments)
    assert [record.name for _, record in outcome] == list(ONE_OF_EACH)
    for _, record in outcome:
        assert record.scores.group_classes == {"many": 1, "medium": 2, "few": 3}


def test_workers_that_outlive_training_do_not_hold_its_folder(
    trees: dict[str, ImageTree], launch: Callable
) -> None:
    experiment = shortened("imagenet_lt/plain_r10", trees["imagenet_lt"])
    experiment.config["runtime"]["workers"] = 1
    # Training and fitting each take the folder; a second call takes it again.
    launch(experiment)
    launch(experiment, replace=True)


def test_missing_pretrained_weights_are_told_before_training(
    trees: dict[str, ImageTree], tmp_path: Path
) -> None:
    checkpoint = {"model.backbone.init_cfg.checkpoint": str(tmp_path / "resnet152.pth")}
    experiment = load_experiment("places_lt/crt_r152", {**SMALL, **trees["places_lt"].options, **checkpoint})
    with pytest.raises(LTBenchError, match=r"no pretrained weights at .*resnet152\.pth; set model\.backbone"):
        jobs_of([experiment], [0], Settings(tmp_path / "work", tmp_path / "records"))
    assert not (tmp_path / "work").exists()
