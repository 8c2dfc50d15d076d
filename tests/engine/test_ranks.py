"""One rank and two: the same gradients for every method, the same training; either resumes the other."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from lt_bench.config import load_experiment
from lt_bench.config.folders import list_configs
from lt_bench.engine.data import build_data, training_loader
from lt_bench.engine.stage1 import StageOne, build_model, representation_of
from lt_bench.engine.stage2 import FrozenRepresentation
from lt_bench.models.global_batch_norm import with_global_batch_norm
from lt_bench.run.jobs import Settings, jobs_of
from lt_bench.snapshots.snapshot import class_order
from lt_bench.task import Task
from tests.ranks import finish, need_gloo, run_script, start
from tests.short import SHORT

STEMS = ("plain", "breadcrumb_weak", "breadcrumb_strong")
# Odd, so that the shares of two ranks differ by an image in every batch.
BATCH = 21
# Ranks, batch size and methods to look at, by what is left of 574 images for the last batch. (Batch norm
# gives one image's deepest channels a mean of 0, so that many gradients are ratios of rounding errors.)
CASES = {
    "seven, shared unevenly": (2, BATCH, None),
    "two, of which the third rank has none": (3, 143, None),
    "one": (2, 191, ("digits_lt/plain", "digits_lt/paco")),
}


def representations() -> dict[str, str]:
    """A config of digits_lt for every representation that one of them trains."""
    found: dict[str, str] = {}
    for name in list_configs():
        if name.startswith("digits_lt/"):
            key = json.dumps(load_experiment(name).config["method"]["representation"], sort_keys=True)
            found.setdefault(key, name)
    return {name: key for key, name in found.items()}


def gradients(name: str, rank: int = 0, world: int = 1, size: int = BATCH) -> dict[str, torch.Tensor]:
    """Gradients of an epoch's first and last batch, after which statistics and queues have moved."""
    torch.set_num_threads(1)
    config = load_experiment(name).config
    data = build_data(config["dataset"])
    stage = StageOne(Path(), "x", config, data, Task.of(data, "strict"), 0)
    model = build_model(stage)
    representation = representation_of(model)
    # Trained teachers are told to the representation elsewhere.
    if hasattr(representation, "instance"):
        representation.instance.uniform_(0.2, 1, generator=torch.Generator().manual_seed(1))
    loader = training_loader(
        data,
        config,
        dict(representation.sampler),
        batch_size=size,
        epochs=10,
        seed=0,
        device=torch.device("cpu"),
    )
    loader.set_epoch(9)
    representation.start_epoch(10, 10)
    # Of the method's own draws, those of the first rank count.
    torch.manual_seed(rank)
    trained: torch.nn.Module = model
    if world > 1:
        with_global_batch_norm(model, torch.device("cpu"))
        trained = torch.nn.parallel.DistributedDataParallel(model, broadcast_buffers=False)
    found = {}
    batches = list(loader)
    assert world == 1 or batches[-1].share.weight != 1, "unequal shares are what is to be seen"
    for step, batch in (("first", batches[0]), ("last", batches[-1])):
        model.zero_grad()
        loss = trained(batch, mode="loss")
        (loss if batch.share is None else batch.share.weighted(loss)).backward()
        for key, parameter in model.named_parameters():
            if parameter.grad is not None:
                found[f"{step} {key}"] = parameter.grad.clone()
    for key, value in model.state_dict().items():
        found[f"state {key}"] = value.clone()
    return found


SCRIPT = """
import sys, torch
import torch.distributed as dist
from tests.engine.test_ranks import CASES, gradients, representations

dist.init_process_group("gloo")
world, size, names = CASES[sys.argv[2]]
found = {name: gradients(name, dist.get_rank(), world, size) for name in names or representations()}
torch.save(found, f"{sys.argv[1]}/{dist.get_rank()}.pt")
dist.destroy_process_group()
"""


@pytest.fixture(scope="module")
def of_several(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], list[dict]]:
    @functools.cache
    def found(case: str) -> list[dict]:
        folder = tmp_path_factory.mktemp("several")
        run_script(SCRIPT, str(folder), case, world=CASES[case][0])
        return [torch.load(folder / f"{rank}.pt") for rank in range(CASES[case][0])]

    return found


@pytest.mark.parametrize(
    ("case", "name"), [(case, name) for case in CASES for name in CASES[case][2] or representations()]
)
def test_gradients_of_several_ranks_are_those_of_one(
    of_several: Callable[[str], list[dict]], case: str, name: str
) -> None:
    one = gradients(name, size=CASES[case][1])
    for rank in of_several(case):
        assert one.keys() == rank[name].keys()
        for key, value in one.items():
            # Sums of thousands of float32 products in another order.
            close = dict(rtol=1e-3, atol=1e-5 * max(1.0, float(value.double().abs().max())))
            torch.testing.assert_close(rank[name][key], value, **close, msg=lambda m, k=key: f"{k}: {m}")


# A low rate, so that rounding is not amplified step after step and the tolerance can be tight.
CALM = {
    "stage1.batch_size": BATCH,
    "stage1.optimizer.lr": 0.002,
    "snapshots.keep": "all",
    "runtime.log_interval": 5,
}


