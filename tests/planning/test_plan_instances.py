"""Plans of networks that tell objects apart."""

from medseg.planning.draft import Draft
from medseg.planning.fingerprint import ClassFingerprint, Fingerprint
from medseg.planning.instances import choose_instances
from medseg.planning.topology import build_topology


def nuclei(radius):
    one = ClassFingerprint(name="nucleus", voxel_share=0.1, case_share=1.0, radius=radius)
    return Fingerprint(
        kind="picture", modality="color", cases=20, channels=3, spacings=((1.0, 1.0),), shapes=((64, 64),),
        intensities=(0.0, 1.0, 2.0), nonzero_share=1.0, classes=(one,),
    )  # fmt: skip


def planned(radius, *, half=True, on_gpu=False):
    draft = Draft()
    draft.set("augment", {"preset": "2d_robust"}, "preset 2d_robust")
    topology = build_topology((64, 64), (1.0, 1.0))
    choose_instances(nuclei(radius), topology.halved() if half else topology, draft, on_gpu=on_gpu)
    return draft.settings


def test_on_a_cpu_objects_are_separated_by_the_maps_that_are_made_fastest():
    assert planned(6.5)["task"] == {"decoder": "distance"}
    assert "task" not in planned(6.5, on_gpu=True)


def test_a_network_at_half_the_resolution_learns_the_pixels_between_its_own():
    assert planned(6.5)["model"] == {"head_up": "transposed"}
    assert "model" not in planned(6.5, half=False)


def test_pictures_that_may_be_turned_are_also_mirrored_when_objects_are_predicted():
    assert planned(6.5)["inference"] == {"flips": [0, 1]}


def test_reduced_objects_keep_a_diameter_of_8_pixels():
    assert planned(5.0)["augment"]["affine"] == {"scale": [0.8, 2.0]}  # 10 px
    assert planned(3.0)["augment"]["affine"] == {"scale": [1.0, 2.0]}
    assert planned(40.0)["augment"]["affine"] == {"scale": [0.5, 2.0]}
