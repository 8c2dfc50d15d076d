"""Files of predictions: both formats, and one sentence for each fault."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from lt_bench.errors import LTBenchError
from lt_bench.evaluation.external import read_predictions

LOGITS = np.array([[0.5, 1.5, -1.0], [2.0, 0.0, 1.0], [0.0, 0.0, 3.0], [1.0, 4.0, 2.0]])
CLASSES = [1, 0, 2, 1]


def csv(tmp_path, *lines):
    path = tmp_path / "predictions.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def npz(tmp_path, **arrays):
    path = tmp_path / "predictions.npz"
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_logits_from_npz(tmp_path, dtype):
    found = read_predictions(npz(tmp_path, logits=LOGITS.astype(dtype), extra=[1]), 4, 3)
    assert found.dtype == (torch.float64 if dtype == np.float64 else torch.float32)
    np.testing.assert_array_equal(found.numpy(), LOGITS)


def test_predictions_from_npz(tmp_path):
    found = read_predictions(npz(tmp_path, predictions=np.array(CLASSES, dtype=np.uint8)), 4, 3)
    assert found.dtype == torch.int64 and found.tolist() == CLASSES


def test_predictions_from_csv(tmp_path):
    found = read_predictions(csv(tmp_path, "prediction", "1", "0", "2", "1"), 4, 3)
    assert found.dtype == torch.int64 and found.tolist() == CLASSES


def test_the_index_column_restores_the_order(tmp_path):
    path = csv(tmp_path, "index, prediction", "3, 1", "0, 1", "2, 2", "1, 0")
    assert read_predictions(path, 4, 3).tolist() == CLASSES


def test_logit_columns_are_placed_by_name(tmp_path):
    order = [2, 0, 1]
    lines = [",".join(map(str, [*row[order], index])) for index, row in enumerate(LOGITS)]
    found = read_predictions(csv(tmp_path, "2,0,1,index", *lines[::-1]), 4, 3)
    np.testing.assert_array_equal(found.numpy(), LOGITS)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["prediction", "1", "0"], "has 2 rows, the test split has 4"),
        (["prediction", "1", "0", "3", "1"], r"row 2 is 3, expected an integer in 0\.\.2"),
        (["prediction", "1", "0", "-1", "1"], "row 2 is -1"),
        (["prediction", "1", "0", "1.5", "1"], "row 2 is 1.5"),
        (["prediction", "1", "0", "nan", "1"], "row 2 is missing, NaN or infinite"),
        (["prediction", "1", "0", "cat", "1"], "'prediction' must hold numbers"),
        (["label", "1", "0", "1", "1"], "header line with 'prediction'.*got 1 columns: label"),
        (["1", "0", "2", "1"], "needs a header line"),
        (["0,1", *["1,2"] * 4], "0 to 2.*got 2 columns: 0, 1"),
        (["0,1,2", "1,2,3", "1,,3", *["1,2,3"] * 2], "1 rows are NaN or infinite.*row 1"),
        (["0,1,2", "1,2,3", "1,inf,3", *["1,2,3"] * 2], "first: row 1"),
        (["index,prediction", "0,1", "1,0", "1,2", "3,1"], "index 1 occurs more than once"),
        (["index,prediction", "0,1", "1,0", "3,2"], "1 of 4 test samples are missing.*index 2"),
        (["index,prediction", "0,1", "1,0", "4,2", "3,1"], r"index 4 lies outside of 0\.\.3"),
        (["index,prediction", "0,1", "1,0", ",2", "3,1"], "'index' must hold integers"),
        (["prediction", "1,2", "1,2,3"], "cannot be read as CSV"),
        (["prediction", "3,1", "2,0", "0,2", "1,1"], "more fields than its header names"),
        (["0,1,2", *["9,1,2,3"] * 4], "more fields than its header names"),
        ([""], "cannot be read as CSV"),
    ],
)
def test_faults_of_csv(tmp_path, lines, message):
    with pytest.raises(LTBenchError, match=message) as caught:
        read_predictions(csv(tmp_path, *lines), 4, 3)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"scores": LOGITS}, r"either an array 'logits' .* got \['scores'\]"),
        ({"logits": LOGITS, "predictions": np.array(CLASSES)}, "either"),
        ({"logits": LOGITS[:, :2]}, "logits of 2 classes, the dataset has 3"),
        ({"logits": LOGITS[:3]}, "has 3 rows, the test split has 4"),
        ({"logits": np.array(CLASSES)}, "'logits' must be numbers of 2 dimensions"),
        ({"predictions": np.array(["a"] * 4)}, "'predictions' must be numbers"),
        ({"predictions": np.array([0, 1, 2, 3])}, "row 3 is 3, expected"),
        ({"logits": np.array([[np.nan] * 3] * 4)}, "4 rows are NaN"),
        ({"logits": np.array([["1e1000"] * 3] * 4).astype(np.longdouble)}, "4 rows are NaN or infinite"),
    ],
)
def test_faults_of_npz(tmp_path, arrays, message):
    with pytest.raises(LTBenchError, match=message):
        read_predictions(npz(tmp_path, **arrays), 4, 3)


def test_pickles_are_not_loaded(tmp_path):
    path = npz(tmp_path, predictions=np.array([{"a": 1}], dtype=object))
    with pytest.raises(LTBenchError, match="allow_pickle=False"):
        read_predictions(path, 1, 3)


def archive(path: Path, member: bytes, compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as file:
        file.writestr("predictions.npy", member)
    return path


def header(text: str) -> bytes:
    padded = text.ljust(118) + "\n"
    return b"\x93NUMPY\x01\x00" + len(padded).to_bytes(2, "little") + padded.encode()


def test_damaged_archives_are_refused(tmp_path):
    sound = npz(tmp_path, predictions=np.array(CLASSES)).read_bytes()
    files = {
        "raw": archive(tmp_path / "raw.npz", b"no array"),
        "huge": archive(
            tmp_path / "huge.npz",
            header("{'descr': '<i8', 'fortran_order': False, 'shape': (10000000000000,), }"),
        ),
        "endless": archive(
            tmp_path / "endless.npz",
            header("{'descr': '<i8', 'fortran_order': False, 'shape': (10000000000000000000000,), }"),
        ),
        "unclosed": archive(tmp_path / "unclosed.npz", header("{'descr': '<i8', 'shape': (4,")),
        "lzma": archive(tmp_path / "lzma.npz", bytes(range(256)) * 40, zipfile.ZIP_LZMA),
        "encrypted": tmp_path / "encrypted.npz",
    }
    content = bytearray(files["lzma"].read_bytes())
    content[80:200] = bytes(120)
    files["lzma"].write_bytes(content)
    # The flag of an encrypted member, in its own header and in the directory.
    locked = bytearray(sound)
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        locked[locked.index(mark) + at] |= 1
    files["encrypted"].write_bytes(locked)
    for file in files.values():
        with pytest.raises(LTBenchError, match="cannot be read as .npz|no array"):
            read_predictions(file, 4, 3)


def test_truncated_and_missing_and_other_files_are_refused(tmp_path):
    path = npz(tmp_path, logits=LOGITS)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(LTBenchError, match="cannot be read as .npz"):
        read_predictions(path, 4, 3)
    with pytest.raises(LTBenchError, match="no file of predictions"):
        read_predictions(tmp_path / "none.npz", 4, 3)
    other = tmp_path / "predictions.pkl"
    other.write_bytes(b"")
    with pytest.raises(LTBenchError, match="read from .npz or .csv, not '.pkl'"):
        read_predictions(other, 4, 3)
