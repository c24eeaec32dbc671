import json
import re
from pathlib import Path
from typing import get_args, get_origin

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel
from ruamel.yaml import YAML

from medseg.config.fields import walk_fields
from medseg.config.loading import MergeRules
from medseg.config.renamed import MOVED_KEYS
from medseg.config.schema import RunConfig, load_config, to_yaml, with_absolute_paths
from medseg.data.augmentation import augmentation_preset
from medseg.data.curation.splits import FoldSplit
from medseg.data.labels.schema import LabelSchema
from medseg.data.preprocessing.normalization import CT
from medseg.errors import ConfigError
from medseg.optim import AdamWConfig, SGDConfig
from medseg.planning.plan import plan_dataset
from medseg.study import AblationConfig, CrossValidationConfig
from medseg.study.study_file import load_study

PRINTABLE = st.characters(codec="utf-8", exclude_categories=("C", "Zl", "Zp"))
NAMED = ["data.labels={background: 0, organ: 1, lesion: 2}"]


def written(tmp_path, text):
    tmp_path.mkdir(exist_ok=True)
    path = tmp_path / "run.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def message(*overrides, source=None):
    with pytest.raises(ConfigError) as caught:
        load_config(source, overrides)
    return str(caught.value)


def test_yaml_then_overrides_in_one_validation(tmp_path):
    # the YAML alone is wrong (a 2D patch in 3D); with the override it is right
    path = written(tmp_path, "sampling: {patch_size: [32, 48]}\ntrain: {epochs: 3, batch_size: 5}\n")
    config = load_config(path, ["spatial_dims=2", "train.epochs=7"])
    assert (config.sampling.patch_size, config.train.epochs, config.train.batch_size) == ((32, 48), 7, 5)


def test_a_mapping_passed_in_is_unchanged():
    source = {"train": {"epochs": 3}}
    assert load_config(source, ["train.epochs=4", "train.ema=0.5"]).train.epochs == 4
    assert source == {"train": {"epochs": 3}}


@pytest.mark.parametrize("dims", [2, 3])
def test_defaults_follow_the_dimension(dims):
    config = load_config({"spatial_dims": dims, "sampling": {"forced_share": 0.5}})
    assert config.sampling.patch_size == ((256, 256) if dims == 2 else (64, 64, 64))
    assert config.augment == augmentation_preset(f"{dims}d")
    assert config == RunConfig.model_validate({"spatial_dims": dims, "sampling": {"forced_share": 0.5}})


def test_a_partial_block_takes_the_name_of_the_default():
    assert load_config({"train": {"optimizer": {"lr": 1e-3}}}).train.optimizer == AdamWConfig(lr=1e-3)
    assert load_config(overrides=["train.optimizer.lr=1e-3"]).train.optimizer == AdamWConfig(lr=1e-3)
    assert load_config(overrides=["data.split.val=0.3"]).data.split.name == "auto"


def test_a_fixed_window_excludes_one_of_the_pictures_size():
    raw = {"spatial_dims": 2, "inference": {"max_roi_size": [512, 512]}}
    assert load_config(raw).roi_size == (256, 256)
    with pytest.raises(ConfigError, match="set one of them to null"):
        load_config(raw, ["inference.roi_size=[128, 128]"])
    changed = load_config(raw, ["inference.roi_size=[128, 128]", "inference.max_roi_size=null"])
    assert changed.roi_size == (128, 128)


@pytest.mark.parametrize("block", [{"lr": 1.0, "betas": [0.5, 0.5]}, {"name": "adamw", "betas": [0.5, 0.5]}])
def test_overriding_a_name_replaces_the_block(block):
    config = load_config({"train": {"optimizer": block}}, ["train.optimizer.name=sgd"])
    assert config.train.optimizer == SGDConfig()


def test_overriding_with_the_same_name_keeps_the_block():
    for block in ({"lr": 0.5}, {"name": "adamw", "lr": 0.5}):
        config = load_config({"train": {"optimizer": block}}, ["train.optimizer.name=adamw"])
        assert config.train.optimizer == AdamWConfig(lr=0.5)


