"""Every command with unusable arguments: one message, no traceback, no file written."""

import errno
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ball_settings, write_volume

from medseg.cli.main import cli, run
from medseg.config.schema import load_config
from medseg.training.fit import fit

OUT = "--output {out}"
INFER = "infer --model {model} --output {out} {scan}"
EVALUATE = "evaluate {predicted} {labels} --output {out}"
NNUNET = "import nnunet --output {out}.safetensors"
DICOM = "dicom export --to seg --output {out}.dcm --labels ball=1 --made manual"
FEATURES = "models features --model {model} --output {out}"
LOST = '[{"id": "a", "part": "val", "image": "/nowhere/a.nii.gz", "label": "/nowhere/a_mask.nii.gz"}]'

CASES = [
    "plan",
    "plan {missing}",
    "plan {text}",
    "plan {empty}",
    "plan {balls} --budget nonsense",
    "plan {balls} --device nonsense",
    "plan {balls} frobnicate=1",
    "plan {balls} --output {scan}",
    "plan {balls} --output {text}",
    "compare",
    "compare {missing} {labels}",
    "compare {text} {empty} --output {out}",
    "compare {predicted} {labels} --reference {missing} --output {out}",
    "compare {labels} {labels} --reference {labels}",
    "compare {labels} {predicted} --reference {labels} --groups {missing}",
    "compare {predicted} {labels} --output {blocked}",
    "metrics recommend {missing}",
    "metrics recommend {empty}",
    "view {missing}",
    "view {broken_scan}",
    "view {scan} --reference {text}",
    "view ball_0 --run {broken_run}",
    "study cell {missing}",
    "study cell {empty}",
    "study cv {missing}.yaml --output {out}",
    "study cv {empty} --output {out}",
    "study cv {balls} --folds nonsense --output {out}",
    "study run {missing}.yaml --output {out}",
    "study run {text} --output {out}",
    "study status {missing}",
    "study status {empty}",
    "study sweep {missing}.yaml {text} --output {out}",
    "study sweep hippocampus_unet3d {missing}.yaml --output {out}",
    "study sweep hippocampus_unet3d {text} --output {out}",
    "reproduce {missing}",
    "annotate",
    "annotate {missing} --no-open",
    "annotate {empty} --port 0 --no-open",
    "annotate {balls} --port 0 --no-open --model {text}",
    "serve",
    "serve --data {missing}",
    "serve --data {empty} --port 0",
    "serve --data {balls} --port 0 --model {missing}",
    "serve --data {balls} --port 0 --model {text}",
    "serve --data {balls} --port 0 --host 0.0.0.0",
    "serve --data {balls} --port 0 --token short",
    "serve --data {balls} --port 0 --certificate {missing}",
    "serve --data {balls} --port 0 --certificate {text}",
    "serve --data {balls} --host 256.1.1.1 --token 12345678",
    "reproduce {empty}",
    "study ablate {missing}.yaml train.ema=[0,0.98] --output {out}",
    "study ablate {text} train.ema=[0,0.98] --output {out}",
    "study ablate hippocampus_unet3d frobnicate=[0,1] --output {out}",
    "study ablate hippocampus_unet3d train.ema=[0,0.98] --seeds nonsense --output {out}",
    "train",
    "train {missing}",
    "train {missing}.yaml",
    "train {text}",
    "train {empty}",
    "train {binary}.yaml",
    "train {listing}.yaml",
    "train {balls} frobnicate --run {out}",
    "train {balls} train.epochs=abc --run {out}",
    "train {balls} train.epochs=1 --run {blocked}",
    "infer --model {missing} {scan} --output {out}",
    "infer --model {text} {scan} --output {out}",
    "infer --model {empty} {scan} --output {out}",
    "infer --model {broken_model} {scan} --output {out}",
    "infer --model {scan} {scan} --output {out}",
    "infer --model {model} {missing} --output {out}",
    "infer --model {model} {empty} --output {out}",
    "infer --model {model} {binary}.csv --output {out}",
    "infer --model {model} --cases test --output {out}",
    "infer --model {model} --cases nothing --output {out}",
    "infer --model {model} {scan} --output {blocked}",
    "infer --model {model} {scan} --output {text}",
    f"{INFER} --set frobnicate",
    f"{INFER} --set overlap=abc",
    f"{INFER} --set frobnicate=1",
    f"{INFER} --foreground {{missing}}",
    f"{INFER} --foreground {{text}}",
    f"{INFER} --foreground {{empty}}",
    f"{INFER} --device nonsense",
    f"{INFER} --weights {{missing}}",
    f"{INFER} --workers 0",
    "tune {missing}",
    "tune {text}",
    "tune {empty}",
    "tune {model}",
    "tune {balls}",
    "tune {broken_model}",
    "tune {broken_run}",
    "tune {run} --device nonsense",
    "tune {lost_run}",
    "tune {odd_run}",
    f"evaluate {{missing}} {{labels}} {OUT}",
    "evaluate {text} {missing} --panoptic --output {out}",
    "evaluate {predicted} {labels} --panoptic",
    "panoptic",
    "panoptic {missing} {labels} --output {out}",
    "panoptic {labels} {labels} --output {out}",
    f"evaluate {{labels}} {{missing}} {OUT}",
    f"evaluate {{empty}} {{labels}} {OUT}",
    f"evaluate {{labels}} {{empty}} {OUT}",
    f"evaluate {{text}} {{label}} {OUT}",
    f"evaluate {{label}} {{text}} {OUT}",
    f"evaluate {{broken_scan}} {{label}} {OUT}",
    f"evaluate {{label}} {{broken_scan}} {OUT}",
    f"evaluate {{labels}} {{label}} {OUT}",
    f"evaluate {{scan}} {{label}} {OUT}",
    "evaluate {labels} {labels}",
    "evaluate {labels} {labels} --objects",
    "evaluate {predicted} {labels} --extra perhaps",
    "evaluate {predicted} {labels} --output {text}",
    "evaluate {predicted} {labels} --output {blocked}",
    "evaluate --interactive {missing} {balls} --output {out}",
    "evaluate --interactive {text} {balls} --output {out}",
    "evaluate --interactive random-walker {missing} --output {out}",
    "evaluate --interactive random-walker {empty} --output {out}",
    "evaluate --interactive random-walker {balls} --user nobody --output {out}",
    "evaluate --interactive random-walker {balls} --baseline nothing --output {out}",
    "evaluate --interactive random-walker {balls} --interactions 3,1 --output {out}",
    "evaluate --interactive random-walker {balls} --interactions some --output {out}",
    "evaluate --interactive random-walker {balls} --objects --components --output {out}",
    "evaluate --interactive random-walker {balls} --output {blocked}",
    "evaluate {predicted} {labels} --user clicks --output {out}",
    "evaluate --interactive random-walker {balls} --metrics boundary --output {out}",
    "evaluate {predicted} {labels} --objects --tolerance 2 --output {out}",
    "evaluate {predicted} {labels} --objects --user clicks --output {out}",
    "evaluate {predicted} {labels} --objects --panoptic --output {out}",
    "evaluate {predicted} {labels} --objects --images {missing} --output {out}",
    "evaluate {predicted} {labels} --objects --output {blocked}",
    "evaluate {predicted} {labels} --panoptic --ignore 255",
    "evaluate --interactive random-walker {balls} --cases test --output {out}",
    "evaluate --interactive random-walker {balls} --user human --output {out}",
    "evaluate --interactive random-walker {balls} --scribbles {missing} --output {out}",
    "evaluate --interactive random-walker {balls} --scribbles {empty} --output {out}",
    f"{EVALUATE} --labels frobnicate",
    f"{EVALUATE} --labels {{binary}}.json",
    f"{EVALUATE} --labels {{listing}}.json",
    f"{EVALUATE} --labels {{empty}}",
    f"{EVALUATE} --labels ball=1,core=1",
    f"{EVALUATE} --labels ball=1 --ignore 1",
    f"{EVALUATE} --labels ball=1",
    f"{EVALUATE} --label-suffix _nothing",
    f"{EVALUATE} --tolerance -1",
    f"{EVALUATE} --tolerance nan",
    f"{EVALUATE} --missing perhaps",
    f"{EVALUATE} --others perhaps",
    "data check {missing}",
    "data check {text}",
    "data check {empty}",
    "data check {binary}.yaml",
    "data check {binary}.csv",
    "data check {listing}.json",
    "data check {balls} frobnicate",
    "data check {balls} --labels frobnicate",
    "data check {balls} --map 1",
    "data check {balls} --map 1=x --fix {out}",
    "data check {balls} --fix {balls}",
    "data check {balls} --fix {blocked}",
    "data summary {missing}",
    "data summary {empty}",
    "data summary {balls} --output {text}",
    "data summary {balls} --pictures -3",
    "data check {archives}",
    "data summary {archives}",
    "study run {table}",
    "study sweep {table} {table} --trials 2",
    "compare {predicted} {labels} --margin nan",
    "compare {predicted} {labels} --penalty inf",
    f"{EVALUATE} --lesion-iou nan",
    f"{EVALUATE} --tolerance nan",
    f"{EVALUATE} --tolerance -1",
    f"{EVALUATE} --percentiles nan",
    "evaluate {predicted} {labels} --interactive --seed -1",
    "sam finetune sam_vit_b {balls} --output {out} --lr nan",
    "data summary {balls} --output {blocked}",
    "data convert {missing} {out} --to folders",
    "data convert {empty} {out} --to folders",
    "data convert {balls} {balls} --to folders",
    "data convert {balls} {blocked} --to nnunet",
    "data convert {balls} {text} --to manifest",
    "data convert {balls} {out} --to nothing",
    "export {missing} --to onnx --output {out}.onnx",
    "export {text} --to onnx --output {out}.onnx",
    "export {empty} --to onnx --output {out}.onnx",
    "export {broken_model} --to torch --output {out}.pt2",
    "export {model} --to torch --output {out}.onnx",
    "export {model} --to torch --output {blocked}.pt2",
    "export {model} --to torch --output {folder}.pt2",
    f"{NNUNET} {{missing}}",
    f"{NNUNET} {{text}}",
    f"{NNUNET} {{empty}}",
    f"{NNUNET} {{balls}}",
    f"{NNUNET} {{plans}}",
    f"{NNUNET} {{plans}} --fold 99",
    f"{NNUNET} {{bare_plans}}",
    f"{NNUNET} {{odd_plans}}",
    f"{NNUNET} {{odd_plans}}/plans.json",
    f"{NNUNET} {{plans}} --fold x",
    f"{DICOM} {{missing}} {{empty}}",
    f"{DICOM} {{label}} {{missing}}",
    f"{DICOM} {{label}} {{empty}}",
    f"{DICOM} {{label}} {{scan}}",
    f"{DICOM} {{text}} {{empty}}",
    f"{DICOM} {{empty}} {{empty}}",
    "dicom export --to seg --output {out}.dcm {label} {empty}",
    "models list --size 0",
    "models list --size -5",
    "models list --size abc",
    "models show nothing",
    "models show unet frobnicate",
    "models show unet frobnicate=1",
    "models show unet channels=abc",
    "models show unet --size abc",
    "models show unet --size 0x0",
    "models show unet --size 10",
    "models show unet --size 128x128x128x128",
    "models show unet --channels 0",
    "models show unet --classes 0",
    "models show unet --depth 0",
    "models show unet spatial_dims=3",
    f"{FEATURES} {{missing}}",
    f"{FEATURES} {{text}}",
    f"{FEATURES} {{empty}}",
    f"{FEATURES} {{broken_scan}}",
    f"{FEATURES} {{scan}} --layer nothing",
    f"{FEATURES} {{scan}} --slice 9999",
    f"{FEATURES} {{scan}} --device nonsense",
    "models features {scan} --model {missing} --output {out}",
    "models features {scan} --model {text} --output {out}",
    "models features {scan} --model {model} --output {blocked}",
    "models features {scan} --model {model} --output {text}",
    "weights get nothing",
    "sam finetune",
    "sam finetune sam_vit_x {balls} --output {out}",
    "sam finetune {text} {balls} --output {out}",
    "sam finetune {empty} {balls} --output {out} --cache {out}",
    "sam finetune sam_vit_b {balls} --output {out} --epochs nonsense",
    "weights get fcn_resnet50_voc --url nonsense --cache {out}",
    "weights get fcn_resnet50_voc --url file:///nothing --cache {out}",
    "config show {missing}",
    "config show {text}",
    "config show {empty}",
    "config show {binary}.yaml",
    "config show {listing}.yaml",
    "demo --output {balls}",
    "demo --output {text}",
    "demo --output {blocked}",
]


