"""A masked autoencoder: a vision transformer learns from scans without masks by filling in what it is not shown.

MONAI's `MaskedAutoEncoderViT` hides a share of the patches from the encoder, and answers with (patches, mask): what it
makes of each patch, (B, tokens, values), and (B, tokens), 1 where a patch was hidden. Here is what MONAI lacks:
bfloat16, the batch, the loss, masks that stay the same, and a picture. He et al. 2022, arXiv 2111.06377.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.inferers import Inferer
from monai.networks.nets import MaskedAutoEncoderViT

from .batch_ops import Batch
from .checks import check_settings
from .errors import refuse
from .files import whole_file
from .overlays import WHITE_AT

EPS = 1e-6  # of a variance: a patch of nothing has none
FLAIR = 3
Answer = tuple[torch.Tensor, torch.Tensor]


def check_masking(masking_ratio: float, patch_size: Sequence[int], **settings: Any) -> None:
    """Refuse a share of hidden patches that leaves none to see; the other settings as `check_settings` does."""
    check_settings(masking_ratio=masking_ratio, patch_size=patch_size, **settings)
    tokens = int(np.prod([side // 16 for side in patch_size]))
    if int((1 - masking_ratio) * tokens) < 1:
        refuse(f"masking_ratio {masking_ratio} hides all {tokens} patches of {list(patch_size)}. Lower it.")


def autoencoder(**settings: Any) -> MaskedAutoEncoderViT:
    """MONAI's `MaskedAutoEncoderViT`, which also works where autocast computes in bfloat16.

    By itself (1.6.1) it puts the encoder's tokens, then in bfloat16, among those of the hidden patches, in float32.
    """
    network = MaskedAutoEncoderViT(**settings)
    network.decoder_embed.register_forward_hook(_to_float32)
    return network


def _to_float32(module: torch.nn.Module, inputs: Any, output: torch.Tensor) -> torch.Tensor:
    return output.float()


class PrepareImages:
    """For `prepare_batch` of MONAI's trainers and evaluators: images, on the device, that are also what is learned.

    Takes {"image": (B, C, ...)}. augmentation: varies the whole batch there.
    """

    def __init__(self, augmentation: Callable[[torch.Tensor, torch.Tensor], Batch] | None = None) -> None:
        self.augmentation = augmentation

    def __call__(
        self, batchdata: dict[str, Any], device: torch.device, non_blocking: bool = False, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        image = batchdata["image"].to(device, non_blocking=non_blocking, **kwargs).float()
        if self.augmentation is not None:
            image, _ = self.augmentation(image, torch.zeros_like(image[:, :1]))
        return image, image


class HiddenPatches(torch.nn.Module):
    """Mean squared error on the hidden patches alone, each measured by its own mean and deviation over all modalities.

    Takes the answer and the image (B, C, H, W, D). patch_size: voxels a side. Without a measure of its own the few
    patches with strong edges would be all of the loss; one for all modalities leaves in what one tells of another.
    """

    def __init__(self, patch_size: int = 16) -> None:
        super().__init__()
        self.patch_size = patch_size

    def forward(self, answer: Answer, image: torch.Tensor) -> torch.Tensor:
        patches, hidden = answer
        errors = (patches - normalised(cut_up(image, self.patch_size))).square().mean(dim=2)
        return (errors * hidden).sum() / hidden.sum().clamp(min=1)


def cut_up(image: torch.Tensor, side: int) -> torch.Tensor:
    """(B, C, H, W, D) -> (B, tokens, C * side**3), in the order in which MONAI's patch embedding numbers the tokens."""
    for axis in (2, 4, 6):
        image = image.unflatten(axis, (-1, side))
    return image.permute(0, 2, 4, 6, 1, 3, 5, 7).flatten(4).flatten(1, 3)


