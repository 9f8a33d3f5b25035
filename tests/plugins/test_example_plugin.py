"""A third party's distribution adds a loss by being installed, and its own tests pass where it is installed."""

import json
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from command_driver import environment


def test_the_installed_loss_is_available_and_built_by_name(example_plugin_path: Path) -> None:
    program = """
import json, torch
from coqui_scl_plugin import SclVitsConfig, available, build_loss
from coqui_scl_plugin.errors import ConfigError

generated, reference = torch.randn(2, 8, 32, generator=torch.Generator().manual_seed(0)).unbind()
generated.requires_grad_(True)
value = build_loss("euclidean", {"scale": 2.0})(generated, reference, torch.arange(8))
cosines = (generated * reference).sum(-1) / (generated.norm(dim=-1) * reference.norm(dim=-1))
expected = 2.0 * (1.0 - cosines).mean()
gradients = [torch.autograd.grad(v, generated)[0] for v in (value, expected)]
config = SclVitsConfig()
loss = {"name": "euclidean", "params": {"scale": 2.0}}
config.from_dict({"scl": {"encoders": [{"name": "ge2e"}], "loss": loss}})
messages = []
for params in ({"scael": 2.0}, {"scale": "2"}, {"scale": -1.0}):
    try:
        SclVitsConfig().from_dict({"scl": {"loss": {"name": "euclidean", "params": params}}})
    except ConfigError as error:
        messages.append(str(error))
print(json.dumps({
    "available": available(),
    "value": value.item(),
    "expected": expected.item(),
    "gradients": [gradient.flatten().tolist() for gradient in gradients],
    "loss": config.scl.loss.to_dict(),
    "messages": messages,
}))
"""
    command, options = [sys.executable, "-c", program], {"capture_output": True, "text": True, "timeout": 120}
    process = subprocess.run(command, env=environment(example_plugin_path), check=False, **options)
    assert process.returncode == 0, process.stderr
    seen = json.loads(process.stdout.splitlines()[-1])
    assert "euclidean" in seen["available"]["losses"]
    assert "cosine" in seen["available"]["losses"]
    assert "cepstral" in seen["available"]["encoders"]
    assert set(seen["available"]["freeze_policies"]) == {"frozen", "restore", "trainable", "counted"}
    assert seen["value"] == pytest.approx(seen["expected"], rel=1e-5)
    assert seen["expected"] > 0.1
    assert seen["loss"] == {"name": "euclidean", "params": {"scale": 2.0}}
    ours, theirs = seen["gradients"]
    assert ours == pytest.approx(theirs, abs=1e-6)
    misspelt, wrong_type, out_of_range = seen["messages"]
    assert misspelt.startswith("scl.loss.params.scael")
    assert "'scale'" in misspelt
    assert wrong_type.startswith("scl.loss.params.scale = '2'")
    assert out_of_range.startswith("scl.loss.params.scale = -1.0")


def test_the_wheel_holds_the_package_and_nothing_else(example_plugin_wheel: Path) -> None:
    with zipfile.ZipFile(example_plugin_wheel) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert names == {f"scl_example_plugin/{name}.py" for name in ("__init__", "loss", "encoder", "policy")}


def test_its_own_tests_pass_where_it_is_installed(example_plugin_path: Path, tmp_path: Path) -> None:
    shutil.copytree(Path(__file__).parents[1] / "example_plugin" / "tests", tmp_path / "tests")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", "tests"]
    options = {"capture_output": True, "text": True, "timeout": 300, "cwd": tmp_path}
    process = subprocess.run(command, env=environment(example_plugin_path), check=False, **options)
    assert process.returncode == 0, process.stdout
    (passed,) = re.findall(r"(\d+) passed", process.stdout)
    assert int(passed) > 40  # and none was skipped
    assert "skipped" not in process.stdout