@pytest.fixture(scope="module")
def places(balls, tmp_path_factory) -> dict[str, Path]:
    """Paths that the commands receive: usable, missing and damaged ones."""
    root = tmp_path_factory.mktemp("errors")
    config = load_config(ball_settings(balls, epochs=1, iterations=1))
    run_folder = fit(config, root / "run").run
    (root / "model.safetensors").write_bytes((run_folder / "model.safetensors").read_bytes())
    (root / "broken.safetensors").write_bytes(b"\x08\x00\x00\x00\x00\x00\x00\x00{}      ")
    (root / "broken_run").mkdir()
    (root / "broken_run" / "model.safetensors").write_bytes((run_folder / "model.safetensors").read_bytes())
    (root / "broken_run" / "cases.json").write_text("{")
    for name, content in {"lost_run": LOST, "odd_run": '[{"part": "val"}]'}.items():
        shutil.copytree(root / "broken_run", root / name)
        (root / name / "cases.json").write_text(content)
    (root / "text.txt").write_text("a thesis")
    for folder in ("empty", "folder.pt2", "plans"):
        (root / folder).mkdir()
    (root / "plans" / "plans.json").write_text("[]")
    (root / "plans" / "dataset.json").write_text("{")
    for name, plans in {"bare_plans": "{}", "odd_plans": '{"configurations": {"3d_fullres": 1}}'}.items():
        folder = root / name / "nnUNetTrainer__nnUNetPlans__3d_fullres"
        (folder / "fold_0").mkdir(parents=True)
        (folder / "plans.json").write_text(plans)
        (folder / "dataset.json").write_text('{"labels": {"background": 0, "ball": 1}, "channel_names": 3}')
        (folder / "fold_0" / "checkpoint_final.pth").write_bytes(b"not weights")
    for suffix in ("yaml", "csv", "json"):
        (root / f"binary.{suffix}").write_bytes(bytes(range(256)))
        (root / f"listing.{suffix}").write_text("[1, 2]")
    (root / "broken.nii.gz").write_bytes(b"not a scan")
    (root / "table.csv").write_text("id,image,label\na,a.nii.gz,b.nii.gz\n")
    (root / "archives").mkdir()
    for i in range(3):
        np.savez(root / "archives" / f"{i}.npz", image=np.zeros((9, 9)), label=np.zeros((9, 9)), scribbles=0)
    shutil.copytree(balls / "labels", root / "predicted")
    scan = write_volume(root / "odd" / "ball_0.nii.gz", np.full((20, 20, 20), 0.5, np.float32))
    return {
        "missing": root / "missing",
        "text": root / "text.txt",
        "table": root / "table.csv",
        "archives": root / "archives",
        "empty": root / "empty",
        "folder": root / "folder",
        "binary": root / "binary",
        "listing": root / "listing",
        "plans": root / "plans",
        "bare_plans": root / "bare_plans" / "nnUNetTrainer__nnUNetPlans__3d_fullres",
        "odd_plans": root / "odd_plans" / "nnUNetTrainer__nnUNetPlans__3d_fullres",
        "lost_run": root / "lost_run",
        "odd_run": root / "odd_run",
        "blocked": root / "text.txt" / "below",
        "broken_model": root / "broken.safetensors",
        "broken_run": root / "broken_run",
        "broken_scan": root / "broken.nii.gz",
        "model": root / "model.safetensors",
        "run": run_folder,
        "balls": balls,
        "labels": balls / "labels",
        "predicted": root / "predicted",
        "label": balls / "labels" / "ball_0.nii.gz",
        "scan": scan,
    }


