"""`coqui-scl train`."""

import typer


def train(ctx: typer.Context) -> None:
    """Train a model: TTS.bin.train_tts with every flag of its own (-h lists them), and --skip ID.

    The config is checked first; nothing is written if it cannot be used. --coqpit.scl.weight 5 and the like override
    single values. A stock config with use_speaker_encoder_as_loss is trained as scl_vits. --skip ID lets a check of
    coqui-scl preflight fail; the run folder records it.
    """
    from coqui_scl_plugin.coqui.train_tts import train as train_tts

    train_tts(ctx.args)
