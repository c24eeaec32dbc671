import subprocess
import sys

import medseg.metrics


def test_the_public_names_are_sorted_and_there():
    names = medseg.metrics.__all__
    assert names == sorted(names)
    assert all(hasattr(medseg.metrics, name) for name in names)


def test_importing_it_stays_light():
    heavy = ["torch", "monai", "SimpleITK", "nibabel", "pandas", "scipy", "skimage", "cc3d"]
    code = f"import sys, medseg.metrics; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
