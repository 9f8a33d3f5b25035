"""Make the run folders beside this file, with the code as it was at commit 421cd5f.

`tests/coqui/test_former_runs.py` continues and evaluates them with the present code. With a checkout of that commit
in CHECKOUT, and its dependencies installed:

    PYTHONPATH=CHECKOUT:CHECKOUT/tests OMP_NUM_THREADS=1 python tests/former_runs/make.py CHECKOUT OUT

Each run is trained in a temporary folder, with relative paths alone, so that no file names a folder of the machine;
the files that the test needs are copied to OUT. The small discriminator is that of the checkout's `quick_vits.py`.
"""

import shutil
import sys
import tempfile
from contextlib import chdir
from pathlib import Path
from typing import Any

import torch
from former_third_party import ENCODERS, LOSSES, RATE, SPEAKERS, small_duration_predictor, write_speech
from quick_vits import QuickVits
from trainer import Trainer, TrainerArgs
from TTS.config.shared_configs import BaseAudioConfig, BaseDatasetConfig
from TTS.tts.configs.vits_config import VitsArgs
from TTS.tts.datasets import load_tts_samples

import coqui_scl_plugin
from coqui_scl_plugin import SclVitsConfig
from coqui_scl_plugin.registry import Entry, installed

SAVED_AT = 4
"""The run has six steps, in two epochs of three."""
KEPT = (
    f"checkpoint_{SAVED_AT}.pth", "config.json", "speakers.pth", "evaluation_set.json", "scl_history.csv",
    "preflight.json",
)  # fmt: skip
TINY: dict[str, Any] = {
    "out_channels": 129,
    "hidden_channels": 8,
    "hidden_channels_ffn_text_encoder": 8,
    "num_layers_text_encoder": 1,
    "num_layers_posterior_encoder": 1,
    "num_layers_flow": 1,
    "upsample_rates_decoder": [8, 8],
    "upsample_kernel_sizes_decoder": [16, 16],
    "upsample_initial_channel_decoder": 16,
    "resblock_type_decoder": "2",
    "resblock_kernel_sizes_decoder": [3],
    "resblock_dilation_sizes_decoder": [[1, 2]],
    "spec_segment_size": 16,
    "use_sdp": False,
    "use_speaker_embedding": True,
    "speaker_embedding_channels": 8,
}
FIRST, SECOND, HELD_OUT = ({"name": "bands", "alias": f"toy{n}", "params": {"seed": n}} for n in (1, 2, 3))
RUNS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "plain": ({"loss": {"name": "learned_distance"}, "encoders": [FIRST]}, {}),
    "ensemble": (
        {
            "loss": {"name": "ensemble", "params": {"member": {"name": "learned_cosine"}}},
            "encoders": [FIRST, SECOND | {"weight": 0.5}],
            "holdout": [HELD_OUT],
            "freeze": {
                "check_every": 2,
                "modules": [
                    {"pattern": "text_encoder", "until_step": 7},
                    {"pattern": "flow", "lr_scale": 0.5},
                    {"pattern": "posterior_encoder.enc"},
                ],
            },
            "preflight": {"skip": ["thaw"]},
        },
        {"target_loss": "secs_toy3"},
    ),
    "trainable": ({"loss": {"name": "learned_distance"}, "encoders": [FIRST | {"policy": "trainable"}]}, {}),
}
"""The section and other fields of the config, by name of the run."""


def config_of(scl: dict[str, Any], fields: dict[str, Any]) -> SclVitsConfig:
    config = SclVitsConfig(
        model_args=VitsArgs(**TINY),
        audio=BaseAudioConfig(sample_rate=RATE, fft_size=256, win_length=256, hop_length=64, num_mels=20),
        datasets=[
            BaseDatasetConfig(formatter="coqui", dataset_name="former", path="speech", meta_file_train="metadata.csv")
        ],
        speakers=list(SPEAKERS),
        text_cleaner="basic_cleaners",
        output_path="runs",
        eval_split_size=6,
        batch_size=4,
        eval_batch_size=3,
        num_loader_workers=0,
        num_eval_loader_workers=0,
        epochs=2,
        test_delay_epochs=99,
        print_step=1,
        save_step=SAVED_AT,
        save_best_after=0,
        lr_gen=2e-3,
        lr_disc=2e-3,
        **fields,
    )
    config.from_dict({"scl": scl})
    return config


def make(name: str, out: Path) -> None:
    """Train in the working directory, and copy the files to keep."""
    torch.manual_seed(0)
    config = config_of(*RUNS[name])
    train, evaluation = load_tts_samples(config, eval_split=True, eval_split_size=config.eval_split_size)
    trainer = Trainer(
        TrainerArgs(), config, model=QuickVits(config), train_samples=train, eval_samples=evaluation,
        parse_command_line_args=False,
    )  # fmt: skip
    trainer.fit()
    out.mkdir(parents=True, exist_ok=True)
    for file in KEPT:
        shutil.copy(trainer.output_path / file, out / file)


def main() -> None:
    """Make all runs."""
    checkout, out = (Path(argument).resolve() for argument in sys.argv[1:])
    if not Path(coqui_scl_plugin.__file__).is_relative_to(checkout):
        sys.exit(f"The package is {coqui_scl_plugin.__file__}, not that of {checkout}: see the docstring.")
    installed().losses.update({name: Entry(cls, "a test") for name, cls in LOSSES.items()})
    installed().encoders.update({name: Entry(cls, "a test") for name, cls in ENCODERS.items()})
    torch.set_num_threads(1)
    with small_duration_predictor():
        for name in RUNS:
            with tempfile.TemporaryDirectory() as folder, chdir(folder):
                write_speech(Path("speech"), seed=0)
                make(name, out / name)


if __name__ == "__main__":
    main()
