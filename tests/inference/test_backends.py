"""Backends: chosen by rule, checked against torch on the first window, logged; no data leaves the machine."""

import json
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import write_volume
from test_ensemble import model
from torch import nn

from medseg.cli.main import cli
from medseg.errors import ConfigError, ConversionError
from medseg.inference.backends import BACKENDS, BackendSetup, make_backend
from medseg.inference.backends import openvino as ov
from medseg.inference.backends.base import BackendInfo, difference, one_line
from medseg.inference.batch.batch_inference import infer_cases
from medseg.inference.batch.input_discovery import find_inputs
from medseg.inference.model.predictor import Predictor

CPU = torch.device("cpu")
pytestmark = pytest.mark.openvino
needs_openvino = pytest.mark.skipif(find_spec("openvino") is None, reason="OpenVINO is not installed")
needs_onnx = pytest.mark.skipif(
    find_spec("onnxscript") is None or find_spec("onnxruntime") is None, reason="ONNX is not installed"
)


class Tiny(nn.Module):
    """One convolution."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Conv2d(1, 3, 3, padding=1)

    def forward(self, image):
        return self.layer(image)


class Undecided(Tiny):
    """Goes one way or another by the voxels: not one graph."""

    def forward(self, image):
        return self.layer(image) if image.mean() > 0 else self.layer(-image)


class Several(Tiny):
    """Returns as torchvision's networks do."""

    def forward(self, image):
        return {"out": self.layer(image), "aux": self.layer(image)[..., ::2, ::2]}


