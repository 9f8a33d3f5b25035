"""Fine-tune a small multi-speaker VITS on libri10 with a speaker consistency loss.

Any flag of Coqui's trainer may follow, such as `--restore_path START.pth`, and any `--coqpit.KEY VALUE`.
"""

import os

import torch
from trainer import Trainer, TrainerArgs
from TTS.config.shared_configs import BaseAudioConfig, BaseDatasetConfig
from TTS.tts.configs.vits_config import VitsArgs
from TTS.tts.datasets import load_tts_samples

from coqui_scl_plugin import SclConfig, SclVits, SclVitsConfig
from coqui_scl_plugin.config import EncoderConfig

DATA = os.environ.get("SCL_DATA", "../shared/data/libri10")


def main() -> None:
    config = SclVitsConfig(
        run_name="libri10-finetune",
        output_path="runs",
        model_args=VitsArgs(
            use_speaker_embedding=True,
            speaker_embedding_channels=64,
            hidden_channels=96,
            hidden_channels_ffn_text_encoder=192,
            num_layers_text_encoder=4,
            num_layers_posterior_encoder=8,
            upsample_initial_channel_decoder=128,
            periods_multi_period_discriminator=[2, 3],
        ),
        audio=BaseAudioConfig(sample_rate=16000),
        datasets=[
            BaseDatasetConfig(
                formatter="coqui", dataset_name="libri10", path=DATA, meta_file_train="metadata.csv", language="en"
            )
        ],
        text_cleaner="basic_cleaners",
        batch_size=8,
        eval_batch_size=8,
        batch_group_size=4,
        eval_split_size=0.1,
        num_loader_workers=0,
        num_eval_loader_workers=0,
        epochs=100,
        print_step=10,
        save_step=500,
        test_sentences=[["he was in a hurry to be gone", "1688"]],
        scl=SclConfig(holdout=[EncoderConfig(name="dvector")]),
    )

    train_samples, eval_samples = load_tts_samples(
        config,
        eval_split=True,
        eval_split_max_size=config.eval_split_max_size,
        eval_split_size=config.eval_split_size,
    )

    torch.manual_seed(config.training_seed)  # the trainer seeds only after the model is made
    model = SclVits(config)
    trainer = Trainer(
        TrainerArgs(),
        config,
        model=model,
        train_samples=train_samples,
        eval_samples=eval_samples,
    )
    trainer.fit()


if __name__ == "__main__":
    main()
