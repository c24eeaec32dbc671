"""Key maps of other libraries."""

import pytest
import torch

from medseg.errors import ModelFileError
from medseg.models.pretrained.key_mapping import KEY_TABLES, KeyTable

ONE = torch.ones(2, 4, 1, 1)


def test_the_longest_prefix_is_taken_and_what_happened_is_reported():
    table = KeyTable(
        "a test", {"": "trunk.", "head.": "score."}, dropped=("fc.",), reshaped={"score.w": torch.flatten}
    )
    renamed = table.rename({"a.w": ONE, "head.w": ONE, "fc.w": ONE})
    assert list(renamed.state) == ["trunk.a.w", "score.w"]
    assert renamed.state["score.w"].shape == (8,)
    assert renamed.dropped == ("fc.w",)
    assert renamed.reshaped == ("score.w",)


def test_an_unknown_key_is_named():
    with pytest.raises(ModelFileError, match=r"'stem\.weight', which a VGG of torchvision does not have"):
        KEY_TABLES["torchvision_vgg"].rename({"stem.weight": ONE})


def test_caffes_names_by_hand():
    names = {
        "base.layer1.conv1.bn.weight": "backbone.bn1.weight",
        "base.layer4.block23.conv3x3.conv.weight": "backbone.layer3.22.conv2.weight",
        "base.layer2.block1.shortcut.bn.bias": "backbone.layer1.0.downsample.1.bias",
        "base.aspp.c3.bias": "aspp.c3.bias",
    }
    assert list(KEY_TABLES["deeplabv2_caffe"].rename(dict.fromkeys(names, ONE)).state) == list(names.values())


def test_vggs_names_by_hand():
    names = {
        "conv1_1.weight": "backbone.features.0.weight",
        "conv2_1.weight": "backbone.features.5.weight",
        "conv5_3.bias": "backbone.features.28.bias",
        "upscore_pool4.weight": "upscore.1.weight",
    }
    assert list(KEY_TABLES["fcn_vgg"].rename(dict.fromkeys(names, ONE)).state) == list(names.values())


def test_smp_concatenates_the_other_way_round():
    weight = torch.arange(4.0).view(1, 4, 1, 1)
    renamed = KEY_TABLES["smp_pspnet"].rename({"decoder.conv.0.weight": weight})
    assert renamed.state["classifier.0.weight"].flatten().tolist() == [2, 3, 0, 1]