def test_the_order_of_overrides_does_not_matter_between_a_block_and_its_settings():
    overrides = ["data.split.fold=2", "data.split.name=folds", "train.optimizer={name: sgd, lr: 1}"]
    for given_order in (overrides, overrides[::-1]):
        config = load_config(overrides=[*given_order, "train.optimizer.lr=2"])
        assert config.data.split == FoldSplit(fold=2)
        assert config.train.optimizer == SGDConfig(lr=2)
    assert load_config(overrides=["seed=1", "seed=2"]).seed == 2


def test_an_empty_block_is_the_default(tmp_path):
    assert load_config(written(tmp_path, "train:\nsampling:\ndata:\n")) == RunConfig()
    assert load_config(written(tmp_path, "# nothing\n")) == RunConfig()
    assert load_config() == RunConfig()


@pytest.mark.parametrize(
    ("override", "new"),
    [
        ("train.optimiser.lr=1", "train.optimizer"),
        ("preprocess.normalise={name: zscore}", "preprocess.normalize"),
        ("data.unlabelled=leave_out", "data.unlabeled"),
    ],
)
def test_former_names_are_refused_with_the_new_one(override, new):
    assert message(override).endswith(f"was renamed; use {new}")


@pytest.mark.parametrize(("old", "new"), MOVED_KEYS.items())
def test_former_places_are_refused_with_the_new_one(old, new):
    assert message(f"{old}=1") == f"the configuration: {old}: was moved; use {new}"


def test_names_of_labels_alone_are_a_short_form(tmp_path):
    full = load_config({"data": {"labels": {"names": {"background": 0, "liver": [1, 2]}}}})
    assert load_config({"data": {"labels": {"background": 0, "liver": [1, 2]}}}) == full
    assert load_config(overrides=["data.labels={background: 0, liver: [1, 2]}"]) == full
    path = written(tmp_path, "data: {labels: {background: 0, liver: [1, 2]}}\n")
    labels = load_config(path, ["data.labels.ignore_value=9", "data.labels.background=false"]).data.labels
    assert (labels.names, labels.ignore_value, labels.background) == (full.data.labels.names, 9, False)
    above = written(tmp_path / "sub", "base: ../run.yaml\ndata: {labels: {others: ignore}}\n")
    assert load_config(above).data.labels.names == full.data.labels.names


def test_names_beside_settings_of_labels_are_refused():
    mixed = "data.labels={background: 0, liver: 1, ignore_value: 255}"
    assert (
        "data.labels: labels are listed under names if other settings are given: move ['background', 'liver']"
        in (message(mixed))
    )
    assert "data.labels.background: expected true or false" in message(
        "data.labels={names: {a: 0, b: 1}, background: 0}"
    )
    assert "data.labels.overlaping: unknown setting; did you mean data.labels.overlapping" in message(
        "data.labels={overlaping: true}"
    )


@pytest.mark.parametrize(
    ("override", "wrong", "near"),
    [
        ("model.chanels=[1, 2]", "model.chanels", "model.channels"),
        ("train.optimizer.weightdecay=1", "train.optimizer.weightdecay", "train.optimizer.weight_decay"),
        ("sampling.patchsize=[1, 2, 3]", "sampling.patchsize", "sampling.patch_size"),
        ("augment.flip.prob=1", "augment.flip.prob", "augment.flip.probability"),
        ("data.split.vall=0.1", "data.split.vall", "data.split.val"),
        ("loss.terms=[{wight: 2, loss: {name: dice}}]", "loss.terms.0.wight", "loss.terms.0.weight"),
        ("loss.terms=[{loss: {name: dice, smoth: 2}}]", "loss.terms.0.loss.smoth", "loss.terms.0.loss.smooth"),
        ("trian={}", "trian", "train"),
    ],
)
def test_unknown_settings_are_refused_with_the_nearest(override, wrong, near):
    text = message(override)
    assert text.startswith(f"the configuration: {wrong}: unknown setting")
    assert text.endswith(f"did you mean {near}?")
    assert "\n" not in text


