"""What trackers see of stage 1: TensorBoard by default, MLflow by config."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from lt_bench.config import resolution
from lt_bench.errors import LTBenchError

FEW = {"stage1.epochs": 2, "runtime.log_interval": 6}
# 574 images in batches of 32 are 18 steps an epoch.
STEPS = [6, 12, 18, 24, 30, 36]


def test_tensorboard_by_default(short: Callable, launch: Callable, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (_, record), *_ = launch(short("plain", **{**FEW, "runtime.val_interval": 1}))
    (events,) = tmp_path.glob("here/work/stage1/*/*/vis_data/events.out.tfevents.*")
    seen = EventAccumulator(str(events)).Reload()
    assert {"loss", "lr", "shot/overall"} <= set(seen.Tags()["scalars"])
    losses = seen.Scalars("loss")
    assert [point.step for point in losses] == STEPS, "read once an interval, and not more often"
    assert 0 < losses[-1].value < losses[0].value
    assert "runtime" not in record.config


def test_trackers_change_no_result(short: Callable, launch: Callable, tmp_path: Path) -> None:
    silent = {"runtime.visualizer": {"type": "Visualizer", "vis_backends": []}}
    launch(short("plain", **FEW), folder="with")
    launch(short("plain", **FEW, **silent), folder="without")
    ends = [next(tmp_path.glob(f"{folder}/work/stage1/*/epoch_2.pth")) for folder in ("with", "without")]
    one, two = (torch.load(end, weights_only=True)["state_dict"] for end in ends)
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert not list(tmp_path.glob("without/**/events.out.*"))


def test_mlflow_into_a_local_file_store(
    short: Callable, launch: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip(
        "mlflow", reason="mlflow is not installed (pip install 'lt-bench[trackers]')"
    )
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    store = (tmp_path / "runs").as_uri()
    backend = {"type": "MLflowVisBackend", "exp_name": "long tails", "tracking_uri": store}
    options = {**FEW, "runtime.visualizer": {"type": "Visualizer", "vis_backends": [backend]}}
    launch(short("plain", **options), short("ldam", **options), seeds=(0, 1))
    mlflow.set_tracking_uri(store)
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("long tails")
    runs = client.search_runs([experiment.experiment_id])
    assert len(runs) == 4, "one a stage 1"
    assert {run.data.params["method.representation.type"] for run in runs} == {"plain", "ldam"}
    for run in runs:
        assert run.info.status == "FINISHED"
        assert run.data.params["stage1.epochs"] == "2"
        history = client.get_metric_history(run.info.run_id, "loss")
        assert [metric.step for metric in history] == STEPS
        assert all(metric.value > 0 for metric in history)


@pytest.mark.parametrize("name", resolution.TRACKERS)
def test_one_that_is_not_installed_is_named(
    short: Callable, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(resolution, "find_spec", lambda module: None)
    visualizer = {"type": "Visualizer", "vis_backends": [{"type": name}]}
    with pytest.raises(LTBenchError, match=rf"vis_backends\[0\].*{name}.*pip install"):
        short("plain", **{"runtime.visualizer": visualizer})
