"""Questions that Python asks of a tensor while it is traced, and the answers that are safe."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fluxmod import porter
from fluxmod._errors import CaptureError
from fluxmod.porter.decisions import shortcut
from parity_tests.porter.certified import require_equal

PAD = 0


class IfNot(nn.Module):
    """fairseq's padding mask, and ESM's: None where no token is padding."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(9, 6)
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)

    def forward(self, tokens):
        mask = tokens.eq(PAD)
        if not mask.any():
            mask = None
        x = self.embedding(tokens)
        return self.attention(x, x, x, key_padding_mask=mask, need_weights=False)[0]


class Ternary(IfNot):
    def forward(self, tokens):
        keep = tokens.ne(PAD)
        mask = None if torch.all(keep).item() else ~keep
        x = self.embedding(tokens)
        return self.attention(x, x, x, key_padding_mask=mask, need_weights=False)[0]


class Either(IfNot):
    def forward(self, tokens):
        mask = tokens.eq(PAD)
        mask = mask if self.training or mask.any() else None
        x = self.embedding(tokens)
        return self.attention(x, x, x, key_padding_mask=mask, need_weights=False)[0]


@pytest.mark.parametrize("make", [IfNot, Ternary, Either])
def test_a_mask_that_torch_leaves_out_where_it_hides_nothing_is_kept(make):
    torch.manual_seed(0)
    model = make().eval()
    full = torch.randint(1, 9, (2, 5))
    padded = full.masked_fill(torch.tensor([[0, 0, 0, 1, 1], [0, 0, 0, 0, 0]]).bool(), PAD)
    ported = porter.port(model, full)
    assert [note for note in porter.notes(ported) if "the port keeps it" in note]
    require_equal(model, ported, full)
    require_equal(model, ported, padded)


class Doubled(nn.Module):
    """Not a mask that is left out: what is computed depends on the answer."""

    def forward(self, x):
        y = x * 2
        if not (x > 0).any():
            y = None
        return x if y is None else y


class Counted(nn.Module):
    def forward(self, x):
        mask = x > 0
        if mask.sum() == 0:
            mask = None
        return x if mask is None else x * mask


@pytest.mark.parametrize("make", [Doubled, Counted])
def test_other_questions_are_refused(make):
    with pytest.raises(CaptureError, match="Python decides"):
        porter.port(make(), torch.ones(2, 3))


def test_a_frame_without_source_has_no_shortcut():
    space, node = {}, torch.fx.Graph().call_function(torch.ops.aten.any.default)
    exec("import sys\ndef ask():\n    return sys._getframe()", space)
    assert shortcut(node, space["ask"]()) is None