@pytest.mark.parametrize(
    ("override", "place"),
    [
        ("train.lr=0.1", "train.optimizer.lr"),
        ("lr=0.1", "train.optimizer.lr"),
        ("batch_size=4", "train.batch_size or inference.batch_size"),
        ("model.patch_size=[8, 8, 8]", "sampling.patch_size"),
    ],
)
def test_a_setting_in_the_wrong_block_is_found_in_its_own(override, place):
    assert message(override).endswith(f"did you mean {place}?")


def test_a_mapping_without_spaces_after_its_colons_is_refused_with_the_spaces():
    text = message("data.labels={background:0,anterior:1}")
    assert "write a space after each colon: {background: 0, anterior: 1}" in text
    assert "{a: 0, b: 1, c: 2}" in message("data.labels={a: 0, b:1, c: 2}")


def test_settings_with_absolute_paths_mean_the_same_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = with_absolute_paths(load_config({"data": {"path": "cases", "label_dir": "labels"}}))
    assert config.data.path == tmp_path / "cases"
    assert config.data.label_dir == Path("labels")  # relative to the dataset


def test_blanks_around_the_key_of_an_override_do_not_count(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = load_config(overrides=["train.epochs = 2", " train.optimizer.name =sgd", "data.path = cases"])
    assert config.train.epochs == 2
    assert isinstance(config.train.optimizer, SGDConfig)
    assert config.data.path == tmp_path / "cases"


def test_a_setting_of_another_union_member_names_that_member():
    assert "data.split.fold: unknown setting of auto; it is one of folds: set name" in message(
        "data.split.fold=1"
    )


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("train.epochs=many", "train.epochs: expected an integer (got 'many')"),
        ("train.epochs=1.5", "train.epochs: expected an integer (got 1.5)"),
        ("train.epochs=0", "train.epochs: expected at least 1 (got 0)"),
        ("train.ema=1", "train.ema: expected less than 1 (got 1)"),
        ("train.gradient_clip=none", "train.gradient_clip: expected a number (got 'none')"),
        ("train.optimizer.lr=0", "train.optimizer.lr: expected more than 0 (got 0)"),
        ("train.optimizer.lr=.inf", "train.optimizer.lr: expected a finite number (got inf)"),
        ("train.optimizer.betas=[1, 0.9]", "train.optimizer.betas.0: expected less than 1 (got 1)"),
        ("train=5", "train: expected a block of settings (got 5)"),
        ("sampling=5", "sampling: expected a block of settings (got 5)"),
        ("loss=dice", "loss: expected a block of settings, such as {name: …} (got 'dice')"),
        ("train.optimizer.name=sdg", "train.optimizer.name: 'sdg' is not known; did you mean sgd?"),
        ("model.kernel=even", "model.kernel: expected an integer or a list, such as [1, 2] (got 'even')"),
        ("model.kernel=[3, x, 3, 3, 3]", "model.kernel.1: expected an integer or a list"),
        (
            "sampling.balance=foo",
            "sampling.balance: expected 'uniform', 'inverse', 'sqrt', 'effective' or 'adaptive' or",
        ),
        ("sampling.balance={a: x}", "sampling.balance.a: expected a number (got 'x')"),
        ("sampling.patch_size=5", "sampling.patch_size: expected a list, such as [1, 2] (got 5)"),
        ("loss.terms=[{loss: {name: dic}}]", "loss.terms.0.loss.name: 'dic' is not known; did you mean dice?"),
        ("loss.terms=[{loss: {}}]", "loss.terms.0.loss: name is missing"),
        ("data.labels={a: 0}", "data.labels.names: expected 2 or more entries, got 1"),
        ("data.labels={a: 0, b: x}", "data.labels.names.b.0: expected an integer (got 'x')"),
        ("data.labels={a: 0, b: 0}", "data.labels: the values [0] are assigned to several labels"),
        ("data.labels={0: 0, b: 1}", "data.labels.names.0: expected text; put it in quotes (got 0)"),
        ("data.channels=2", "data.channels: expected 1 or 3 (got 2)"),
        ("augment=4d", "augment: '4d' is not a preset; expected robust, 2d, 3d, 2d_robust, 3d_robust or none"),
        ("augment.affine.scale=[2, 1]", "augment.affine: scale: 2.0 is above 1.0"),
        ("augment.affine.scale=[0, 1]", "augment.affine.scale.0: expected more than 0 (got 0)"),
        ("augment.gamma.low=0", "augment: gamma.low is 0.0; expected a value above 0"),
        ("augment.noise={std: -1}", "augment.noise.std: expected at least 0 (got -1)"),
        ("train.monitor=loss", "train.monitor: expected dice, iou, dice:LABEL or iou:LABEL, got 'loss'"),
        (
            "preprocess.normalize={name: ct, low: 3, high: 2}",
            "preprocess.normalize: low (3.0) must not be",
        ),
        ("spatial_dims=4", "spatial_dims: expected 2 or 3 (got 4)"),
    ],
)
def test_a_wrong_value_gives_one_clear_line(override, expected):
    text = message(override)
    assert text.startswith(f"the configuration: {expected}")
    assert "\n" not in text


