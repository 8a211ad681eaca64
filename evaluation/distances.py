"""How far a set of drawn pictures is from a set of real ones, in the space of a feature network."""

import warnings
from dataclasses import dataclass

import torch
from torch import Tensor, nn

with warnings.catch_warnings():
    # Its own warning that a kernel distance keeps its features is about a class, not about a fault.
    warnings.filterwarnings("ignore", message="Metric `Kernel Inception Distance`")
    from torchmetrics.image.fid import FrechetInceptionDistance
    from torchmetrics.image.kid import KernelInceptionDistance

# A Gaussian of 1,280 dimensions cannot be fitted to fewer; the distance of small sets is mostly their size.
MIN_FRECHET_PICTURES = 2500
MAX_SUBSET = 1000


class _Ready(nn.Module):
    """Stands where torchmetrics wants a network: features that were computed before pass through."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.num_features = dim

    def forward(self, features: Tensor) -> Tensor:
        """(N, D) -> (N, D)."""
        return features


def frechet_distance(real: Tensor, drawn: Tensor) -> float:
    """|m - m'|^2 + tr(C + C' - 2 (C C')^1/2) of features (N, D) and (M, D) (Heusel et al. 1706.08500)."""
    metric = FrechetInceptionDistance(feature=_Ready(real.shape[1]))
    metric.set_dtype(torch.float64)
    metric.update(real.double(), real=True)
    metric.update(drawn.double(), real=False)
    return float(metric.compute())


def kernel_distance(real: Tensor, drawn: Tensor, subsets: int = 20, seed: int = 0) -> float:
    """Squared MMD with the kernel (x . y / D + 1)^3, unbiased (Binkowski et al. 1801.01401).

    real (N, D), drawn (M, D): the mean over `subsets` random subsets of min(1000, N, M) pictures of each.
    """
    size = min(MAX_SUBSET, len(real), len(drawn))
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Metric `Kernel Inception Distance`")
        torch.manual_seed(seed)  # torchmetrics draws its subsets from torch's own generator
        metric = KernelInceptionDistance(feature=_Ready(real.shape[1]), subsets=subsets, subset_size=size)
        metric.update(real, real=True)
        metric.update(drawn, real=False)
        return float(metric.compute()[0])


@dataclass(frozen=True, slots=True)
class PrecisionRecall:
    """Whether each drawn picture lies among real ones (M,), and each real one among drawn ones (N,)."""

    precise: Tensor
    recalled: Tensor


def precision_recall(real: Tensor, drawn: Tensor, nearest: int = 3) -> PrecisionRecall:
    """Improved precision and recall of features (N, D) and (M, D) (Kynkaanniemi et al. 1904.06991).

    A picture lies among others when it is nearer to one of them than that one's `nearest`-th neighbour of
    its own kind is.
    """
    across = torch.cdist(drawn, real)  # (M, N)
    among_real = across <= _radius(real, nearest)
    among_drawn = across <= _radius(drawn, nearest).unsqueeze(1)
    return PrecisionRecall(precise=among_real.any(1), recalled=among_drawn.any(0))


def _radius(features: Tensor, nearest: int) -> Tensor:
    """The distance of each of (N, D) to its `nearest`-th other, (N,)."""
    return torch.cdist(features, features).kthvalue(nearest + 1, dim=1).values  # itself is the first
