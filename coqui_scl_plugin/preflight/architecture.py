"""Check of the model's sizes against each other: what Coqui's constructors assert, and what fails at the first step."""

import math
from collections.abc import Iterator
from typing import Any

from coqui_scl_plugin.preflight.facts import ConfigFacts
from coqui_scl_plugin.preflight.report import Finding
from coqui_scl_plugin.utils.shown import typed

_MIN_DILATIONS = {"1": 3, "2": 2}
"""Dilations that a residual block of each type reads."""


def check_architecture(facts: ConfigFacts) -> list[Finding]:
    """The sizes in model_args fit each other and the spectrogram of audio."""
    args, audio = facts.config.model_args, facts.config.audio
    sizes = [*_spectrogram(args, audio), *_encoders(args), *_decoder(args)]
    return [*(_hops(args, audio) or _slice(args, audio)), *sizes, *_discriminator(args)]


def _discriminator(args: Any) -> list[Finding]:
    if args.init_discriminator:
        return []
    found = "model_args.init_discriminator = false: the model then has no discriminator, without which none trains."
    return [Finding(found, "Set it to true, or remove it.")]


def _hops(args: Any, audio: Any) -> list[Finding]:
    """Compare how many samples the decoder makes of a frame with how many a frame of the spectrogram stands for."""
    made, rate, hop = math.prod(args.upsample_rates_decoder), args.encoder_sample_rate, audio.hop_length
    rates, factor = f"model_args.upsample_rates_decoder = {typed(args.upsample_rates_decoder)}", 1
    if rate and audio.sample_rate % rate:
        found = (
            f"model_args.encoder_sample_rate = {rate} does not divide audio.sample_rate = {audio.sample_rate}: the "
            "lengths of the two spectrograms then differ, and the first step fails."
        )
        return [Finding(found, "Set it to a divisor of audio.sample_rate, or to null.")]
    if rate:
        factor = audio.sample_rate // rate
    if not rate and made != hop:
        found = f"audio.hop_length = {hop}, but the product of {rates} is {made}."
        return [Finding(found, f"They must be equal: set audio.hop_length to {made}, or other rates (and kernels).")]
    if rate and args.interpolate_z and made != hop:
        found = (
            f"audio.hop_length = {hop}, but the product of {rates} is {made}. With interpolate_z, the latents are "
            f"brought to {audio.sample_rate} Hz before they are decoded."
        )
        return [Finding(found, "Make them equal, or set model_args.interpolate_z to false.")]
    if rate and not args.interpolate_z and made != hop * factor:
        found = (
            f"The product of {rates} is {made}; without interpolate_z it must be audio.hop_length = {hop} times "
            f"{factor}, the ratio of audio.sample_rate to model_args.encoder_sample_rate: {hop * factor}."
        )
        return [Finding(found, "Correct the rates (and kernels), or set model_args.interpolate_z to true.")]
    return []


def _slice(args: Any, audio: Any) -> Iterator[Finding]:
    """Check that the mel spectrogram of a slice can be computed, which is padded by reflection."""
    factor = audio.sample_rate // args.encoder_sample_rate if args.encoder_sample_rate else 1
    samples, padding = args.spec_segment_size * audio.hop_length * factor, (audio.fft_size - audio.hop_length) // 2
    if samples <= padding:
        found = (
            f"model_args.spec_segment_size = {args.spec_segment_size}: a slice of {samples} samples is too short for "
            f"the mel spectrogram of audio.fft_size = {audio.fft_size}, and the first step fails."
        )
        yield Finding(found, "Coqui's default is 32.")