def test_several_problems_are_listed_one_per_line(tmp_path):
    path = written(tmp_path, "train: {epochs: x, epoch: 1}\nmodel: {channels: 5}\n")
    first, *lines = message(source=path).splitlines()
    assert first == f"{path}: 3 settings are wrong:"
    assert [line.split(":")[0].strip() for line in lines] == ["model.channels", "train.epochs", "train.epoch"]


@pytest.mark.parametrize("override", ["=3", " = 3", "epochs", "a..b=3", ".a=3"])
def test_an_override_without_key_and_value_is_refused(override):
    assert "expected key=value" in message(override)


@pytest.mark.parametrize(
    ("source", "overrides", "expected"),
    [
        (
            None,
            "train.epochs=5",
            "overrides is the text 'train.epochs=5', expected a list of texts. Write ['train",
        ),
        (
            None,
            {"train.epochs": 5},
            "overrides is {'train.epochs': 5}, expected a list of texts. For example [",
        ),
        (None, ["train.epochs=5", 3], "overrides is ['train.epochs=5', 3], expected a list of texts"),
        (3, (), "source is 3, expected a YAML file, nested mappings or None"),
        (RunConfig(), (), "source is a RunConfig, expected a YAML file"),
    ],
)
def test_arguments_of_other_types_are_refused(source, overrides, expected):
    with pytest.raises(ConfigError, match=f"^{re.escape(expected)}"):
        load_config(source, overrides)


def test_overrides_of_studies_and_plans_are_several_texts(tmp_path):
    (tmp_path / "study.yaml").write_text("configs: {plain: balls.yaml}", encoding="utf-8")
    for refused in (
        lambda text: AblationConfig({}, {"train.ema": (0, 0.9)}, text).cells(),
        lambda text: CrossValidationConfig({}, text),
        lambda text: load_study(tmp_path / "study.yaml", text),
        lambda text: plan_dataset(tmp_path, text),
    ):
        with pytest.raises(ConfigError, match="overrides is the text 'seeds=3'"):
            refused("seeds=3")


def test_the_settings_of_a_dumped_configuration_can_be_changed():
    config = load_config({"spatial_dims": 2, "train": {"epochs": 3}})
    assert load_config(config.model_dump(mode="json"), ["train.epochs=5"]).train.epochs == 5


def test_an_override_below_a_value_is_refused():
    assert "terms is [1], not a block of settings" in message(
        "loss.terms.0.weight=2", source={"loss": {"terms": [1]}}
    )
    assert "not valid YAML" in message("train.epochs=[")


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        ("none", augmentation_preset("none")),
        ("2d", augmentation_preset("2d")),
        ("3d", augmentation_preset("3d")),
        (None, augmentation_preset("3d")),
    ],
)
def test_augment_takes_a_preset_by_name(block, expected):
    assert load_config({"augment": block}).augment == expected
    if block:
        assert load_config(overrides=[f"augment={block}"]).augment == expected
        assert load_config({"augment": {"preset": block}}).augment == expected


