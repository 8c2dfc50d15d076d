"""Places-LT against its public lists."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lt_bench.data.dataset import LongTailData
from lt_bench.data.places_lt import PLACES_LT
from lt_bench.data.public_lists import PUBLIC_LISTS
from lt_bench.errors import LTBenchError
from lt_bench.evaluation.shots import CONVENTIONS, group_sizes
from lt_bench.registry import DATASETS

SPLITS = Path(__file__).parents[3] / "shared" / "data" / "splits"


@pytest.mark.skipif(not SPLITS.is_dir(), reason="needs the public list files")
def test_the_public_split(tmp_path: Path) -> None:
    data = DATASETS.build(dict(type="places_lt", root=tmp_path, lists=SPLITS, check_files=False))
    assert isinstance(data, LongTailData)
    assert data.facts["sizes"] == PLACES_LT.sizes == {"train": 62_500, "val": 7_300, "test": 36_500}
    assert data.num_classes == PLACES_LT.num_classes == 365
    assert (int(data.counts.min()), int(data.counts.max())) == (PLACES_LT.smallest, PLACES_LT.largest)
    assert set(PLACES_LT.groups) == set(CONVENTIONS)
    for convention, groups in PLACES_LT.groups.items():
        assert tuple(group_sizes(data.counts, convention).values()) == groups
    assert torch.equal(data.test.labels.bincount(), torch.full((365,), 100))
    assert [data.facts["lists"][part]["public"] for part in PLACES_LT.lists] == [*PLACES_LT.lists.values()]
    with pytest.raises(LTBenchError, match="62500 of 62500 images listed in .*Places_LT_train.txt"):
        DATASETS.build(dict(type="places_lt", root=tmp_path, lists=SPLITS))


def test_no_root_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(PLACES_LT.lists.values()) <= PUBLIC_LISTS.keys()
    monkeypatch.delenv("LT_BENCH_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        LTBenchError, match=r"no Places-LT in data/places_lt or data/Places_LT: set dataset.root"
    ):
        DATASETS.build(dict(type="places_lt", root=None))
