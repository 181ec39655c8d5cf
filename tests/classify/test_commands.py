"""From folders and files to a model, predictions, an audit, a report; what is refused before any work."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest

from nmfuse.classify import commands
from nmfuse.classify.commands import audit_folder, evaluate_folder, predict_files, train_model
from nmfuse.classify.extra import need_scikit_learn
from nmfuse.data import brain_phantom
from nmfuse.io import write_image

pytestmark = pytest.mark.usefixtures("one_thread")

FROZEN = {"trainable": False, "rank": 4, "rank2": 2, "epochs": 1}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Eight phantoms of either class, the second with a bright square, and their split."""
    folder = tmp_path_factory.mktemp("classes")
    rows = ["file,label,split,patient"]
    for seed in range(16):
        label = ("healthy", "unhealthy")[seed % 2]
        image = brain_phantom(64, seed=seed).t2.copy()
        if seed % 2:
            image[24:32, 20:30] = 1
        (folder / label).mkdir(exist_ok=True)
        write_image(folder / label / f"{seed}.png", (image * 255).astype(np.uint8))
        rows.append(f"{label}/{seed}.png,{label},{'train' if seed < 8 else 'test'},{seed // 4}")
    split = folder / "split.csv"
    split.write_text("\n".join(rows))
    return folder, split


@pytest.fixture(scope="module")
def model(data: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    seen: list[str] = []
    learned = train_model(
        data[0], path, split=data[1], group="patient", progress=lambda _done, _total, what: seen.append(what), **FROZEN
    )
    assert learned == 8
    assert seen[0] == "looking for copies"
    return path


@pytest.fixture
def no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise AssertionError("work was done before")

    for name in ("find_images", "read_images", "read_image", "group_copies"):
        monkeypatch.setattr(commands, name, fail)


@pytest.mark.usefixtures("no_work")
def test_outputs_are_refused_before_any_work(data: tuple[Path, Path], model: Path, tmp_path: Path) -> None:
    with pytest.raises(FileExistsError, match=r"model\.safetensors: exists already; pass --overwrite"):
        train_model(data[0], model)
    with pytest.raises(FileNotFoundError, match="does not exist; create it first"):
        train_model(data[0], tmp_path / "no" / "m.safetensors")
    with pytest.raises(
        ValueError, match="group: got 'patient', a column of the split file, but no split; give --split"
    ):
        train_model(data[0], tmp_path / "m.safetensors", group="patient")
    (tmp_path / "1.png").write_text("mine")
    with pytest.raises(FileExistsError, match=": is not empty; give another folder, or --overwrite"):
        evaluate_folder(*data, tmp_path)
    with pytest.raises(FileExistsError, match=r"1\.png: is a file; expected a folder"):
        evaluate_folder(*data, tmp_path / "1.png", overwrite=True)
    with pytest.raises(FileExistsError, match=r"1\.png: exists already"):
        next(predict_files([Path("x/0.png"), Path("x/1.png")], model, heat=tmp_path))
    with pytest.raises(ValueError, match=r"heat: 2 images have pictures named .*1\.png; give them to a folder each"):
        next(predict_files([Path("x/1.png"), Path("y/1.png")], model, heat=tmp_path, overwrite=True))
    with pytest.raises(ValueError, match="a source is never overwritten"):
        next(predict_files([tmp_path / "1.png"], model, heat=tmp_path, overwrite=True))
    assert (tmp_path / "1.png").read_text() == "mine"


def test_predictions_come_one_by_one_with_their_pictures(data: tuple[Path, Path], model: Path, tmp_path: Path) -> None:
    paths = [data[0] / "healthy" / "8.png", data[0] / "unhealthy" / "9.png"]
    told = predict_files(paths, model, heat=tmp_path / "new" / "heat")
    path, explained = next(told)
    assert path == paths[0]
    assert 0 <= explained.probability <= 1
    assert [p.name for p in (tmp_path / "new" / "heat").iterdir()] == ["8.png"]
    assert [path for path, _ in told] == paths[1:]
    assert [path for path, _ in predict_files(paths, model)] == paths


def test_a_report(data: tuple[Path, Path], tmp_path: Path) -> None:
    report = tmp_path / "new" / "report"
    methods = ["frozen", "HOG + SVM", "random forest on size and brightness"]
    rows = evaluate_folder(*data, report, methods=methods, seeds=1, epochs=1)
    assert [row["method"] for row in rows] == methods
    assert {path.name for path in report.iterdir()} == {
        "confusion.png", "curves.csv", "curves.png", "measures.csv", "reliability.png", "roc.png", "tables.md",
    }  # fmt: skip
    text = (report / "tables.md").read_text()
    assert text.startswith("8 training and 8 test images.")
    assert "| HOG + SVM |" in text
    with (report / "measures.csv").open(newline="") as file:
        assert [row["method"] for row in csv.DictReader(file)] == methods


def test_leaks_are_found_and_refused(data: tuple[Path, Path], tmp_path: Path) -> None:
    folder, split = (Path(shutil.copytree(data[0], tmp_path / "data")), tmp_path / "data" / "split.csv")
    shutil.copy(folder / "healthy" / "0.png", folder / "healthy" / "copy.png")
    with split.open("a") as file:
        file.write("\nhealthy/copy.png,healthy,test,9")
    found = audit_folder(folder, split=split)
    assert (found.same_pixels, found.leaking, found.tested) == (1, ["healthy/copy.png"], 9)
    with pytest.raises(
        ValueError, match=r"1 of 9 test images have a copy .*, such as healthy/copy\.png; split by group"
    ):
        evaluate_folder(folder, split, tmp_path / "report", methods=["frozen"])
    assert not (tmp_path / "report").exists()


def test_what_needs_scikit_learn_says_so(
    data: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "sklearn", None)
    message = r"needs scikit-learn, which is not installed; pip install 'nmfuse\[classify\]'"
    with pytest.raises(ModuleNotFoundError, match=f"^this {message}"):
        need_scikit_learn("this")
    with pytest.raises(ModuleNotFoundError, match=f"^an audit {message}"):
        audit_folder(data[0])
    with pytest.raises(ModuleNotFoundError, match=rf"^methods: 'HOG \+ SVM' {message}"):
        evaluate_folder(*data, tmp_path / "report", methods=["frozen", "HOG + SVM"])
    assert evaluate_folder(*data, tmp_path / "report", methods=["frozen"], seeds=1, epochs=1)[0]["method"] == "frozen"