def command(folder: Path, *more: str, **options: object) -> list[str]:
    given = {**SHORT, **CALM, **options}
    return [
        *("-m", "lt_bench.cli", "run", *(f"digits_lt/{stem}" for stem in STEMS)),
        *("--work-dir", str(folder / "work"), "--records", str(folder / "records"), *more),
        *("--cfg-options", *(f"{key}={value}" for key, value in given.items())),
    ]


def snapshots(folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    return {p.name: load_file(p) for p in sorted(folder.glob("work/stage1/*/snapshots/*"))}


def assert_close_runs(one: Path, two: Path) -> None:
    a, b = snapshots(one), snapshots(two)
    assert a.keys() == b.keys() and a
    for name in a:
        for key, value in a[name].items():
            torch.testing.assert_close(b[name][key], value, rtol=1e-3, atol=1e-4)
    for stem in STEMS:
        scores = [
            json.loads((f / f"records/digits_lt/{stem}/seed_0.json").read_text())["scores"]
            for f in (one, two)
        ]
        assert abs(scores[0]["overall"] - scores[1]["overall"]) <= 0.25, "one image of 400"


@pytest.mark.parametrize(
    ("world", "size"), [(2, BATCH), (3, 143), pytest.param(3, BATCH, marks=pytest.mark.slow)]
)
def test_training_on_several_ranks_is_training_on_one(
    short: Callable, launch: Callable, tmp_path: Path, world: int, size: int
) -> None:
    """Of 574 images batches of 21 leave seven, which no two or three ranks share evenly; of 143, two."""
    need_gloo()
    sized = {"stage1.batch_size": size}
    launch(*(short(stem, **CALM | sized) for stem in STEMS), folder="one")
    ended = finish(start(command(tmp_path / "several", "--launcher", "pytorch", **sized), world))
    assert [code for code, _, _ in ended] == [0] * world, ended
    assert_close_runs(tmp_path / "one", tmp_path / "several")


def test_snapshots_of_a_pass_are_of_the_network_that_is_kept(tmp_path: Path) -> None:
    """Where every rank has its own batch statistics, too."""
    need_gloo()
    own = {"stage1.numerics.batch_norm": "rank", "snapshots.capture": "epoch_end"}
    ended = finish(start(command(tmp_path, "--launcher", "pytorch", **own)))
    assert [code for code, _, _ in ended] == [0, 0], ended
    experiment = load_experiment("digits_lt/plain", {**SHORT, **CALM, **own})
    (job,) = jobs_of([experiment], (0,), Settings(tmp_path / "work", tmp_path / "records"))
    kept = FrozenRepresentation(job.stage)
    found = kept.features("train")
    assert found is not None
    rows = found.features[class_order(found.labels)]
    torch.testing.assert_close(kept.last_snapshot().features, rows, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("worlds", [(2, 1), (1, 2)])
def test_either_goes_on_with_the_other(
    short: Callable, launch: Callable, tmp_path: Path, worlds: tuple[int, int]
) -> None:
    """Two epochs on so many ranks, the rest on another number; mid-epoch, by SIGTERM."""
    need_gloo()
    launch(*(short(stem, **CALM) for stem in STEMS), folder="whole")
    for call, world in enumerate(worlds):
        launcher = "pytorch" if world > 1 else "none"
        more = ["--launcher", launcher, *(["--resume"] if call else [])]
        words = command(tmp_path / "mixed", *more)
        stopping = {"LT_BENCH_TEST_STOP": "70"} if not call else {}
        ended = finish(start(["-c", STOPPING, *words[2:]], world, **stopping))
        assert [code for code, _, _ in ended] == [0 if call else 143] * world, ended
        if not call:
            for _, _, told in ended:
                assert "ended by SIGTERM after step" in told and "of epoch 3" in told, told
            (left,) = (tmp_path / "mixed").glob("work/stage1/*/preempted_2_*.pth")
    assert not left.exists(), "a finished stage 1 needs it no more"
    assert_close_runs(tmp_path / "whole", tmp_path / "mixed")
    (manifest,) = (tmp_path / "mixed").glob("work/stage1/*/stage1.json")
    calls = [call.get("processes", 1) for call in json.loads(manifest.read_text())["trained_by"]]
    assert calls == list(worlds)


# The command, with SIGTERM sent to itself before step LT_BENCH_TEST_STOP of the training.
STOPPING = """
import os, signal, sys
from lt_bench import cli
from lt_bench.engine.loop import StageOneLoop

stop = int(os.environ.get("LT_BENCH_TEST_STOP", "-1"))
from lt_bench.snapshots.hook import SnapshotHook
original = SnapshotHook.before_train_iter

def before_train_iter(self, runner, batch_idx, data_batch=None):
    if runner.iter == stop and runner.rank == runner.world_size - 1:
        os.kill(os.getpid(), signal.SIGTERM)
    original(self, runner, batch_idx, data_batch)

SnapshotHook.before_train_iter = before_train_iter
sys.exit(cli.main(sys.argv[1:]))
"""
