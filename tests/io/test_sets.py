"""Finding sets of images, and what is wrong with a folder or a table of them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from nmfuse.data import brain_phantom
from nmfuse.io import SourceSet, find_sets, match_sets, write_image


@pytest.fixture(scope="module")
def pairs_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two kinds: two grey pairs, and one whose second image is in colour and partly transparent."""
    folder = tmp_path_factory.mktemp("pairs")
    for kind, count in (("mri_ct", 2), ("mri_pet", 1)):
        (folder / kind).mkdir()
        for i in range(count):
            phantom = brain_phantom(64, seed=i)
            mri, ct = (np.rint(255 * x).astype(np.uint8) for x in (phantom.t2, phantom.ct))
            write_image(folder / kind / f"{i:02d}_A.png", mri)
            if kind == "mri_ct":
                write_image(folder / kind / f"{i:02d}_B.png", ct)
            else:
                colour = np.stack([ct, mri // 2, mri // 4], axis=-1)
                write_image(folder / kind / f"{i:02d}_B.png", colour, valid=np.arange(64 * 64).reshape(64, 64) > 9)
    return folder


def empty(folder: Path, *names: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"")
    return folder


def test_folder_of_folders_and_a_folder(pairs_dir: Path) -> None:
    assert [one.label for one in find_sets(pairs_dir)] == ["mri_ct/00", "mri_ct/01", "mri_pet/00"]
    assert [one.label for one in find_sets(str(pairs_dir / "mri_ct"))] == ["mri_ct/00", "mri_ct/01"]
    both = find_sets([pairs_dir / "mri_pet", pairs_dir / "mri_ct"])
    assert [one.label for one in both] == ["mri_ct/00", "mri_ct/01", "mri_pet/00"]


def test_images_are_read_as_they_are_and_as_luminance(pairs_dir: Path) -> None:
    one = find_sets(pairs_dir)[-1]
    assert [image.shape for image in one.images()] == [(64, 64), (64, 64, 3)]
    grey = one.luminances()[1]
    assert (grey.shape, grey.dtype, grey.name) == ((64, 64), np.uint8, "00_B.png")
    assert np.count_nonzero(~grey.valid) == 10


def test_more_than_two_sources(tmp_path: Path) -> None:
    names = ("focus_A.png", "focus_B.tif", "focus_C.png", "focus_D.jpg", "two_A.png", "two_B.png", "holiday_Z.png")
    folder = empty(tmp_path / "stacks", *names, "focus_A.txt", ".focus_A.png", "notes_A.csv")
    stack, pair = find_sets(folder)
    assert stack == SourceSet("stacks", "focus", tuple(folder / name for name in names[:4]))
    assert pair.paths == (folder / "two_A.png", folder / "two_B.png")
    table = tmp_path / "stacks.csv"
    table.write_text(
        "a,b,c,d,n,name\n"
        "stacks/two_A.png,stacks/two_B.png,stacks/focus_C.png,,7,three\n"
        "stacks/two_A.png,stacks/two_B.png,,,8,\n"
    )
    assert [(one.label, len(one.paths)) for one in find_sets(table)] == [("stacks/three", 3), ("stacks/two", 2)]
    table.write_text("a,b,c,d\nstacks/two_A.png,stacks/two_B.png,,stacks/focus_C.png\n")
    with pytest.raises(ValueError, match=r"stacks\.csv: line 2 has no c; expected a file"):
        find_sets(table)


def test_table(pairs_dir: Path, tmp_path: Path) -> None:
    for side in "AB":
        shutil.copy(pairs_dir / "mri_ct" / f"00_{side}.png", tmp_path / f"{side}.png")
    table = tmp_path / "mine.csv"
    table.write_text("a,b,kind,name\nA.png,B.png,brain,first\nB.png,A.png,,\n")
    assert [one.label for one in find_sets(table)] == ["brain/first", "mine/B"]
    table.write_text("a,c\nA.png,B.png\n")
    with pytest.raises(ValueError, match="has no column b; expected a, b"):
        find_sets(table)
    table.write_text("a,b\nA.png,C.png\n")
    with pytest.raises(FileNotFoundError, match=r"C\.png: no such file, named in .*mine\.csv"):
        find_sets(table)
    table.write_text("a,b\nA.png,B.png\nA.png\n")
    with pytest.raises(ValueError, match=r"mine\.csv: line 3 has no b; expected a file"):
        find_sets(table)


def test_what_is_wrong_is_said(pairs_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such folder or CSV file"):
        find_sets(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="has no pairs"):
        find_sets(tmp_path)
    with pytest.raises(ValueError, match="is mri_ct/00, and so is"):
        find_sets([pairs_dir, pairs_dir / "mri_ct"])


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("01_A.png",), r"01_A\.png: has 0 partners 01_B\.\*; expected one"),
        (("01_B.png",), r"01_B\.png: has 0 partners 01_A\.\*; expected one"),
        (("01_A.png", "01_B.png", "01_B.tif"), r"01_A\.png: has 2 partners 01_B\.\*; expected one"),
        (("01_A.png", "01_B.png", "01_D.png"), r"01_D\.png: is named like a source, but there is no 01_C\.\*; rename"),
    ],
)
def test_sources_that_are_missing_or_there_twice(tmp_path: Path, names: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        find_sets(empty(tmp_path / "x", *names))


def test_a_link_back_to_the_folder_is_not_followed_twice(pairs_dir: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mri_ct"
    shutil.copytree(pairs_dir / "mri_ct", folder)
    (folder / "again").symlink_to(folder)
    assert [one.label for one in find_sets(folder)] == ["mri_ct/00", "mri_ct/01"]


@pytest.mark.parametrize("name", ["../01", ".."])
def test_names_of_a_table_lead_nowhere_else(tmp_path: Path, name: str) -> None:
    empty(tmp_path, "1_A.png", "1_B.png")
    (tmp_path / "x.csv").write_text(f"a,b,name\n1_A.png,1_B.png,{name}\n")
    with pytest.raises(ValueError, match=rf"x\.csv: line 2 has the name '{name}'; expected one without a folder"):
        find_sets(tmp_path / "x.csv")


def names(found: tuple[list[SourceSet], dict[Path, str]]) -> tuple[list[list[str]], dict[str, str]]:
    sets, alone = found
    return (
        [[one.name, *(path.name for path in one.paths)] for one in sets],
        {path.name: why for path, why in alone.items()},
    )


def test_sets_with_a_name_in_common(tmp_path: Path) -> None:
    a = empty(tmp_path / "a", "1.png", "2.nii.gz", "3.jpg", "notes.txt", ".4.png")
    b = empty(tmp_path / "b", "1.TIF", "2.nii", "4.png")
    found = match_sets([a, b])
    assert [one.kind for one in found[0]] == ["a_b", "a_b"]
    assert names(found) == (
        [["1", "1.png", "1.TIF"], ["2", "2.nii.gz", "2.nii"]],
        {"3.jpg": f"has no partner 3.* in {b}", "4.png": f"has no partner 4.* in {a}"},
    )
    c = empty(tmp_path / "c", "1.png", "3.png")
    assert names(match_sets([c, a, b]))[0] == [["1", "1.png", "1.png", "1.TIF"]]
    assert names(match_sets([c, a, b]))[1]["3.jpg"] == f"has no partner 3.* in {b}"


def test_sets_by_patterns(tmp_path: Path) -> None:
    files = ("D_1_07_T.JPG", "D_2_07_V.JPG", "D_2_07_V.png", "D_3_08_T.JPG", "D_3_09_Z.JPG", "(+)_T.jpg")
    folder = empty(tmp_path / "x", *files)
    assert names(match_sets([folder], ["D_*_{name}_T.jpg", "D_*_{name}_V.jpg"])) == (
        [["07", "D_1_07_T.JPG", "D_2_07_V.JPG"]],
        {
            "(+)_T.jpg": "is not named D_*_{name}_T.jpg or D_*_{name}_V.jpg",
            "D_2_07_V.png": "is not named D_*_{name}_T.jpg or D_*_{name}_V.jpg",
            "D_3_08_T.JPG": f"has no partner D_*_08_V.jpg in {folder}",
            "D_3_09_Z.JPG": "is not named D_*_{name}_T.jpg or D_*_{name}_V.jpg",
        },
    )
    plain = empty(tmp_path / "plain", "1.jpg", "1_T.jpg", "2.jpg", "2_T.jpg")
    for order in (["{name}", "{name}_T"], ["{name}_T", "{name}"]):
        found = names(match_sets([plain], order))
        assert ([one[0] for one in found[0]], found[1]) == (["1", "2"], {})
    both = names(match_sets([plain, empty(tmp_path / "y", "IR1.png")], ["{name}", "IR{name}"]))
    assert both[0] == [["1", "1.jpg", "IR1.png"]]


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        (["{name}_T"], "pattern: got 1 for 1 folder; expected one for each folder, or for one folder one for each"),
        (["{name}_T", "V"], r"pattern: got 'V'; expected the name of a file with {name} once"),
        (["{name}_T", "{name}{name}"], r"pattern: got '{name}{name}'; expected the name of a file with {name} once"),
        (["t/{name}", "v/{name}"], r"pattern: got 't/{name}'; expected the name of a file"),
        (["{name}_T", "{name}_W"], r"no images belong together by {name}_T and {name}_W; 1_V\.jpg is not named"),
        (["{name}_T", "{name}_V"], r"1_V\.png: is 1_V\.\*, and so is .*1_V\.jpg; choose one .*such as '{name}\.jpg'"),
    ],
)
def test_patterns_that_fit_nothing_or_too_much(tmp_path: Path, patterns: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        match_sets([empty(tmp_path / "x", "1_T.jpg", "1_V.jpg", "1_V.png")], patterns)


def test_folders_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(NotADirectoryError, match="no: is not a folder; expected one of images"):
        match_sets([tmp_path, tmp_path / "no"])


def test_suffixes_of_two_parts(tmp_path: Path) -> None:
    folder = empty(
        tmp_path / "x", "01_A.nii.gz", "01_B.nii", "02_A.ome.tif", "02_B.OME.TIFF", "a.b_A.nii.gz", "a.b_B.nii.gz"
    )
    assert [one.name for one in find_sets(folder)] == ["01", "02", "a.b"]
    table = tmp_path / "t.csv"
    table.write_text("a,b\nx/01_A.nii.gz,x/01_B.nii\n")
    assert [one.label for one in find_sets(table)] == ["t/01"]
    one, other = empty(tmp_path / "one", "p.nii.gz", "q.ome.tif"), empty(tmp_path / "two", "p.nii", "q.tif")
    assert [found.name for found in match_sets([one, other])[0]] == ["p", "q"]
    empty(one, "p.nii")
    with pytest.raises(ValueError, match=r"choose one by the suffix in its pattern, such as '\{name\}\.nii'"):
        match_sets([one, other])
