"""A layer with parameters of its own (note 004)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["Liner"]


class Liner(nn.Module):
    """``x @ weight + bias`` with a weight of shape (in_feature, out_feature), drawn from N(0, 1).

    The note's listing has slips (``__init``, ``self.bias==``, a missing parenthesis); this is what
    it means. With ``bias=False`` the bias is a Parameter of zeros: still listed and still trained.

    Shape:
        x: (*, in_feature); returns (*, out_feature).
    """

    def __init__(self, in_feature: int, out_feature: int, bias: bool = True) -> None:
        super().__init__()
        self.out_feature = out_feature
        self.in_feature = in_feature
        self.weight = nn.Parameter(torch.randn(in_feature, out_feature))
        if bias:
            self.bias = nn.Parameter(torch.randn(out_feature))
        else:
            self.bias = nn.Parameter(torch.zeros(out_feature))

    def forward(self, x: Tensor) -> Tensor:
        """Apply the affine map."""
        return x @ self.weight + self.bias
