"""The hooks by which a distribution adds losses, speaker encoders and freeze policies.

A distribution names a module in the entry-point group `coqui_scl_plugin`; functions of that module that carry
`hookimpl` are called. Each returns a mapping from a name, as a config spells it, to a class. The `params` of a
config are the keyword arguments of that class's constructor, checked against its signature and annotations.
"""

from collections.abc import Mapping

import pluggy

GROUP = "coqui_scl_plugin"

hookspec = pluggy.HookspecMarker(GROUP)
hookimpl = pluggy.HookimplMarker(GROUP)


@hookspec
def scl_losses() -> Mapping[str, type]:
    """Losses: `nn.Module` classes with `forward(generated, reference, speaker_ids=None, prototypes=None)`.

    `generated` and `reference` are `[B, D]` embeddings, `speaker_ids` is `[B]`, `prototypes` `[S, D]`; the result is
    a scalar float32 tensor. Optional: `set_step(step)` is called with the training step before `forward`; the
    attribute `min_speakers` says how many speakers a batch must hold for the loss to teach anything; with
    `wants_prototypes` the loss is given the centroid of each speaker of the data set as `prototypes`, and
    `speaker_ids` are its rows; with `takes_calibration` and `set_calibration(calibration)`, where `calibration.floor`
    and `calibration.ceiling` are mean cosines of real speech, an ensemble can calibrate it (`takes_levels` and
    `set_levels`, their former names, work as well).
    """


@hookspec
def scl_encoders() -> Mapping[str, type]:
    """Speaker encoders: `nn.Module` classes with the attributes `sample_rate` (Hz), `embedding_dim` and `min_samples`.

    `forward(waveform)` takes `[B, T]` at `sample_rate` with at least `min_samples` samples, values in [-1, 1], and
    gives `[B, embedding_dim]` of unit length, differentiable to the waveform. Optional: the attribute `sha256` of the
    file with the weights, which a run records as the parameter `sha256` of the constructor. ReferenceSource are kept by
    what the module holds: its tensors, and its public attributes that are numbers, texts or truth values.
    """


@hookspec
def scl_freeze_policies() -> Mapping[str, type]:
    """Freeze policies: classes with the attribute `trainable` and the method `apply(encoder)`.

    `apply` is called when the encoder is built, after every switch between train and eval mode, before and after every
    training step, and before each save and each comparison with what the encoder was. `trainable` says whether the
    encoder's parameters go to the generator's optimizer and into the checkpoint; if not, the encoder is fingerprinted
    and watched. Optional: with `undoes_changes`, other optimizers may hold the encoder, since `apply` takes back what
    they do.
    """