def _spectrogram(args: Any, audio: Any) -> Iterator[Finding]:
    bins, nyquist = audio.fft_size // 2 + 1, audio.sample_rate // 2
    if args.out_channels != bins:
        found = (
            f"model_args.out_channels = {args.out_channels}, but a spectrogram of audio.fft_size = {audio.fft_size} "
            f"has {bins} bins."
        )
        yield Finding(found, f"Set model_args.out_channels to {bins}, or another audio.fft_size.")
    if audio.win_length > audio.fft_size:
        found = f"audio.win_length = {audio.win_length} is above audio.fft_size = {audio.fft_size}."
        yield Finding(found, "Lower audio.win_length, or raise audio.fft_size (with model_args.out_channels).")
    if audio.mel_fmax is not None and audio.mel_fmax > nyquist:
        found = (
            f"audio.mel_fmax = {audio.mel_fmax:g} is above half of audio.sample_rate = {audio.sample_rate}, "
            f"{nyquist} Hz."
        )
        yield Finding(found, "Lower it, or set it to null, which stands for that half.")
    highest = nyquist if audio.mel_fmax is None else audio.mel_fmax
    if audio.mel_fmin >= highest:
        found = f"audio.mel_fmin = {audio.mel_fmin:g} is not below audio.mel_fmax = {highest:g}."
        yield Finding(found, "Lower audio.mel_fmin.")


def _encoders(args: Any) -> Iterator[Finding]:
    hidden, heads = args.hidden_channels, args.num_heads_text_encoder
    if hidden % 2 or hidden % heads:
        found = (
            f"model_args.hidden_channels = {hidden} must be even, and a multiple of num_heads_text_encoder = {heads}."
        )
        yield Finding(found, f"Set it to {math.ceil(hidden / math.lcm(2, heads)) * math.lcm(2, heads)}, for example.")
    for name in ("kernel_size_posterior_encoder", "kernel_size_flow"):
        if (size := getattr(args, name)) % 2 == 0:
            yield Finding(f"model_args.{name} = {size} must be odd.", f"Set it to {size + 1}, for example.")


def _decoder(args: Any) -> Iterator[Finding]:
    yield from _residual_blocks(args)
    rates, kernels = args.upsample_rates_decoder, args.upsample_kernel_sizes_decoder
    if not rates or len(kernels) < len(rates):
        found = (
            f"model_args.upsample_kernel_sizes_decoder = {typed(kernels)} must have a size for each rate of "
            f"upsample_rates_decoder = {typed(rates)}."
        )
        yield Finding(found, "Usually it is twice the rate.")
        return
    for rate, kernel in zip(rates, kernels, strict=False):
        if kernel < rate or (kernel - rate) % 2:
            found = (
                f"model_args.upsample_kernel_sizes_decoder = {typed(kernels)}: {kernel} for a rate of {rate} in "
                "upsample_rates_decoder, but it must be the rate plus an even number, or the length is another."
            )
            yield Finding(found, f"Set it to {2 * rate + rate % 2}, for example.")
            return
    channels = args.upsample_initial_channel_decoder
    if channels >> len(rates) < 1:
        found = (
            f"model_args.upsample_initial_channel_decoder = {channels} is halved at each of the {len(rates)} rates of "
            "upsample_rates_decoder, and none is left."
        )
        yield Finding(found, f"Raise it to at least {1 << len(rates)}.")


def _residual_blocks(args: Any) -> Iterator[Finding]:
    kernels, dilations = args.resblock_kernel_sizes_decoder, args.resblock_dilation_sizes_decoder
    key, needed = "model_args.resblock_dilation_sizes_decoder", _MIN_DILATIONS.get(args.resblock_type_decoder, 2)
    if not kernels or len(kernels) != len(dilations):
        found = (
            f"{key} = {typed(dilations)} must have a list for each of resblock_kernel_sizes_decoder = {typed(kernels)}."
        )
        yield Finding(found, "Give both the same length, of at least 1.")
    elif any(len(own) < needed for own in dilations):
        found = (
            f"{key} = {typed(dilations)}: residual blocks of resblock_type_decoder = {args.resblock_type_decoder!r} "
            f"need {needed} dilations each."
        )
        yield Finding(found, "Add dilations, or set the other type.")
    if even := [size for size in kernels if size % 2 == 0]:
        found = f"model_args.resblock_kernel_sizes_decoder = {typed(kernels)}: {even[0]} is even, each must be odd."
        yield Finding(found, f"Set it to {even[0] + 1}, for example.")