def windows(batch=3):
    return torch.randn(batch, 1, 16, 24, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def scan(tmp_path):
    voxels = np.random.default_rng(0).normal(size=(18, 9, 13)).astype(np.float32)
    return write_volume(tmp_path / "scans" / "s.nii.gz", voxels)


def test_the_difference_by_hand():
    # (0, 2, 4): mean 2, squares 4 + 0 + 4, over n - 1 = 2: deviation 2; differences 0, 0, 1
    assert difference(torch.tensor([0.0, 2, 5]), torch.tensor([0.0, 2, 4])) == pytest.approx((0.5, 1 / 6))


def test_backend_info_as_text_and_as_record():
    assert (
        str(BackendInfo("torch", "2", "float32", why="openvino is away"))
        == "torch 2, float32 (openvino is away)"
    )
    assert BackendInfo("openvino", "1", "bfloat16", 0.25).record["difference"] == 0.25
    assert BackendInfo("torch", "2", "float32").record == {
        "backend": "torch",
        "version": "2",
        "precision": "float32",
    }


def test_the_command_line_lists_all_backends():
    (option,) = [p for p in cli.commands["infer"].params if p.name == "backend"]
    assert list(option.type.choices) == list(BACKENDS)


@needs_openvino
@pytest.mark.parametrize("kind", [Tiny, Several])
def test_openvino_logits_agree_with_torch_for_any_batch_size(kind):
    network = kind().eval()
    backend = make_backend("openvino", network, BackendSetup(CPU))
    for batch in (3, 1, 2):
        with torch.inference_mode():
            scores, expected = backend.predict(windows(batch)), network.layer(windows(batch))
        torch.testing.assert_close(scores, expected, atol=1e-5, rtol=1e-5)
    assert len(backend._compiled) == 1
    assert backend.info.precision == "float32"
    assert backend.info.difference < 1e-5


@pytest.mark.slow
@needs_openvino
def test_each_window_size_is_converted_once_and_the_oldest_is_dropped():
    backend = make_backend("openvino", Tiny().eval(), BackendSetup(CPU))
    with torch.inference_mode():
        for width in (8, 9, 10, 11, 12, 12):
            assert backend.predict(torch.zeros(1, 1, 8, width)).shape == (1, 3, 8, width)
    assert [size[-1] for size in backend._compiled] == [9, 10, 11, 12]


@needs_openvino
def test_the_requested_precision_is_used_if_the_processor_supports_it():
    network = Tiny().eval()
    backend = make_backend("openvino", network, BackendSetup(CPU, torch.bfloat16))
    with torch.inference_mode():
        scores = backend.predict(windows())
    assert backend.info.precision in ("bfloat16", "float32")
    assert (scores - network(windows())).abs().max() < 0.05
    compiled = ov.compile_model(ov.convert(network, windows(1)), None)
    assert ov.effective_precision(compiled) == "float32"
    assert compiled.get_property("INFERENCE_NUM_THREADS") == torch.get_num_threads()


@pytest.mark.slow
@needs_openvino
def test_the_same_scan_gives_the_same_label_map_and_probabilities(scan):
    first, second = (Predictor(model(1)).predict(scan, probabilities=True) for _ in range(2))
    assert np.array_equal(first.probabilities, second.probabilities)


@pytest.mark.slow
@needs_openvino
def test_openvino_and_torch_give_the_same_probabilities(scan, caplog):
    caplog.set_level("INFO", logger="medseg")
    found = [
        Predictor([model(1), model(2)], amp="off", backend=name).predict(scan, probabilities=True)
        for name in ("torch", "openvino")
    ]
    np.testing.assert_allclose(found[1].probabilities, found[0].probabilities, atol=1e-4)
    assert [re.match(r"backend: model \d: \w+", line)[0] for line in caplog.messages] == [
        "backend: model 1: torch", "backend: model 2: torch",
        "backend: model 1: openvino", "backend: model 2: openvino",
    ]  # fmt: skip
    assert "float32; in float32 at most" in caplog.messages[-1]


def test_automatic_falls_back_to_torch_and_records_the_reason(monkeypatch):
    network = Undecided().eval()
    backend = make_backend("auto", network, BackendSetup(CPU))
    with torch.inference_mode():
        torch.testing.assert_close(backend.predict(windows()), network(windows()))
    assert backend.info.backend == "torch"
    if find_spec("openvino") is not None:
        assert backend.info.why.startswith("Undecided cannot be converted for OpenVINO: ")
        assert "\n" not in backend.info.why
        assert len(backend.info.why) < 250
        with pytest.raises(ConversionError, match="Undecided cannot be converted"):
            make_backend("openvino", network, BackendSetup(CPU)).predict(windows())


@needs_openvino
@pytest.mark.parametrize(("dtype", "precision"), [(None, "float32"), (torch.bfloat16, "bfloat16")])
def test_automatic_rejects_logits_that_differ_from_torch(monkeypatch, dtype, precision):
    real = ov._logits

    def wrong(compiled, window):
        away = ov.effective_precision(compiled) == precision
        return real(compiled, window) + (0.5 if away else 0)

    if precision == "bfloat16" and make_precision(dtype) != precision:
        pytest.skip("this processor has no bfloat16")
    monkeypatch.setattr(ov, "_logits", wrong)
    network = Tiny().eval()
    backend = make_backend("auto", network, BackendSetup(CPU, dtype))
    with torch.inference_mode():
        scores = backend.predict(windows())
    assert (scores.float() - network(windows())).abs().max() < 0.1
    assert backend.info.backend == "torch"
    assert re.search(
        rf"OpenVINO's logits in {precision} differ from torch's by .* standard deviations", backend.info.why
    )


@needs_openvino
def test_networks_are_compared_on_noise_if_the_first_window_is_constant(monkeypatch):
    seen = []
    real = ov._logits
    monkeypatch.setattr(ov, "_logits", lambda compiled, window: seen.append(window) or real(compiled, window))
    backend = make_backend("openvino", Tiny().eval(), BackendSetup(CPU))
    empty = torch.full((1, 1, 8, 8), -0.7)
    with torch.inference_mode():
        torch.testing.assert_close(backend.predict(empty), backend.network(empty))
    compared, computed = seen
    assert compared.std() > 0.5
    assert torch.equal(computed, empty)
    window = torch.randn(1, 1, 8, 8)
    assert ov.with_contrast(window) is window
    assert ov.with_contrast(torch.cat([window, empty], dim=1))[:, 1].std() > 0.5


@needs_openvino
def test_float16_is_not_replaced_by_bfloat16():
    backend = make_backend("auto", Tiny().eval(), BackendSetup(CPU, torch.float16))
    backend.predict(windows())
    if make_precision(torch.float16) == "bfloat16":
        assert "OpenVINO computes in bfloat16 on this processor, requested float16" in backend.info.why
    assert backend.info.precision in ("float16", "float32")


def make_precision(dtype):
    return ov.effective_precision(ov.compile_model(ov.convert(Tiny().eval(), windows(1)), dtype))


def test_automatic_uses_torch_for_whole_images_and_without_openvino(monkeypatch):
    assert (
        make_backend("auto", Tiny(), BackendSetup(CPU, one_size=False)).info.why
        == "whole images differ in size"
    )
    assert make_backend("auto", Tiny(), BackendSetup(torch.device("cuda"))).info.why == ""
    monkeypatch.setattr(ov, "find_spec", lambda name: None)
    assert "pip install '.[openvino]' in" in make_backend("auto", Tiny(), BackendSetup(CPU)).info.why
    with pytest.raises(ConfigError, match="backend openvino: openvino is not installed"):
        make_backend("openvino", Tiny(), BackendSetup(CPU))


def test_unknown_and_unsupported_backends_are_rejected():
    with pytest.raises(ConfigError, match="expected one of auto, torch, openvino"):
        make_backend("abacus", Tiny(), BackendSetup(CPU))
    with pytest.raises(ConfigError, match="openvino is supported on CPUs"):
        make_backend("openvino", Tiny(), BackendSetup(torch.device("cuda")))
    for name in BACKENDS:
        with pytest.raises(ConfigError, match=r"torch.compile is supported on CUDA"):
            make_backend(name, Tiny(), BackendSetup(CPU, compiled=True))


def test_the_provenance_records_the_backend(scan, tmp_path):
    predictor = Predictor([model(1), model(2)], amp="off", backend="torch")
    infer_cases(predictor, find_inputs([scan]), tmp_path / "out")
    record = json.loads((tmp_path / "out" / "provenance" / "s.json").read_text())
    assert [one["backend"] for one in record["backends"]] == ["torch", "torch"]
    assert [one["precision"] for one in record["backends"]] == ["float32", "float32"]


@needs_openvino
def test_an_explicit_backend_that_fails_ends_the_run(scan, tmp_path, monkeypatch):
    def fails(network, window):
        raise RuntimeError("no rule for aten.abacus")

    monkeypatch.setattr(ov, "convert", fails)
    predictor = Predictor(model(1), backend="openvino")
    with pytest.raises(
        ConversionError, match=r"UNet cannot be converted for OpenVINO: no rule for aten\.abacus"
    ):
        infer_cases(predictor, find_inputs([scan]), tmp_path / "out")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")
@pytest.mark.parametrize(
    ("amp", "compiled"), [("off", False), ("bf16", False), ("fp16", False), ("bf16", True)]
)
def test_gpu_and_cpu_agree(scan, amp, compiled):
    expected = Predictor(model(1), device="cpu", amp="off", backend="torch").predict(scan, probabilities=True)
    predictor = Predictor(model(1), device="cuda", amp=amp, compiled=compiled)
    found = predictor.predict(scan, probabilities=True)
    np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=1e-4 if amp == "off" else 0.05)
    assert predictor.members[0].backend.info.backend == ("torch compiled" if compiled else "torch")