@pytest.mark.parametrize("source", [None, {"augment": "2d"}, {"augment": {"preset": "2d"}}])
def test_augment_settings_change_the_preset_alone(source):
    name = "2d" if source else "3d"
    augment = load_config(source, ["augment.flip.probability=0.25"]).augment
    assert augment.flip.probability == 0.25
    assert augment.flip.axes == augmentation_preset(name).flip.axes
    assert augment.model_copy(update={"flip": augmentation_preset(name).flip}) == augmentation_preset(name)


def test_paths_in_yaml_are_relative_to_it_and_overrides_to_the_working_folder(tmp_path, monkeypatch):
    (tmp_path / "configs").mkdir()
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    path = tmp_path / "configs" / "run.yaml"
    path.write_text("data: {path: ../cases, cache: /absolute}\n")
    config = load_config(path)
    assert config.data.path is not None
    assert config.data.path.resolve() == tmp_path / "cases"
    assert config.data.cache == Path("/absolute")
    config = load_config(Path("../configs/run.yaml"), ["data.path=here", "data.cache=null"])
    assert config.data.path == tmp_path / "work" / "here"
    assert config.data.cache is None


@pytest.mark.parametrize("name", ["1e-3", "2024-01-01", "[odd", "true", "a: b"])
def test_a_path_override_is_text_whatever_yaml_makes_of_it(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_config(overrides=[f"data.path={name}"]).data.path == tmp_path / name


def path_fields(annotation, prefix=""):
    """Yield the dotted names of all fields that hold a path, in every member of every union."""
    if annotation is Path:
        yield prefix
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        for name, field in annotation.model_fields.items():
            yield from path_fields(field.annotation, f"{prefix}.{name}".lstrip("."))
    else:
        for argument in get_args(annotation):
            yield from path_fields(argument, prefix)


def test_every_path_is_resolved_except_those_within_the_dataset():
    within_the_dataset = {"data.image_dir", "data.label_dir"}
    rules = MergeRules.of(RunConfig, RunConfig())
    assert rules.paths == set(path_fields(RunConfig)) - within_the_dataset
    assert {"data.path", "data.cache", "data.split.file", "weights.file"} <= rules.paths


def test_settings_that_a_resumed_run_may_change():
    safe = {field.dotted for field in walk_fields(RunConfig) if field.traits.resume_safe}
    services = {name for name in safe if name.startswith("train.tracking.")}
    assert {"train.tracking.mlflow.database", "train.tracking.wandb.mode"} <= services
    assert safe - services == {
        "data.path", "data.cache", "data.workers", "train.device", "train.threads", "train.save_every_steps",
        "train.save_every_minutes", "train.gradient_checkpointing", "train.distributed.silence",
        "train.distributed.strategy", "train.distributed.timeout",
    }  # fmt: skip


def table_fields(annotation, prefix=""):
    """Yield the dotted names of all fields that map free names, in every member of every union."""
    if get_origin(annotation) is dict:
        yield prefix
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        for name, field in annotation.model_fields.items():
            yield from table_fields(field.annotation, f"{prefix}.{name}".lstrip("."))
    else:
        for argument in get_args(annotation):
            yield from table_fields(argument, prefix)


def test_every_table_of_names_is_replaced_as_a_whole():
    rules = MergeRules.of(RunConfig, RunConfig())
    assert rules.tables == set(table_fields(RunConfig))
    assert {"sampling.balance", "weights.rates", "inference.postprocess.smallest"} <= rules.tables


def test_a_file_overrides_its_base(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "base.yaml").write_text(
        "spatial_dims: 2\n"
        "data: {path: cases, labels: {names: {no: 0, yes: 1}, ignore_value: 9}}\n"
        "model: {channels: [4, 8, 16], residual: true}\n"
        "train: {epochs: 3, optimizer: {name: adamw, lr: 0.1}, schedule: {name: cosine}}\n"
    )
    (tmp_path / "sub" / "one.yaml").write_text(
        "base: ../base.yaml\ndata: {labels: {none: 0, a: 1, b: 2}}\nmodel: {channels: [4, 8]}\n"
        "train: {optimizer: {lr: 0.2}}\n"
    )
    (tmp_path / "two.yaml").write_text(
        "base: sub/one.yaml\nmodel: {name: fcn}\ntrain: {schedule: {name: polynomial}}\n"
    )
    one = load_config(tmp_path / "sub" / "one.yaml", ["train.epochs=5"])
    assert one.data.path.resolve() == tmp_path / "cases"
    assert one.data.labels.names == {"none": (0,), "a": (1,), "b": (2,)}  # a table of names is one thing
    assert one.data.labels.ignore_value == 9
    assert (one.model.channels, one.model.residual, one.train.epochs) == ((4, 8), True, 5)
    assert (one.train.optimizer.name, one.train.optimizer.lr) == ("adamw", 0.2)
    two = load_config(tmp_path / "two.yaml")
    assert (two.model.name, two.train.schedule.name, two.train.epochs) == ("fcn", "polynomial", 3)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("base: run.yaml", "circular base reference"),
        ("base: gone.yaml", r"gone\.yaml: no such configuration file"),
        ("base: [a, b]", "base is .*, expected the path of a configuration file"),
    ],
)
def test_a_base_that_cannot_be_used_is_refused(text, expected, tmp_path):
    (tmp_path / "run.yaml").write_text(text)
    with pytest.raises(ConfigError, match=expected):
        load_config(tmp_path / "run.yaml")


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize(
    "more",
    [
        {},
        {
            "data": {
                "labels": {
                    "names": {"no": 0, "1e3": [1, 3], "null": 2, "2024-01-01": -4},
                    "ignore_value": 255,
                }
            },
            "preprocess": {"normalize": {"name": "ct", "std": 1e-8}},
            "train": {"optimizer": {"lr": 1e-5}, "gradient_clip": None, "early_stop": 3},
            "sampling": {"balance": {"1e3": 1, "null": 1e-9}},
            "augment": {"flip": {"probability": 1, "axes": [0]}},
            "loss": {"name": "focal"},
        },
        {
            "data": {
                "labels": {
                    "names": {"a": 0, "b": 1, "c": 2},
                    "regions": {"all": ["b", "c"], "part": ["c"]},
                }
            },
            "activation": "sigmoid",
            "augment": "none",
        },
    ],
)
def test_writing_and_reading_gives_the_same_configuration(dims, more, tmp_path):
    config = load_config({"spatial_dims": dims, **more}, [f"data.path={tmp_path}"])
    assert load_config(written(tmp_path, to_yaml(config))) == config


