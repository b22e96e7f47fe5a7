"""How the values of a bank are changed at random while a model is trained on them. Free of torch.

Every field says how much at most, 0 is nothing, and what is drawn is drawn for each row of a batch on its own.
An augmentation is whatever has a `build`; it need not derive from anything here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from mmtune.networks.config.base import Checked, count, number
from mmtune.networks.shapes import Shape

if TYPE_CHECKING:
    from torch import Tensor


class Augmentation(Protocol):
    """The configuration of an augmentation."""

    def build(self, shape: Shape, values: Callable[[], Tensor]) -> Callable[[Tensor], Tensor]:
        """A function from (B, *shape) float32 to as many, which leaves what it is given as it is.

        values: gives the distinct training values (m, *shape), which are made for whoever asks. Random numbers come
        from the default generator of the tensor's device, and nothing waits for it, as a CUDA graph has to hold it.
        InputError where the shape or the values are none that it can change.
        """


@dataclass(frozen=True, kw_only=True)
class PictureAugmentation(Checked):
    """Of pictures (channels, height, width), or of a sequence of frames, all alike; outside a picture are zeros.

    Turned and scaled about the centre, then shifted, in one bilinear interpolation; then erased.
    shift: share of the height, and of the width, by which a picture moves either way.
    rotate: degrees, either way. scale: .1 for factors from 1 / 1.1 to 1.1, their logarithms uniform.
    erase: share of the area of one rectangle of zeros, its sides as .3 : 1 to 1 : .3, their logarithms uniform (Zhong
        et al., "Random erasing data augmentation", 2020; there half of the pictures are spared, here areas begin at 0).
    """

    shift: float = number(0.0, 0.0, 1.0)
    rotate: float = number(0.0, 0.0, 180.0)
    scale: float = number(0.0, 0.0, 4.0)
    erase: float = number(0.0, 0.0, 1.0)

    def build(self, shape: Shape, values: Callable[[], Tensor]) -> Callable[[Tensor], Tensor]:
        from mmtune.train.distort import of_pictures

        return of_pictures(self, shape)


@dataclass(frozen=True, kw_only=True)
class SoundAugmentation(Checked):
    """Of waveforms (samples,) in [-1, 1), or of features over time (steps, features), in the order of the fields.

    shift: share of the length by which a sound moves either way: what comes in is silence in a waveform, the first or
        the last step in features.
    mel_shift: share of the bands by which log-mel features move up or down, the last band continued. Features only.
    gain: dB, either way, of a waveform; of features how many deviations are added or taken away, the same at all steps.
    noise: deviation of white Gaussian noise, in root mean squares of the waveform, so that .1 is a signal-to-noise
        ratio of 20 dB; of features in deviations. It is drawn for every number, and of this size, not at most.
    frequency_mask, time_mask: share of the features, and of the length, of one stretch that is masked, its width and
        place uniform (Park et al., "SpecAugment", 2019): with 0 in waveforms, with the mean in features. The former of
        features only.

    Means and deviations are each feature's over all steps of the training values. Places are whole samples, steps and
    features, at most the share. A waveform that would leave [-1, 1) is clipped. Steps of nothing but zeros at the end
    of features are padding: they stay as they are, the length is that of the others, and no means count them.
    """

    shift: float = number(0.0, 0.0, 1.0)
    mel_shift: float = number(0.0, 0.0, 1.0)
    gain: float = number(0.0, 0.0, 60.0)
    noise: float = number(0.0, 0.0, 10.0)
    frequency_mask: float = number(0.0, 0.0, 1.0)
    time_mask: float = number(0.0, 0.0, 1.0)

    def build(self, shape: Shape, values: Callable[[], Tensor]) -> Callable[[Tensor], Tensor]:
        from mmtune.train.distort import of_sounds

        return of_sounds(self, shape, values)


@dataclass(frozen=True, kw_only=True)
class SpeechAugmentation(Checked):
    """Of waveforms (samples,) with a voice in them: another speaker, in another room, by another microphone.

    speed: .25 for factors from 1 / 1.25 to 1.25, their logarithms uniform, about the middle of the waveform; pitch and
        formants go with it, as those of a smaller or larger speaker (Ko et al., "Audio augmentation", 2015).
    shift: seconds by which a sound moves either way; zeros come in.
    tilt: dB an octave, either way, by which a spectrum rises or falls about 1 kHz.
    room: seconds in which the sound of the largest room falls by 60 dB; the rooms are noise that decays, from .05 s on,
        and reach from 25 dB below to as loud as the voice (Ko et al., "Reverberant speech", 2017, in the small).
    noise: share of the waveforms that get any; snr: dB of the quietest voice's loudest 25 ms over it, of the clearest
        40. Its spectrum is uniform between falling by 6 dB an octave and rising by 2.
    sample_rate: in Hz.
    A waveform that would leave [-1, 1) is made as quiet as that needs, and not clipped.
    """

    speed: float = number(0.0, 0.0, 4.0)
    shift: float = number(0.0, 0.0, 60.0)
    tilt: float = number(0.0, 0.0, 24.0)
    room: float = number(0.0, 0.0, 4.0)
    noise: float = number(0.0, 0.0, 1.0)
    snr: float = number(5.0, -20.0, 40.0)
    sample_rate: int = count(16_000, 1_000, 384_000)

    def build(self, shape: Shape, values: Callable[[], Tensor]) -> Callable[[Tensor], Tensor]:
        from mmtune.train.acoustics import of_speech

        return of_speech(self, shape)


@dataclass(frozen=True, kw_only=True)
class VectorAugmentation(Checked):
    """Of vectors (width,).

    noise: deviation of Gaussian noise, in each number's own deviations over the training values (Bishop, "Training with
        noise is equivalent to Tikhonov regularization", 1995).
    gaps: share of the numbers that become their mean over the training values, as one that is missing does (Vincent et
        al., "Extracting and composing robust features with denoising autoencoders", 2008).
    """

    noise: float = number(0.0, 0.0, 10.0)
    gaps: float = number(0.0, 0.0, 1.0)

    def build(self, shape: Shape, values: Callable[[], Tensor]) -> Callable[[Tensor], Tensor]:
        from mmtune.train.distort import of_vectors

        return of_vectors(self, shape, values)
