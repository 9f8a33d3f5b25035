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

from coqui_scl_plugin.losses import contrastive
from coqui_scl_plugin.testing import ENCODER_CHECKS, LOSS_CHECKS, POLICY_CHECKS, check_loss

EXAMPLE = Path(__file__).parents[1] / "example_plugin"
PAGE = Path(__file__).parents[2] / "docs" / "plugins.md"


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
    shutil.copytree(EXAMPLE / "tests", tmp_path / "tests")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", "tests"]
    options = {"capture_output": True, "text": True, "timeout": 300, "cwd": tmp_path}
    process = subprocess.run(command, env=environment(example_plugin_path), check=False, **options)
    assert process.returncode == 0, process.stdout
    (passed,) = re.findall(r"(\d+) passed", process.stdout)
    assert int(passed) > 40  # and none was skipped
    assert "skipped" not in process.stdout


def test_the_configs_of_the_docs_can_be_used(example_plugin_path: Path) -> None:
    sections = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", PAGE.read_text(), re.DOTALL)]
    (own,) = re.findall(r"```json\n(.*?)```", (EXAMPLE / "README.md").read_text(), re.DOTALL)
    sections.append({"scl": json.loads(own)})
    assert len(sections) == 3
    program = """
import json, sys
from coqui_scl_plugin import SclVitsConfig
for section in json.loads(sys.argv[1]):
    SclVitsConfig().from_dict({"model": "scl_vits", **section})
"""
    command = [sys.executable, "-c", program, json.dumps(sections)]
    subprocess.run(command, env=environment(example_plugin_path), check=True, timeout=120)


def test_the_docs_have_a_row_for_each_check_and_show_each_file() -> None:
    page = PAGE.read_text()
    rows = re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)
    assert rows == [check.__name__ for check in (*LOSS_CHECKS, *ENCODER_CHECKS, *POLICY_CHECKS)]
    shown = {Path(name).name for name in re.findall(r"literalinclude. (\S+)", page)} - {"hookspecs.py"}
    assert shown == {path.name for path in EXAMPLE.rglob("*") if path.suffix in {".py", ".toml"}}


def test_the_message_of_the_docs_is_the_one_that_comes() -> None:
    class ContrastiveLoss(contrastive.ContrastiveLoss):
        min_speakers = 1

    (quoted,) = re.findall(r"```text\n(.*?)```", PAGE.read_text(), re.DOTALL)
    with pytest.raises(AssertionError) as caught:
        check_loss(ContrastiveLoss)
    assert (
        str(caught.value) == f"1 of 14 checks fail:\n- teaches_with_the_speakers_it_needs: {' '.join(quoted.split())}"
    )