@given(st.lists(st.text(PRINTABLE, min_size=1, max_size=6), min_size=2, max_size=4, unique=True))
@settings(max_examples=25, deadline=None)
def test_label_names_of_any_text_survive_yaml(names):
    config = load_config({"data": {"labels": {name: i for i, name in enumerate(names)}}})
    assert load_config(YAML(typ="safe", pure=True).load(to_yaml(config))) == config


def test_yaml_traps(tmp_path):
    path = written(tmp_path, "train: {optimizer: {lr: 1e-3}}\ndata: {labels: {no: 0, yes: 1, off: 0o12}}\n")
    config = load_config(path)
    assert config.train.optimizer.lr == 0.001
    assert config.data.labels.names == {"no": (0,), "yes": (1,), "off": (10,)}
    assert load_config(overrides=["train.amp=off"]).train.amp == "off"
    assert "train.amp: expected 'auto', 'bf16', 'fp16' or 'off' (got 'no')" in message("train.amp=no")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("seed: 1\nseed: 2\n", 'duplicate key "seed"'),
        ("seed: [1\n", "not valid YAML"),
        ("- a\n", "got list. Give a YAML file"),
        (
            "just text\n",
            "lines such as KEY: VALUE in YAML, got text ('just text' …)",
        ),
        ("seed: !!python/object/apply:os.getcwd []\n", "not valid YAML"),
    ],
)
def test_a_file_that_is_not_a_configuration_raises(text, expected, tmp_path):
    path = written(tmp_path, text)
    assert message(source=path).startswith(f"{path}: ")
    assert expected in message(source=path)


def test_a_missing_or_binary_file_is_refused(tmp_path):
    assert "no such configuration file" in message(source=tmp_path / "none.yaml")
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    assert "not valid YAML" in message(source=tmp_path / "bytes.yaml")


