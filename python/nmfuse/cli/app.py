"""The commands. Heavy imports wait until a command needs them."""

from __future__ import annotations

import io
import os
import signal
import sys
import tomllib
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from nmfuse.fuser import Fuser

app = typer.Typer(
    name="nmfuse",
    help="Fuse registered images of different kinds. A research tool, not a medical device.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
train_app = typer.Typer(help="Train the networks.", no_args_is_help=True)
app.add_typer(train_app, name="train")
classify_app = typer.Typer(help="Classify images as healthy or unhealthy.", no_args_is_help=True)
app.add_typer(classify_app, name="classify")


def _debug(value: bool) -> bool:
    if value:
        os.environ["NMFUSE_DEBUG"] = "1"
    return value


def _version(value: bool) -> None:
    if value:
        from nmfuse.version import __version__

        print(__version__)
        raise typer.Exit


@app.callback()
def _any_command(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Fuse registered images of different kinds. A research tool, not a medical device."""


Debug = Annotated[bool, typer.Option("--debug", callback=_debug, is_eager=True, help="Show the traceback of an error.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Leave out images that cannot be read.")]
Classes = Annotated[str | None, typer.Option(help="Names of the two folders, as HEALTHY,UNHEALTHY, if they differ.")]
Group = Annotated[
    str | None, typer.Option(help="Column of the split file, such as patient, whose equal values are kept together.")
]
Start = Annotated[Path | None, typer.Option(help="Model file from whose fine-tuned branches to start.")]
Notes = Annotated[str, typer.Option(help="Text to store in the file: what the images were, and their licence.")]
TrainingDevice = Annotated[str, typer.Option(help="Device to train on: cpu or cuda.")]
Method = Annotated[str, typer.Option(help="Method of fusion, one of `nmfuse methods`.")]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="TOML file with options of the method, such as rounding = 'nearest'.")
]
Windows = Annotated[
    list[str] | None,
    typer.Option(
        "--window",
        help="The values that mean black and white: LOW,HIGH; minmax; auto (percentiles); dtype (its whole range); "
        "ct-brain, ct-subdural, ct-soft, ct-bone, ct-lung; or suv (to which a DICOM PET is converted). Given once for "
        "all images, or again for each, in their order.",
    ),
]
Bands = Annotated[
    list[str] | None,
    typer.Option(
        help="Bands of a TIFF to use: one as grey, or three as red, green and blue, such as 4,3,2; the first is 1, and "
        "all leaves a file as it is. Given once for all images, or again for each, in their order.",
    ),
]
NoData = Annotated[
    list[str] | None,
    typer.Option(
        "--nodata",
        help="Value of pixels that show nothing, or none. Given once for all images, or again for each.",
    ),
]
FOLDERS = "Whole folders"  # heading of their options
STREAM = Path("-")  # standard input or output
Pattern = Annotated[
    list[str] | None,
    typer.Option(
        help="How the files of a source are named, given once for each source, as in --pattern '{name}_T' --pattern "
        "'{name}_V': {name} is what the sources of a set have in common, * is any text; .jpg at its end excludes other "
        "formats.",
        rich_help_panel=FOLDERS,
    ),
]
DataRange = Annotated[
    str | None, typer.Option("--range", help="LOW,HIGH: black and white of all images, which none of them may exceed.")
]


def _terminated(number: int, frame: object) -> None:
    sys.exit(128 + number)  # as an exception, so that files half written are taken away on its way out


def main() -> None:
    """Run the command line; errors are one line and exit code 1, wrong usage is exit code 2."""
    signal.signal(signal.SIGTERM, _terminated)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files need not be text
    try:
        app(prog_name="nmfuse")
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if os.environ.get("NMFUSE_DEBUG"):
            raise
        known = isinstance(error, (ValueError, TypeError, OSError, RuntimeError, ModuleNotFoundError))
        text = " ".join(str(error).split()) or type(error).__name__
        print(
            f"nmfuse: {text if known else f'{type(error).__name__}: {text} (--debug shows where)'}",
            file=sys.stderr,
        )
        sys.exit(1)


@app.command()
def fuse(
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="File to write the fused image to; - is standard output; for folders of images, a folder.",
        ),
    ],
    sources: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="IMAGES...",
            help="Two or more registered images, or volumes, of one size; - is standard input, a folder of DICOM "
            "files a series. Or whole folders of images.",
        ),
    ] = None,
    method: Method = "learned",
    config: ConfigFile = None,
    window: Windows = None,
    bands: Bands = None,
    nodata: NoData = None,
    data_range: DataRange = None,
    dtype: Annotated[
        str | None,
        typer.Option(
            help="dtype of the result, such as uint8, whose range it then has; by default those of the first image."
        ),
    ] = None,
    fill: Annotated[float | None, typer.Option(help="Value of pixels that no image shows.")] = None,
    balance: Annotated[
        str | None, typer.Option(help="How much of each image is wanted, from 0 to 1, such as 1,0.5; 0 leaves it out.")
    ] = None,
    explain: Annotated[
        Path | None, typer.Option(help="Folder for a picture of every intermediate result (created if missing).")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="HTML page to blend the result with its sources, and to see what would be lost.")
    ] = None,
    resample_to: Annotated[
        str | None,
        typer.Option(
            metavar="1|2|...|finest|FILE",
            help="Resample volumes onto the grid of the first, the second, ..., the finest, or of a file.",
        ),
    ] = None,
    resize: Annotated[
        str | None,
        typer.Option(
            metavar="1|2|...|FILE", help="Resize images to the size of the first, the second, ..., or a file."
        ),
    ] = None,
    align: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL", help="Register the images with the first: similarity, or another of `nmfuse align`."
        ),
    ] = None,
    match: Annotated[
        bool, typer.Option("--match", help="Adapt exposure and white balance to those of the first.")
    ] = False,
    slice_axis: Annotated[
        int,
        typer.Option(min=0, max=2, help="Axis of the slices that networks work on: 0 axial, 1 coronal, 2 sagittal."),
    ] = 0,
    profile: Annotated[
        bool, typer.Option("--profile", help="Print where the time goes, in a second, warm run.")
    ] = False,
    pattern: Pattern = None,
    groups: Annotated[
        Path | None,
        typer.Option(
            rich_help_panel=FOLDERS,
            help="CSV file with the columns a, b, c, ... and a row for each result, instead of IMAGES.",
        ),
    ] = None,
    group_by: Annotated[
        str | None,
        typer.Option(
            metavar="exif",
            rich_help_panel=FOLDERS,
            help="exif finds the exposure brackets and focus stacks in one folder, by time and exposure.",
        ),
    ] = None,
    gap: Annotated[
        float | None,
        typer.Option(
            min=0,
            rich_help_panel=FOLDERS,
            help="With --group-by: the greatest number of seconds between two pictures; by default 2.",
        ),
    ] = None,
    suffix: Annotated[
        str | None,
        typer.Option(
            rich_help_panel=FOLDERS,
            help="Format of the results, such as .tif; by default as the first image, where that can hold it; of -o -: "
            ".png.",
        ),
    ] = None,
    jobs: Annotated[
        int, typer.Option(min=1, rich_help_panel=FOLDERS, help="Number of sets that are fused at the same time.")
    ] = 1,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", rich_help_panel=FOLDERS, help="List what would be fused, and write nothing.")
    ] = False,
    log: Annotated[
        Path | None,
        typer.Option(
            rich_help_panel=FOLDERS,
            help="File to which a line of JSON is added for each set: sources, output, seconds, error.",
        ),
    ] = None,
    paper: Annotated[bool, typer.Option("--paper", hidden=True)] = False,
    overwrite: Overwrite = False,
    debug: Debug = False,
) -> None:
    """Fuse registered images into one, or each set of images in whole folders.

    nmfuse fuse mri.png ct.png -o fused.png

    nmfuse fuse INFRARED/ VISIBLE/ -o FUSED/

    nmfuse fuse FLIGHT/ --pattern '{name}_T' --pattern '{name}_V' -o FUSED/

    In folders, files of the same name belong together. Results that exist already are skipped, so that an interrupted
    run can be continued; --overwrite makes them again.
    """
    if paper:
        raise typer.BadParameter("is --method paper-letter now", param_hint="--paper")
    if bool(sources) == (groups is not None):
        raise typer.BadParameter("give images, or folders of them, or --groups", param_hint="IMAGES")
    if sum(x is not None for x in (align, resample_to, resize)) > 1:
        raise typer.BadParameter("--align, --resample-to and --resize exclude one another", param_hint="--align")
    fuser, images = _fuser(method, config), sources or []
    options: dict[str, Any] = {
        "overwrite": overwrite,
        "resample_to": resample_to,
        "resize": resize,
        "align": align,
        "match": match,
        "bands": [None if text == "all" else _whole_numbers(text, "--bands") for text in bands or ()],
        "nodata": [None if text == "none" else _number(text, "--nodata") for text in nodata or ()],
        "slice_axis": slice_axis,
        "data_range": _pair_of_numbers(data_range, "--range"),
        "output_dtype": dtype,
        "fill": fill,
        "balance": _numbers(balance, "--balance"),
    }
    suffix = suffix and f".{suffix.removeprefix('.')}"
    from nmfuse.cli.folders import is_of_folders, run_folders
    from nmfuse.cli.fusing import of_each, run_fuse
    from nmfuse.cli.streams import files_for_streams
    from nmfuse.cli.tiling import are_large, run_tiles

    if groups is not None or is_of_folders(images) or (pattern and all(path.is_dir() for path in images)):
        _refuse(
            {"--explain": explain, "--report": report, "--profile": profile}, "is of one result, and not of folders"
        )
        if group_by is not None and (group_by != "exif" or len(images) != 1):
            raise typer.BadParameter(f"got {group_by!r}; expected exif, and one folder", param_hint="--group-by")
        _refuse({"--gap": gap is not None and group_by is None}, "is for --group-by")
        _refuse({"--pattern": pattern and (groups or group_by)}, "does not go with --groups or --group-by")
        run_folders(
            fuser,
            images,
            output,
            patterns=pattern or [],
            groups=groups,
            by_exif=group_by is not None,
            gap=2.0 if gap is None else gap,
            suffix=suffix,
            jobs=jobs,
            dry_run=dry_run,
            log=log,
            windows=partial(_windows, window),
            **options,
        )
        return
    of_folders = {"--pattern": pattern, "--group-by": group_by, "--gap": gap, "--dry-run": dry_run, "--log": log}
    _refuse({**of_folders, "--jobs": jobs > 1}, "is for folders, and IMAGES are files")
    if output == STREAM:
        _refuse({"--profile": profile}, "prints to standard output, where -o - writes the image")
    else:
        _refuse({"--suffix": suffix}, "is for folders and for -o -; the suffix of --output says the format")
    with files_for_streams(images, output, suffix or ".png") as (paths, target):
        if are_large(paths):
            in_memory: dict[str, Any] = {
                "--align": align,
                "--resample-to": resample_to,
                "--resize": resize,
                "--match": match,
            }
            in_memory |= {"--explain": explain, "--report": report, "--profile": profile}
            in_memory |= {"--bands": bands}
            _refuse(
                in_memory,
                "is not for images larger than memory, fused in tiles; prepare the files as docs/large.md says, "
                "or set the environment variable NMFUSE_MAX_PIXELS to a number of pixels that memory holds",
            )
            run_tiles(
                fuser,
                paths,
                target,
                window=_windows(window, len(paths)),
                data_range=options["data_range"],
                output=dtype,
                balance=options["balance"],
                nodata=of_each("--nodata", options["nodata"], len(paths)),
                fill=fill,
                overwrite=overwrite,
            )
            print(output)
            return
        run_fuse(
            fuser,
            paths,
            target,
            explain=explain,
            report=report,
            profile=profile,
            window=_windows(window, len(paths)),
            **options,
        )
    if output != STREAM:
        print(output)


@app.command()
def video(
    sources: Annotated[
        list[Path], typer.Argument(metavar="VIDEOS...", help="Two or more videos of one scene that begin together.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="File to write the fused video to: .mp4, .mov or .mkv.")
    ],
    method: Method = "learned",
    config: ConfigFile = None,
    window: Windows = None,
    balance: Annotated[
        str | None, typer.Option(help="How much of each video is wanted, from 0 to 1, such as 1,0.5; 0 leaves it out.")
    ] = None,
    overwrite: Overwrite = False,
    debug: Debug = False,
) -> None:
    """Fuse registered videos into one (needs the extra video).

    nmfuse video infrared.mp4 visible.mp4 -o fused.mp4

    nmfuse video thermal.mkv visible.mp4 -o fused.mp4 --window 27000,31000 --window dtype

    Frames are paired by their time stamps. The sound of the first video that has any is copied.
    """
    fuser = _fuser(method, config)
    from nmfuse.cli.videos import run_video

    run_video(
        fuser,
        sources,
        output,
        overwrite=overwrite,
        window=_windows(window, len(sources)),
        balance=_numbers(balance, "--balance"),
    )


@app.command()
def align(
    sources: Annotated[
        list[Path], typer.Argument(metavar="IMAGES...", help="Two or more images or volumes; the first stays in place.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write to (made if missing).")],
    model: Annotated[
        str | None,
        typer.Option(
            help="What may differ: translation, rigid, similarity, affine, homography, deformable; by default "
            "similarity, of volumes rigid."
        ),
    ] = None,
    method: Annotated[
        str,
        typer.Option(help="What is compared: edges, information (for PET or SPECT with MRI, and volumes), or auto."),
    ] = "auto",
    transform: Annotated[
        Path | None,
        typer.Option(help="File of a transform to apply to all images but the first, instead of estimating one."),
    ] = None,
    match: Annotated[bool, typer.Option("--match", help="Bring exposure and white balance to the first's.")] = False,
    fill: Annotated[
        float | None, typer.Option(help="Value of pixels that an image does not show; by default they are not valid.")
    ] = None,
    overwrite: Overwrite = False,
    debug: Debug = False,
) -> None:
    """Register images with the first one; write them on its pixels, and the transforms.

    nmfuse align visible.jpg thermal.tif -o aligned

    nmfuse align visible2.jpg thermal2.tif -o aligned2 --transform aligned/thermal.json
    """
    from nmfuse.cli.aligning import run_align

    run_align(
        sources,
        output,
        model=model,
        method=method,
        transform=transform,
        matched=match,
        fill=fill,
        overwrite=overwrite,
    )


@app.command()
def stack(
    sources: Annotated[
        list[Path],
        typer.Argument(metavar="IMAGES...", help="Images in their order, a folder of them, or a TIFF file of pages."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where to write the sharp image.")],
    depth: Annotated[
        Path | None,
        typer.Option(help="Where to write which image is sharp: grey from 0, the first, to 255, the last."),
    ] = None,
    model: Annotated[
        str, typer.Option(help="How they are registered with the first, as in nmfuse align; none leaves them.")
    ] = "similarity",
    match: Annotated[bool, typer.Option("--match", help="Bring exposure and white balance to the first's.")] = False,
    window: Windows = None,
    method: Method = "laplacian",
    config: ConfigFile = None,
    overwrite: Overwrite = False,
    debug: Debug = False,
) -> None:
    """Fuse a focus stack: register its images, fuse them, and make a depth map.

    nmfuse stack PHOTOS/ -o sharp.jpg --depth depth.png

    nmfuse stack cells.ome.tif -o sharp.tif --model none --window 0,4095
    """
    fuser = _fuser(method, config)
    from nmfuse.cli.stacking import run_stack

    run_stack(
        fuser,
        sources,
        output,
        depth=depth,
        model=None if model == "none" else model,
        matched=match,
        windows=partial(_windows, window),
        overwrite=overwrite,
    )


@app.command()
def check(
    sources: Annotated[list[Path], typer.Argument(metavar="IMAGES...", help="Two or more images or volumes.")],
    debug: Debug = False,
) -> None:
    """Print how far each image is from being registered with the first, and how certain that is.

    nmfuse check mri.png ct.png

    nmfuse check t1.nii.gz flair.nii.gz
    """
    from nmfuse.cli.aligning import run_check

    run_check(sources)


@app.command()
def demo(
    sources: Annotated[
        list[Path] | None, typer.Argument(help="Images; by default the phantom's T2-weighted MRI and CT.")
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write to (made if missing).")] = Path(
        "demo"
    ),
    method: Method = "learned",
    config: ConfigFile = None,
    debug: Debug = False,
) -> None:
    """Fuse sample images, write fused.png and explain.png, and print metrics and timings.

    nmfuse demo

    nmfuse demo mri.png ct.png -o demo
    """
    fuser = _fuser(method, config)
    from nmfuse.cli.demo import run_demo

    if sources is not None and len(sources) < 2:
        raise typer.BadParameter("give two images or more, or none", param_hint="SOURCES")
    run_demo(fuser, sources or [], output)


@app.command()
def evaluate(
    images: Annotated[
        list[Path], typer.Argument(help="The fused image and its sources; with --method only the sources.")
    ],
    metrics: Annotated[
        str | None, typer.Option(help="Names such as Q_abf,VIF; by default all that are defined for the sources.")
    ] = None,
    method: Annotated[
        str | None, typer.Option(help="Method, one of `nmfuse methods`, to fuse the images by and to evaluate.")
    ] = None,
    transfer: Annotated[
        bool,
        typer.Option(
            "--transfer", help="With --method: measure how much it shows of small signals in a single source."
        ),
    ] = False,
    window: Windows = None,
    data_range: DataRange = None,
    debug: Debug = False,
) -> None:
    """Print metrics of a fused image, or of a method; colour images are measured by their luminance (BT.601).

    nmfuse evaluate fused.png mri.png ct.png --metrics Q_abf,SSIM

    nmfuse evaluate --method learned mri.png ct.png --transfer
    """
    from nmfuse.cli.evaluate import run_evaluate, run_transfer

    if transfer and method is None:
        raise typer.BadParameter("needs a method that fuses; give --method, such as learned", param_hint="--transfer")
    if transfer and (metrics is not None or window or data_range is not None):
        raise typer.BadParameter("has no --metrics, --window or --range", param_hint="--transfer")
    if transfer and method is not None:
        run_transfer(method, images)
        return
    run_evaluate(
        images,
        _names(metrics),
        method=method,
        window=_windows(window, len(images)),
        data_range=_pair_of_numbers(data_range, "--range"),
    )


@app.command()
def methods(debug: Debug = False) -> None:
    """List all methods of fusion: nmfuse's own and those it is compared with.

    nmfuse methods

    nmfuse fuse mri.png ct.png -o fused.png --method laplacian
    """
    from nmfuse.cli.comparing import run_methods

    run_methods()


@app.command()
def compare(
    pairs: Annotated[
        list[Path], typer.Argument(help="Folders of NAME_A.*, NAME_B.*, or of such folders, or CSVs of pairs.")
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="Folder for images, tables and report.html; an existing one is continued."),
    ] = Path("report"),
    methods: Annotated[
        str | None, typer.Option(help="Names such as pca,cnn-liu (see `nmfuse methods`); by default all.")
    ] = None,
    metrics: Annotated[str | None, typer.Option(help="Names such as Q_abf,VIF; by default all.")] = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="TOML file with a table of parameters for any method.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Number of processes; by default one for each core.")
    ] = None,
    pattern: Pattern = None,
    paper: Annotated[bool, typer.Option("--paper", help="Print the paper's Table III beside ours.")] = False,
    debug: Debug = False,
) -> None:
    """Run every method on every pair, and write images, metrics, times and an HTML report.

    nmfuse compare PAIRS/ -o report

    nmfuse compare PAIRS/ -o report --methods learned,laplacian --metrics Q_abf,SSIM
    """
    params = _read_toml(config)
    for name, value in params.items():
        if not isinstance(value, dict):
            raise typer.BadParameter(f"{config}: {name} is no table; expected [METHOD] tables", param_hint="--config")
    from nmfuse.cli.comparing import run_compare

    run_compare(pairs, output, _names(methods), _names(metrics), params, workers, patterns=pattern or [], paper=paper)


@app.command()
def ablate(
    pairs: Annotated[Path, typer.Argument(help="Folder of NAME_A.*, NAME_B.*, or of such folders, or a CSV of pairs.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Markdown file to write.")] = Path("ablation.md"),
    network: Annotated[
        list[str] | None, typer.Option(help="NAME=FILE: another fusion network, to be compared with the default.")
    ] = None,
    overwrite: Overwrite = False,
    debug: Debug = False,
) -> None:
    """Measure what each step of the pipeline contributes: metrics, mean rank and time of variants.

    nmfuse ablate PAIRS/ -o ablation.md

    nmfuse ablate PAIRS/ -o ablation.md --network mine=mine.safetensors
    """
    networks = dict(_named_file(text) for text in network or [])
    from nmfuse.cli.comparing import run_ablate

    run_ablate(pairs, output, networks, overwrite=overwrite)


@app.command()
def export(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="File to write: .onnx, or .pt2 for torch.export.load.")
    ],
    sources: Annotated[int, typer.Option(min=2, help="Number of images that are fused.")] = 2,
    size: Annotated[str, typer.Option(metavar="HEIGHT,WIDTH", help="Size of the images, in pixels.")] = "256,256",
    batch: Annotated[int, typer.Option(min=1, help="Number of sets of images in one call.")] = 1,
    config: ConfigFile = None,
    overwrite: Overwrite = False,
    debug: Debug = False,
) -> None:
    """Write the learned method as a file that other programs can run.

    They give it S luminances (N, 1, H, W) in [0, 1], and get the fused ones.

    nmfuse export -o fuse.onnx

    nmfuse export --sources 3 --size 512,640 -o fuse.pt2
    """
    fuser, sides = _fuser("learned", config), _pair_of_numbers(size, "--size")
    assert sides is not None
    if any(side != int(side) or side < 16 for side in sides):
        raise typer.BadParameter(f"got {size!r}; expected two whole numbers of at least 16", param_hint="--size")
    from nmfuse.cli.exporting import run_export

    height, width = sides
    run_export(fuser, output, sources=sources, size=(int(height), int(width)), batch=batch, overwrite=overwrite)
    print(output)


@app.command()
def info(debug: Debug = False) -> None:
    """Print version, compiler, instruction set, threads, torch and CUDA, for a bug report.

    nmfuse info

    nmfuse info > info.txt
    """
    from nmfuse.version import show_config

    show_config()


@app.command()
def doctor(debug: Debug = False) -> None:
    """Print which features work here, and how to install those that are missing.

    nmfuse doctor

    nmfuse doctor | grep missing
    """
    from nmfuse.cli.doctor import run_doctor

    run_doctor()


@train_app.command("focus")
def train_focus(
    images: Annotated[Path, typer.Option(help="Folder of sharp photographs, searched with its subfolders.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Weight file to write (.safetensors).")],
    variant: Annotated[str, typer.Option(help="lite or full.")] = "lite",
    steps: Annotated[int | None, typer.Option(help="Batches; by default the shipped file's.")] = None,
    seed: Annotated[int, typer.Option(help="Of the split, the patches and the start.")] = 0,
    device: TrainingDevice = "cpu",
    checkpoint: Annotated[
        Path | None, typer.Option(help="File to save progress in; a killed run continues from it.")
    ] = None,
    notes: Notes = "",
    overwrite: Overwrite = False,
    debug: Debug = False,
) -> None:
    """Train the Siamese network to tell sharp from blurred patches.

    nmfuse train focus --images PHOTOS/ -o focus.safetensors

    nmfuse train focus --images PHOTOS/ -o focus.safetensors --variant full --checkpoint focus.ckpt
    """
    from nmfuse.cli.training import run_train_focus

    run_train_focus(
        output,
        images=images,
        variant=variant,
        steps=steps,
        seed=seed,
        device=device,
        checkpoint=checkpoint,
        notes=notes,
        overwrite=overwrite,
    )


@train_app.command("fusion")
def train_fusion(
    output: Annotated[Path, typer.Option("--output", "-o", help="Weight file to write (.safetensors).")],
    data: Annotated[
        Path | None,
        typer.Option(help="Folder with one folder a kind (mri_ct, say) of NAME_A.*, NAME_B.*, and index.csv."),
    ] = None,
    photos: Annotated[Path | None, typer.Option(help="Folder of photographs: pairs, and textures of phantoms.")] = None,
    phantoms: Annotated[int, typer.Option(help="How many digital brain phantoms to draw.")] = 0,
    start: Annotated[
        str | None, typer.Option(help="Weights to go on from: default, all, or a file; best with a smaller --lr.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Batches; by default those of the shipped file's first pass.")
    ] = None,
    batch: Annotated[
        int | None, typer.Option(help="Pairs a step of each process; by default those of the first pass.")
    ] = None,
    crop: Annotated[
        int | None,
        typer.Option(help="Pixels along the crop that is taken of each pair; by default those of the first pass."),
    ] = None,
    lr: Annotated[
        float | None, typer.Option(help="Greatest learning rate; by default that of the shipped file's first pass.")
    ] = None,
    context: Annotated[bool, typer.Option(help="Whether the NMF takes part.")] = True,
    seed: Annotated[int, typer.Option(help="Of the crops and the start.")] = 0,
    device: TrainingDevice = "cpu",
    checkpoint: Annotated[
        Path | None, typer.Option(help="File to save progress in; a killed run continues from it.")
    ] = None,
    notes: Notes = "",
    overwrite: Overwrite = False,
    debug: Debug = False,
) -> None:
    """Train the fusion network end to end.

    nmfuse train fusion --photos PHOTOS/ --phantoms 40 -o fusion.safetensors

    nmfuse train fusion --data PAIRS/ --start default --lr 0.001 -o mine.safetensors

    torchrun --nproc-per-node 2 -m nmfuse.cli train fusion --data PAIRS/ -o mine.safetensors
    """
    from nmfuse.cli.training import run_train_fusion

    asked = {"steps": steps, "batch": batch, "crop": crop, "lr": lr}
    options = {name: value for name, value in asked.items() if value is not None}
    run_train_fusion(
        output,
        data=data,
        photos=photos,
        phantoms=phantoms,
        start=start,
        context=context,
        seed=seed,
        device=device,
        checkpoint=checkpoint,
        notes=notes,
        overwrite=overwrite,
        **options,
    )


@train_app.command("dictionaries")
def train_dictionaries(
    images: Annotated[Path, typer.Option(help="Folder of photographs, searched with its subfolders.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write (.npz).")],
    seed: Annotated[int, typer.Option(help="Of the draw and of the start.")] = 0,
    overwrite: Overwrite = False,
    debug: Debug = False,
) -> None:
    """Learn the dictionaries of the rival methods mst-sr and asr (needs the extra compare).

    nmfuse train dictionaries --images PHOTOS/ -o dictionaries.npz

    nmfuse train dictionaries --images PHOTOS/ -o dictionaries.npz --seed 1
    """
    from nmfuse.cli.training import run_train_dictionaries

    run_train_dictionaries(images, output, seed, overwrite=overwrite)


@classify_app.command("train")
def classify_train(
    data: Annotated[Path, typer.Option(help="Folder of healthy/ and unhealthy/, or no/ and yes/.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Model file to write (.safetensors).")],
    split: Annotated[Path | None, typer.Option(help="CSV of file, label, split: learn from its training half.")] = None,
    classes: Classes = None,
    group: Group = None,
    start: Start = None,
    trainable: Annotated[
        bool, typer.Option("--trainable/--frozen", help="Fine-tune the branches, or leave them at the focus weights.")
    ] = True,
    epochs: Annotated[int, typer.Option(help="Of the fine-tuning.")] = 40,
    seed: Annotated[int, typer.Option(help="Of the split, the order and the start.")] = 0,
    checkpoint: Annotated[
        Path | None, typer.Option(help="File to save progress in; a killed run continues from it.")
    ] = None,
    device: TrainingDevice = "cpu",
    skip_bad: SkipBad = False,
    overwrite: Overwrite = False,
    debug: Debug = False,
) -> None:
    """Train the classifier of healthy and unhealthy images.

    nmfuse classify train --data HEADS/ -o heads.safetensors

    nmfuse classify train --data HEADS/ --split split.csv --group patient -o heads.safetensors
    """
    from nmfuse.cli.classifying import run_train

    run_train(
        data,
        split,
        _two_classes(classes),
        output,
        epochs,
        seed,
        checkpoint,
        group=group,
        start=start,
        device=device,
        trainable=trainable,
        skip_bad=skip_bad,
        overwrite=overwrite,
    )


@classify_app.command("audit")
def classify_audit(
    data: Annotated[Path, typer.Argument(help="Folder of healthy/ and unhealthy/, or no/ and yes/.")],
    split: Annotated[Path | None, typer.Option(help="CSV of file, label, split (train or test).")] = None,
    classes: Classes = None,
    debug: Debug = False,
) -> None:
    """Print copies, leaks of a split, and what trivial features predict.

    nmfuse classify audit HEADS/

    nmfuse classify audit HEADS/ --split split.csv
    """
    from nmfuse.cli.classifying import run_audit

    run_audit(data, split, _two_classes(classes))


@classify_app.command("predict")
def classify_predict(
    images: Annotated[list[Path], typer.Argument(help="Image files.")],
    model: Annotated[Path, typer.Option(help="Model file that `nmfuse classify train` wrote.")],
    heat: Annotated[Path | None, typer.Option(help="Folder for pictures of what decided.")] = None,
    overwrite: Overwrite = False,
    debug: Debug = False,
) -> None:
    """Print label and probability of images, and draw the components that decided.

    nmfuse classify predict head.png --model heads.safetensors

    nmfuse classify predict head.png --model heads.safetensors --heat heat
    """
    from nmfuse.cli.classifying import run_predict

    run_predict(images, model, heat, overwrite=overwrite)


@classify_app.command("evaluate")
def classify_evaluate(
    data: Annotated[Path, typer.Option(help="Folder of healthy/ and unhealthy/, or no/ and yes/.")],
    split: Annotated[Path, typer.Option(help="CSV of file, label, split (train or test).")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for tables and figures.")],
    classes: Classes = None,
    group: Group = None,
    start: Start = None,
    methods: Annotated[str | None, typer.Option(help="Names, separated by commas; by default all.")] = None,
    seeds: Annotated[int, typer.Option(help="How often the classifier is trained.")] = 5,
    epochs: Annotated[int, typer.Option(help="Of the fine-tuning.")] = 40,
    device: TrainingDevice = "cpu",
    skip_bad: SkipBad = False,
    allow_leaks: Annotated[
        bool, typer.Option("--allow-leaks", help="Measure a split that copies cross, with a warning.")
    ] = False,
    overwrite: Overwrite = False,
    debug: Debug = False,
) -> None:
    """Measure the classifier, its ablations and plain baselines on the test half of a split.

    nmfuse classify evaluate --data HEADS/ --split split.csv -o report

    nmfuse classify evaluate --data HEADS/ --split split.csv --group patient --seeds 1 -o report
    """
    from nmfuse.cli.classifying import run_evaluate

    run_evaluate(
        data,
        split,
        _two_classes(classes),
        output,
        _names(methods),
        seeds,
        epochs,
        group=group,
        start=start,
        device=device,
        skip_bad=skip_bad,
        allow_leaks=allow_leaks,
        overwrite=overwrite,
    )


def _refuse(given: dict[str, Any], why: str) -> None:
    for option, value in given.items():
        if value:
            raise typer.BadParameter(why, param_hint=option)


def _two_classes(text: str | None) -> tuple[str, str] | None:
    if text is None:
        return None
    names = [name.strip() for name in text.split(",")]
    if len(names) != 2 or not all(names):
        raise typer.BadParameter(f"got {text!r}; expected HEALTHY,UNHEALTHY", param_hint="--classes")
    return names[0], names[1]


def _names(text: str | None) -> list[str] | None:
    return None if text is None else [name.strip() for name in text.split(",")]


def _named_file(text: str) -> tuple[str, Path]:
    name, equals, file = text.partition("=")
    if not (name and equals and file):
        raise typer.BadParameter(f"got {text!r}; expected NAME=FILE", param_hint="--network")
    return name, Path(file)


def _read_toml(config: Path | None) -> dict[str, Any]:
    """Return what a config file holds; a mistake in it is wrong usage (exit code 2)."""
    if config is None:
        return {}
    try:
        return tomllib.loads(config.read_text())
    except OSError as error:
        raise typer.BadParameter(f"{config}: {error.strerror}", param_hint="--config") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"{config}: is not TOML ({error})", param_hint="--config") from error


def _fuser(method: str, config: Path | None) -> Fuser:
    """Return the Fuser of a method and a config file; a mistake in either is wrong usage (exit code 2)."""
    from nmfuse.fuser import Fuser
    from nmfuse.methods import METHODS

    if method not in METHODS:
        raise typer.BadParameter(f"got {method!r}; expected one of {', '.join(METHODS)}", param_hint="--method")
    options = _read_toml(config)
    if "method" in options:
        raise typer.BadParameter(f"{config}: method is no option; give it with --method", param_hint="--config")
    try:
        return Fuser(method, **options)
    except (ValueError, TypeError) as error:
        raise typer.BadParameter(f"{config}: {error}", param_hint="--config") from error


def _windows(given: list[str] | None, images: int) -> Any:
    """Return what --window said: nothing, one for all images, or a list of one for each."""
    if not given:
        return None
    windows = [None if text == "dtype" else _range_or_name(text) for text in given]
    if windows == [None]:
        return windows * images  # None alone would be as if nothing had been said
    return windows[0] if len(windows) == 1 else windows


def _number(text: str, option: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise typer.BadParameter(f"got {text!r}; expected a number such as -9999", param_hint=option) from error


def _whole_numbers(text: str, option: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise typer.BadParameter(f"got {text!r}; expected numbers such as 4,3,2", param_hint=option) from error


def _range_or_name(text: str) -> Any:
    return _pair_of_numbers(text, "--window") if "," in text else text


def _numbers(text: str | None, option: str) -> list[float] | None:
    try:
        return None if text is None else [float(part) for part in text.split(",")]
    except ValueError as error:
        raise typer.BadParameter(f"got {text!r}; expected numbers such as 1,0.5", param_hint=option) from error


def _pair_of_numbers(text: str | None, option: str) -> tuple[float, float] | None:
    if text is None:
        return None
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError as error:
        raise typer.BadParameter(f"got {text!r}; expected LOW,HIGH, two numbers", param_hint=option) from error
    return low, high