def put_together(patches: torch.Tensor, shape: Sequence[int], side: int) -> torch.Tensor:
    """The opposite of `cut_up`; shape: (H, W, D)."""
    grid = [length // side for length in shape]
    image = patches.unflatten(2, (-1, side, side, side)).unflatten(1, grid)  # B, 3 of tokens, C, 3 of voxels
    return image.permute(0, 4, 1, 5, 2, 6, 3, 7).flatten(6).flatten(4, 5).flatten(2, 3)


def normalised(patches: torch.Tensor) -> torch.Tensor:
    """Each patch of (B, tokens, values) with mean 0 and standard deviation 1."""
    mean, deviation = measures(patches)
    return (patches - mean) / deviation


def measures(patches: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation, (B, tokens, 1) each; the deviation is above 0."""
    return patches.mean(dim=2, keepdim=True), (patches.var(dim=2, keepdim=True, correction=0) + EPS).sqrt()


class SameMasks(Inferer):
    """Ask a network with the same random numbers each time, so that two validations hide the same patches.

    What a training draws afterwards is as if nothing had been drawn.
    """

    def __call__(self, inputs: torch.Tensor, network: Callable, *args: Any, **kwargs: Any) -> Any:
        with torch.random.fork_rng(devices=[]):  # masks are drawn on the CPU
            torch.default_generator.manual_seed(0)
            return network(inputs, *args, **kwargs)


def answer_and_image(output: dict[str, Any]) -> tuple[Answer, torch.Tensor]:
    """Of an evaluator's output, for ignite's `Loss`."""
    return output["pred"], output["image"]


class Reconstructions:
    """Draw the first `cases` validation images after each validation, reconstruction.png: FLAIR, shown, filled in.

    Attach to the evaluator. A patch is drawn with its own mean and deviation, which the network is not asked for.
    Without matplotlib nothing is drawn.
    """

    def __init__(self, output_dir: str, patch_size: int = 16, cases: int = 3) -> None:
        self.path = Path(output_dir) / "reconstruction.png"
        self.patch_size = patch_size
        self.cases = cases
        self.shown: list[tuple[str, list[np.ndarray]]] = []

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.EPOCH_STARTED, lambda _: self.shown.clear())
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._iteration)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._epoch)

    def _iteration(self, engine: Engine) -> None:
        if len(self.shown) < self.cases:
            answer, image = answer_and_image(engine.state.output)
            volumes = [image, *filled_in(answer, image, self.patch_size)]
            level = image.shape[4] // 2
            panels = [np.asarray(volume[0, FLAIR, :, :, level].flip(0, 1).T.cpu()) for volume in volumes]
            self.shown.append((str(engine.state.batch["case"][0]), panels))

    def _epoch(self) -> None:
        try:
            from matplotlib.figure import Figure
        except ImportError:
            return
        figure = Figure(figsize=(9, 3.2 * len(self.shown)), dpi=90, layout="constrained")
        rows = figure.subplots(len(self.shown), 3, squeeze=False)
        for row, (case, panels) in zip(rows, self.shown, strict=True):
            head = panels[0][panels[0] != 0]
            low, high = np.percentile(head, [100 - WHITE_AT, WHITE_AT]) if head.size else (0, 1)
            for panel, picture, title in zip(row, panels, (case, "shown", "filled in"), strict=True):
                black = np.where(picture == 0, low, picture)  # what is hidden, or lies outside the head
                panel.imshow(black, cmap="gray", vmin=low, vmax=max(high, low + 1e-6))
                panel.set_title(title, fontsize=8)
                panel.set_axis_off()
        with whole_file(self.path) as file:
            figure.savefig(file, format="png")


def filled_in(answer: Answer, image: torch.Tensor, side: int) -> tuple[torch.Tensor, torch.Tensor]:
    """What the network was shown, 0 where a patch was hidden, and the same with its answers there; as the image."""
    patches, hidden = answer
    truth, hidden = cut_up(image, side), hidden[..., None]
    mean, deviation = measures(truth)
    shown = truth * (1 - hidden)
    both = (shown, shown + (patches * deviation + mean) * hidden)
    return tuple(put_together(one, image.shape[2:], side) for one in both)  # type: ignore[return-value]
