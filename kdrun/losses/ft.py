"""Factor transfer: the student's map, translated into a few channels, matches the teacher's, paraphrased.

Kim, Park, Kwak, "Paraphrasing Complex Network: Network Compression via Factor Transfer", NeurIPS 2018,
https://arxiv.org/abs/1802.04977

Departures: batch norm in the translator and squared differences for the paraphraser, as in later toolboxes;
factors of unequal size are brought to the smaller one. The paraphraser is trained in a phase of its own
(`part: paraphrase`), on the teacher's maps alone; without it the factors are those of random convolutions.
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from kdrun.errors import KdrunError
from kdrun.losses.numeric import mse, number
from kdrun.losses.paired import LayerLoss, Pair
from kdrun.losses.regressors import batch_norm, to_smaller
from kdrun.types import Batch, Outputs

PARTS = ("transfer", "paraphrase")
SLOPE = 0.1


def ft(student: Tensor, teacher: Tensor) -> Tensor:
    """(N,): mean absolute difference of factors (N, C, H, W), those of each image of length 1."""
    ours, theirs = (F.normalize(maps.flatten(1), dim=1) for maps in to_smaller(student, teacher.detach()))
    return (ours - theirs).abs().mean(1)


class Convolutions(nn.Module):
    """Three 3x3 convolutions with leaky ReLU, (N, C, H, W) to (N, C', H, W). The second changes the width.
    back: whether they are transposed, from factors to channels. norm: whether batch norm follows each.
    """

    def __init__(self, channels: int, out: int, *, back: bool = False, norm: bool = False) -> None:
        super().__init__()
        kind = nn.ConvTranspose2d if back else nn.Conv2d
        widths = (channels, channels, out, out)
        self.convs = nn.ModuleList(kind(a, b, 3, padding=1) for a, b in pairwise(widths))
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for width in widths[1:] if norm)

    def forward(self, maps: Tensor) -> Tensor:
        for position, conv in enumerate(self.convs):
            maps = conv(maps)
            if self.norms:
                norm = self.norms[position]
                assert isinstance(norm, nn.BatchNorm2d)
                maps = batch_norm(maps, norm)
            maps = F.leaky_relu(maps, SLOPE)
        return maps


class FT(LayerLoss):
    """`ft` of two feature maps, the student's translated and the teacher's paraphrased. part: `paraphrase`
    trains the paraphraser instead, to reconstruct the teacher's map from its factors. The terms of both parts
    have the same name, so the second takes it over. ratio: factors per channel of the teacher.
    """

    maps = True

    def __init__(
        self,
        part: str = "transfer",
        ratio: float = 0.5,
        student_layer: str = "stage:-1",
        teacher_layer: str = "stage:-1",
    ) -> None:
        super().__init__(student_layer, teacher_layer)
        if part not in PARTS:
            raise KdrunError("part", part, "no such part", PARTS)
        number("ratio", ratio, above=0)
        self.part, self.ratio = part, float(ratio)
        self.reaches_student = self.prepared = part == "transfer"

    def adapt(self, pair: Pair) -> None:
        channels = pair.teacher[0]
        factors = max(1, int(channels * self.ratio))
        self.paraphraser = Convolutions(channels, factors)
        if self.part == "paraphrase":
            self.decoder = Convolutions(factors, channels, back=True)
        else:
            self.paraphraser.requires_grad_(False)
            self.translator = Convolutions(pair.student[0], factors, norm=True)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        ours, theirs = self.pair.read(student, teacher)
        factors = self.paraphraser(theirs)
        if self.part == "paraphrase":
            return mse(self.decoder(factors), theirs)
        return ft(self.translator(ours), factors)

    def formula(self) -> str:
        if self.part == "paraphrase":
            return f"mse({self.teacher_layer}, made from its factors)"
        return f"FT({self.student_layer}, {self.ratio:g} factors per channel)"