def listing(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("command", CASES)
def test_unusable_arguments_give_one_message(command, places, balls, tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = listing(balls) | listing(places["text"].parent)
    code = run(command.format(**places, out=tmp_path / "out").split())
    printed = capfd.readouterr()
    assert code in (2, 3), printed.err
    assert len(re.findall(r"^error: |^Error: ", printed.err, flags=re.M | re.I)) == 1, printed.err
    assert "Traceback" not in printed.err + printed.out
    assert not re.search(r"[a-z]Error: ", printed.err), printed.err  # no name of an exception
    assert len(printed.err) < 4000
    assert listing(balls) | listing(places["text"].parent) == before
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (
            "data check {archives}",
            ["found 3 .npz archives", "image, label, scribbles", "0.npz#image,0.npz#label"],
        ),
        ("data summary {archives}", ["found 3 .npz archives", "CSV file with the columns image,label"]),
        ("study run {table}", ["expected a mapping of settings", "'id,image,label'", "Give a YAML file"]),
        ("study sweep {table} {table} --trials 2", ["expected a mapping of settings", "Give a YAML file"]),
    ],
)
def test_folders_and_files_of_another_kind_are_described(command, said, places, capfd):
    assert run(command.format(**places).split()) in (2, 3)
    error = capfd.readouterr().err
    assert [text for text in said if text not in error] == []
    assert len(error.splitlines()) == 2