SEALED = """
import sys

LOCAL = ("socket.__new__", "socket.bind")  # urllib3 tests for IPv6 when it is imported

def hook(event, arguments):
    if event.startswith(("socket.", "urllib.", "http.", "os.fork")) and event not in LOCAL:
        print("NETWORK", event, arguments, flush=True)
        raise RuntimeError("no network here")

sys.addaudithook(hook)
import numpy as np
import torch
from test_ensemble import model
from medseg.data.io.readers import read_scan
from medseg.interop.export import export_model
from medseg.inference.model.predictor import Predictor
from pathlib import Path

folder = Path(sys.argv[1])
predictor = Predictor(model(1), amp="off", backend="openvino")
predictor.predict(read_scan(folder / "scans" / "s.nii.gz"))
for target, name in (("openvino", "m.xml"), ("torch", "m.pt2"), ("onnx", "m.onnx")):
    export_model(model(1), folder / name, target)
names = [name for name, module in sys.modules.items() if "telemetry" in name and module is not None]
print("LOADED", [n for n in names if n.startswith("openvino_telemetry")])
print("HOME", [str(p) for p in Path.home().glob("intel/*")])
print("DONE", predictor.members[0].backend.info.backend)
"""


@pytest.mark.slow
@needs_openvino
@needs_onnx
def test_no_data_leaves_the_machine(scan, tmp_path):
    tests = Path(__file__).parents[1]
    script = tmp_path / "sealed.py"
    paths = [str(tests / "inference" / "model" / "ensemble"), str(tests), str(tests.parent)]
    script.write_text(f"import sys; sys.path[:0] = {paths!r}\n{SEALED}")
    home = tmp_path / "home"
    home.mkdir()
    environment = {"HOME": str(home), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        [sys.executable, str(script), str(tmp_path)],
        capture_output=True, text=True, timeout=300, env=environment,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == ["LOADED []", "HOME []", "DONE openvino"]


SIGNALED = """
import signal, torch
from medseg.inference.backends.openvino import compile_model, convert

signal.signal(signal.SIGUSR1, lambda *_: print("SIGNAL"))
model = convert(torch.nn.Conv2d(1, 2, 3), torch.zeros(1, 1, 8, 8))
networks = [compile_model(model, None) for _ in range(3)]
while networks:
    networks.pop(0)
signal.raise_signal(signal.SIGUSR1)
"""


@pytest.mark.slow
@needs_openvino
def test_signals_are_handled_after_networks_are_released():
    result = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", SIGNALED], capture_output=True, text=True, timeout=120
    )
    assert (result.returncode, result.stdout) == (0, "SIGNAL\n"), result.stderr


@needs_openvino
def test_a_plain_import_of_openvino_sends_telemetry(tmp_path):
    """Without medseg, telemetry is imported, and the test above would detect it."""
    try:
        version("openvino-telemetry")
    except PackageNotFoundError:
        pytest.skip("openvino-telemetry is not installed")
    script = (
        SEALED[: SEALED.index("import numpy")] + "import openvino\nprint('openvino_telemetry' in sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120,
        env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert {"NETWORK", "True"} <= set(result.stdout.split())


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("Check 'x' failed at a.cpp:1:\nConverting input model\n-- No conversion rule found for a.b\n",
         "No conversion rule found for a.b"),
        ("Failed to convert.\n<class 'E'>: No ONNX function found for <Op('a')>. Failure: b",
         "No ONNX function found for <Op('a')>"),
        ("Failed to convert.\n- Create a report\n\n## Exception summary\n\n<class 'E'>: a\nb", "a"),
        ("Constraints violated! For more information, run with LOGS.\nmore", "Constraints violated!"),
        ("\n  plain\nmore", "plain"),
        ("", "ValueError"),
        ("x" * 200, "x" * 159 + "…"),
    ],
)  # fmt: skip
def test_one_line_extracts_the_cause(text, line):
    assert one_line(ValueError(text)) == line