@pytest.mark.parametrize(
    "override", ["sampling.patch_size=[8, 8]", "inference.roi_size=[8, 8]", "preprocess.spacing=[1, 1]"]
)
def test_lengths_must_suit_the_dimension(override):
    assert "has 2 numbers, expected 3 (spatial_dims is 3)" in message(override)


def test_flips_must_be_along_axes_of_the_patch():
    assert "augment.flip.axes: a 2D patch has no axes [2]" in message(
        "spatial_dims=2", "augment.flip.axes=[1, 2]"
    )


def test_regions_need_a_sigmoid():
    region = "data.labels.regions={lesion: [lesion]}"
    assert "need activation=sigmoid" in message(*NAMED, region, "activation=softmax")
    assert "region 'r' names ['x']" in message(*NAMED, "data.labels.regions={r: [x]}")
    for activation in ("sigmoid", "null"):
        labels = load_config(
            overrides=[*NAMED, region, f"activation={activation}"]
        ).data.labels.declared_schema()
        assert labels is not None
        assert labels.activation == "sigmoid"


def test_declared_labels():
    assert load_config().data.labels.declared_schema() is None
    collapsed = load_config(overrides=["data.labels.instances=foreground"]).data.labels.declared_schema()
    assert collapsed == LabelSchema(names={"background": (0,), "foreground": (1,)}, collapse_instances=True)
    assert "collapsing instances leaves two labels" in message(*NAMED, "data.labels.instances=foreground")


@pytest.mark.parametrize("spacing", ["[0, 1, 1]", "[1, -1, 1]", "[1, 1, 5000]", "[1, 1, 1e-9]"])
def test_a_spacing_that_no_scan_has_is_refused(spacing):
    assert "preprocess.spacing" in message(f"preprocess.spacing={spacing}")
    assert load_config(overrides=["preprocess.spacing=[5e-5, 5e-5, 1]"]).preprocess.spacing == (5e-5, 5e-5, 1)


def test_a_written_configuration_states_no_more_than_the_original():
    written = load_config(YAML(typ="safe").load(to_yaml(load_config(overrides=["data.labels.ignore_value=9"]))))
    assert written.data.labels.schema_fields() == {"ignore_value": 9}


def test_the_window_is_the_patch_by_default():
    assert load_config().roi_size == (64, 64, 64)
    assert load_config(overrides=["inference.roi_size=[8, 8, 8]"]).roi_size == (8, 8, 8)


def test_python_and_yaml_give_the_same_configuration():
    split = FoldSplit(folds=3)
    config = load_config(
        {"data": {"split": split}, "preprocess": {"normalize": CT(low=0)}}, ["data.split.fold=1"]
    )
    assert config.data.split == FoldSplit(folds=3, fold=1)
    assert config.preprocess.normalize == CT(low=0)


def test_a_json_schema_for_editors():
    schema = json.loads(json.dumps(RunConfig.model_json_schema()))
    assert {"data", "model", "loss", "train"} <= set(schema["properties"])


def test_the_configurations_of_the_project_are_valid():
    configs = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))
    assert configs
    for path in configs:
        load_config(path)


@pytest.mark.parametrize("decoder", ["flows", "rays"])
def test_slices_do_not_show_objects_of_volumes(decoder):
    sliced = {"spatial_dims": 2, "data": {"instances": "keep"}, "preprocess": {"slices": {}}}
    with pytest.raises(ConfigError, match=f"task.decoder={decoder}: .* set spatial_dims=3"):
        load_config(sliced, [f"task.decoder={decoder}"])


@pytest.mark.parametrize(
    ("override", "expected"),
    [("inference.flips=[0]", "inference.flips: not possible with detectors"),
     ("inference.postprocess.fill=[object]", "not possible with inference.postprocess")],
)  # fmt: skip
def test_settings_without_effect_on_detectors(override, expected):
    with pytest.raises(ConfigError, match=expected):
        load_config(
            {"spatial_dims": 2, "data": {"instances": "keep"}, "model": {"name": "maskrcnn"}}, [override]
        )