UNWRITABLE = [
    "plan {balls} -o {out}/c.yaml",
    "train {balls} --run {out}",
    "infer --model {model} {scan} --output {out}",
    "evaluate {predicted} {labels} --output {out}/metrics",
    "evaluate {predicted} {labels} --objects --output {out}",
    "compare {predicted} {labels} --reference {labels} --output {out}",
    "view {scan} --output {out}/page.html",
    "panoptic {labels} {labels} --output {out}",
    "data summary {balls} --output {out}",
    "data convert {balls} {out} --to folders",
    "data check {balls} --fix {out}",
    "export {model} --to torch --output {out}/m.pt2",
    "models features {scan} --model {model} --output {out}",
    "study cv {balls} --output {out}",
    "study ablate hippocampus_unet3d train.ema=[0,0.98] --data {balls} --output {out}",
    "study run {study} --output {out}",
    "reproduce {run} --output {out}",
    "demo --output {out}",
]


@pytest.mark.parametrize("command", UNWRITABLE)
def test_an_output_that_cannot_be_written_is_refused_before_any_work(
    command, places, tmp_path, capfd, monkeypatch
):
    out, study, touch = tmp_path / "ro", tmp_path / "study.yaml", Path.touch
    out.mkdir()
    study.write_text(f"configs: {{plain: hippocampus_unet3d}}\ndatasets: {{a: {places['balls']}}}\n")

    def refuse(path, *arguments, **options):
        if out in path.parents:
            raise OSError(errno.EROFS, "Read-only file system", str(path))
        touch(path, *arguments, **options)

    monkeypatch.setattr(Path, "touch", refuse)
    monkeypatch.setattr("medseg.planning.plan.plan_config", lambda *_: pytest.fail("planned nevertheless"))
    assert run(command.format(**places, out=out, study=study).split()) == 1
    printed = capfd.readouterr()
    assert re.search(
        r"^error: (\S*ro\S*): cannot be written.* \(Read-only file system\)\n"
        r"hint: Choose a folder that can be written to\.\n$",
        printed.err,
        flags=re.M,
    )
    assert ".tmp" not in printed.err
    assert printed.out == ""
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("command", ["serve --data {data} --port 0", "annotate {data} --port 0 --no-open"])
def test_a_dataset_that_cannot_be_written_to_is_not_served(command, balls, tmp_path, capfd, monkeypatch):
    data = tmp_path / "data"
    shutil.copytree(balls, data)

    def refuse(path, *arguments, **options):
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr(Path, "touch", refuse)
    assert run(command.format(data=data).split()) == 1
    printed = capfd.readouterr()
    wanted = (
        r"^error: \S+: cannot be written, \S+ is not writable \(Read-only file system\)\nhint: Serve a copy"
    )
    assert re.search(wanted, printed.err, flags=re.M), printed.err
    assert printed.out == ""
    assert not (data / ".medseg").exists()


def test_every_command_is_covered():
    def commands(group, path=()):
        for name, command in group.commands.items():
            if hasattr(command, "commands"):
                yield from commands(command, (*path, name))
            elif any(p.name not in ("as_json", "markdown") for p in command.params if p.expose_value):
                yield " ".join((*path, name))

    untried = [name for name in commands(cli) if not any(case.startswith(name) for case in CASES)]
    assert untried == []


def test_an_unknown_configuration_is_refused_without_heavy_imports():
    code = (
        "import sys; from medseg.cli.main import run; code = run(['config', 'show', 'nope']); "
        "sys.exit(code if not {'torch', 'monai'} & sys.modules.keys() else 99)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 2
