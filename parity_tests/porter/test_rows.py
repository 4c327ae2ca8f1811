"""Arrays whose number of rows depends on values: experts that get the rows meant for them."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fluxmod import parity, porter
from fluxmod._errors import UnsupportedOpError

DIM, EXPERTS, PICKED = 6, 4, 2


class Router(nn.Module):
    def __init__(self):
        super().__init__()
        self.gate = nn.Linear(DIM, EXPERTS, bias=False)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(DIM, 8), nn.SiLU(), nn.Linear(8, DIM)) for _ in range(EXPERTS)
        )

    def route(self, x):
        weights, chosen = self.gate(x).softmax(-1).topk(PICKED, -1)
        return weights / weights.sum(-1, keepdim=True), chosen


class Mixtral(Router):
    """As transformers had it: where, a gather, index_add_."""

    def forward(self, x):
        batch, length, dim = x.shape
        x = x.view(-1, dim)
        weights, chosen = self.route(x)
        final = torch.zeros((batch * length, dim), dtype=x.dtype, device=x.device)
        mask = F.one_hot(chosen, num_classes=EXPERTS).permute(2, 1, 0)
        for number in range(EXPERTS):
            expert = self.experts[number]
            idx, top_x = torch.where(mask[number])
            if top_x.shape[0] == 0:
                continue
            state = x[None, top_x].reshape(-1, dim)
            final.index_add_(0, top_x, expert(state) * weights[top_x, idx, None])
        return final.reshape(batch, length, dim)


class Hit(Router):
    """As transformers has it: a loop over the experts that anybody wants."""

    def chosen(self, number):
        return self.experts[number]

    def forward(self, x):
        shape = x.shape
        x = x.view(-1, DIM)
        weights, chosen = self.route(x)
        final = torch.zeros_like(x)
        mask = F.one_hot(chosen, num_classes=EXPERTS).permute(2, 1, 0)
        for expert_idx in torch.greater(mask.sum(dim=(-1, -2)), 0).nonzero():
            idx, top_x = torch.where(mask[expert_idx].squeeze(0))
            rows = self.chosen(expert_idx)(x[top_x]) * weights[top_x, idx, None]
            final.index_add_(0, top_x, rows.to(x.dtype))
        return final.view(shape)


class HitByName(Hit):
    def __init__(self):
        super().__init__()
        self.experts = nn.ModuleDict({f"expert_{i}": e for i, e in enumerate(self.experts)})

    def chosen(self, number):
        return self.experts[f"expert_{number[0]}"]


class HitByNumber(Hit):
    """The number of an expert as Python's, and the best expert alone."""

    def forward(self, x):
        x = x.flatten(0, 1)
        final = torch.zeros_like(x)
        best = F.one_hot(self.gate(x).argmax(-1), EXPERTS)
        for number in (best.sum(0) > 0).nonzero().squeeze(-1):
            (places,) = torch.where(best[:, int(number)])
            final[places] = self.chosen(int(number))(x[places])
        return final


class MakeMoE(Router):
    """As tutorials have it: a mask for each expert, which is skipped if nobody wants it."""

    def forward(self, x):
        probabilities, chosen = self.route(x)
        gates = torch.zeros(*x.shape[:-1], EXPERTS, dtype=x.dtype).scatter(
            -1, chosen, probabilities
        )
        final = torch.zeros_like(x)
        flat_x, flat_gates = x.view(-1, DIM), gates.view(-1, EXPERTS)
        for i, expert in enumerate(self.experts):
            mask = (chosen == i).any(dim=-1)
            flat_mask = mask.view(-1)
            if flat_mask.any():
                out = expert(flat_x[flat_mask])
                weighted = out * flat_gates[flat_mask, i].unsqueeze(1)
                final[mask] += weighted.squeeze(1)
        return final


class Skipping(Router):
    """The same with ``continue``, and a count."""

    def forward(self, x):
        x = x.view(-1, DIM)
        final = torch.zeros_like(x)
        best = self.gate(x).argmax(-1)
        for i, expert in enumerate(self.experts):
            mask = best == i
            if mask.sum() == 0:
                continue
            rows = expert(x[mask])
            final[mask] = rows + 1
        return final


class Deepseek(Router):
    """As DeepSeek's first code had it in training: rows of each expert by a mask."""

    def forward(self, x):
        shape = x.shape
        weights, chosen = self.route(x.view(-1, DIM))
        flat = chosen.view(-1)
        x = x.view(-1, DIM).repeat_interleave(PICKED, dim=0)
        y = torch.empty_like(x)
        for number, expert in enumerate(self.experts):
            y[flat == number] = expert(x[flat == number])
        return (y.view(*weights.shape, -1) * weights.unsqueeze(-1)).sum(dim=1).view(shape)


class Assigned(Router):
    """The best expert alone, written by place."""

    def forward(self, x):
        x = x.flatten(0, 1)
        out = torch.zeros_like(x)
        best = self.gate(x).argmax(-1)
        for number, expert in enumerate(self.experts):
            (places,) = torch.where(best == number)
            if places.numel() > 0:
                out[places] = expert(x[places]).tanh()
        return out


class Adapters(nn.Module):
    """X-MOD's: every row of a batch goes through the adapter of its language."""

    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(DIM)
        self.adapters = nn.ModuleList(nn.Linear(DIM, DIM) for _ in range(3))

    def forward(self, x):
        languages = (x[:, 0, 0] > 0).long()
        new = torch.zeros_like(x)
        for number, adapter in enumerate(self.adapters):
            mask = languages == number
            new[mask] = adapter(self.norm(x[mask])) + x[mask].mean(1, keepdim=True)
        return new


class Dropped(Adapters):
    """Torch draws a mask for the rows of each language alone."""

    def __init__(self):
        super().__init__()
        self.norm = nn.Sequential(nn.LayerNorm(DIM), nn.Dropout(0.3))


class TwoStreams(nn.Module):
    """Higgs Audio's: tokens of text and of sound go through layers of their own, and add up."""

    def __init__(self):
        super().__init__()
        self.text, self.sound = nn.Linear(DIM, DIM), nn.Linear(DIM, DIM)
        self.norm = nn.LayerNorm(DIM)

    def forward(self, x):
        sound = x[..., 0] > 0.3
        hidden = x * 1.0
        hidden[sound] += self.sound(self.norm(x[sound]))
        hidden[~sound] += torch.log(1 + x[~sound].abs()) @ self.text.weight.t()
        return hidden


class Clipped(nn.Module):
    """A function that is only defined where the mask is true; its gradient elsewhere is NaN."""

    def forward(self, x):
        inside = x > 0.1
        out = torch.zeros_like(x)
        out[inside] = (x[inside] - 0.1).sqrt().log()
        out[~inside] = torch.masked_select(x, ~inside) * 2
        return out


class Sorted(Router):
    """JetMoe's: the rows in the order of their experts, split by how many each gets."""

    def run(self, rows, lengths):
        pieces = rows.split(lengths, dim=0)
        return torch.cat([expert(x) for expert, x in zip(self.experts, pieces, strict=True)])

    def sorted(self, chosen):
        lengths = torch.zeros(chosen.shape[0], EXPERTS).scatter(1, chosen, 1).long().sum(0).tolist()
        return lengths, chosen.flatten().sort(0)[1]

    def forward(self, x):
        rows = x.view(-1, DIM)
        weights, chosen = self.route(rows)
        lengths, order = self.sorted(chosen)
        place = order.div(PICKED, rounding_mode="trunc")
        new = self.run(rows[place], lengths)
        new = self.run(new.tanh(), lengths) * weights.flatten()[order][:, None]
        return torch.zeros_like(rows).index_add(0, place, new).view_as(x)


class SortedClipped(Sorted):
    """A function that is not defined for the rows of other experts."""

    def run(self, rows, lengths):
        first, *others = rows.abs().split(lengths)
        bound = 0.9 * first.amin(1, keepdim=True)
        return torch.cat([(first - bound).log(), *others])


class Matrices(Sorted):
    """One array of weights for all experts."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(EXPERTS, DIM, DIM))

    def run(self, rows, lengths):
        pieces = rows.split(lengths)
        return torch.cat([F.linear(pieces[i], self.weight[i]) for i in range(EXPERTS)], dim=0)


class MatricesMixed(Matrices):
    """Another one's weight, a bias, fewer experts than matrices: pieces, not one product."""

    def run(self, rows, lengths):
        pieces = rows.split(lengths)
        turned = [F.linear(pieces[i], self.weight[EXPERTS - 1 - i]) for i in range(EXPERTS)]
        pieces = torch.cat(turned).split(lengths)
        shifted = [F.linear(p, w, w[0]) for p, w in zip(pieces, self.weight, strict=True)]
        pieces = torch.cat(shifted).split(lengths)
        return torch.cat([F.linear(p, self.weight[i // 2]) for i, p in enumerate(pieces)])


class Weighed(Sorted):
    """How many rows an expert gets counts in what it gives."""

    def run(self, rows, lengths):
        return torch.cat([x * n for x, n in zip(rows.split(lengths), lengths, strict=True)])


ROWS = [Mixtral, Hit, HitByName, Deepseek, Assigned, Adapters, TwoStreams, Clipped]
PIECES = [Sorted, SortedClipped, Matrices, MatricesMixed, Weighed]


SHORT = parity.Options(levels=("L1", "L2"))


@pytest.mark.parametrize("make", PIECES)
def test_rows_split_by_computed_lengths(make):
    torch.manual_seed(0)
    model = make()
    ported = porter.port(model, torch.randn(3, 5, DIM))
    parity.check(model, ported, torch.randn(2, 5, DIM), options=SHORT).require()


@pytest.mark.parametrize("make", ROWS)
def test_rows_that_values_choose(make):
    torch.manual_seed(0)
    model, x = make(), torch.randn(3, 5, DIM)
    ported = porter.port(model, x)
    parity.check(model, ported, x).require()
    other = torch.randn(2, 5, DIM)
    parity.check(model, ported, other, options=SHORT).require()


def test_a_matrix_for_each_piece_is_one_product():
    source = porter.source(porter.port(Matrices(), torch.randn(3, 5, DIM)))
    assert source.count("jax.lax.ragged_dot(") == 2
    assert "split_rows" not in source
    assert "unstack" not in source


ALIKE = [
    (Hit, 1),
    (HitByNumber, 1),
    (MakeMoE, 1),
    (Skipping, 1),
    (Sorted, 1),
    (Matrices, 1),
    *itertools.product([Assigned, Adapters], (0, 1)),
]


@pytest.mark.parametrize(("make", "number"), ALIKE)
def test_experts_that_nobody_wants(make, number):
    """All rows are equal, so some get every row and some none."""
    torch.manual_seed(0)
    model, rows = make(), torch.full((2, 5, DIM), float(number))
    ported = porter.port(model, torch.randn(3, 5, DIM))
    parity.check(model, ported, rows, options=SHORT).require()


def test_a_file_alone_has_nothing_of_recorded_masks():
    ported = porter.port(Dropped(), torch.randn(3, 5, DIM))
    text = porter.source(ported, standalone=True)
    assert "def masked_rows" in text
    assert "rows_chosen" not in text
    assert "tape" not in text


# --- what counts the rows -------------------------------------------------------------------------


class Mean(nn.Module):
    def forward(self, x):
        return x[x[..., 0] > 0].mean(0)


class Given(nn.Module):
    def forward(self, x):
        return x[x[..., 0] > 0] * 2


class ByNumber(nn.Module):
    def forward(self, x):
        rows = x[x[..., 0] > 0]
        return x * rows.shape[0]


class Joined(nn.Module):
    def forward(self, x):
        mask = x[..., 0] > 0
        out = torch.zeros_like(x)
        rows = torch.cat([x[mask], x[~mask]])
        out[mask | ~mask] = rows
        return out


class Turned(nn.Module):
    def forward(self, x):
        mask = x[..., 0] > 0
        out = torch.zeros_like(x)
        out[mask] = x[mask].flip(0)
        return out


class Moved(nn.Module):
    """A place that was computed: that of a row without meaning could be inside of the array."""

    def forward(self, x):
        (places,) = torch.where(x[:, 0, 0] > 0)
        return torch.zeros_like(x).index_add(0, (places * 2) % x.shape[0], x[places])


class Mixed(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(DIM)

    def forward(self, x):
        mask = x[..., 0] > 0
        out = torch.zeros_like(x)
        out[mask] = self.norm(x[mask])
        return out


class SplitMixed(Sorted):
    def run(self, rows, lengths):
        return torch.cat([x * x.sum(0) for x in rows.split(lengths)])


class SplitTurned(Sorted):
    """The pieces are put together in another order."""

    def run(self, rows, lengths):
        return torch.cat(rows.split(lengths)[::-1])


class SplitColumns(Sorted):
    def run(self, rows, lengths):
        return torch.cat([x.exp() for x in rows.t().split(lengths, 1)], 1).t()


REFUSED = [Mean, Given, ByNumber, Joined, Turned, Moved, Mixed]


@pytest.mark.parametrize("make", [*REFUSED, SplitMixed, SplitTurned, SplitColumns])
def test_what_counts_or_mixes_the_rows_is_refused(make):
    with pytest.raises(UnsupportedOpError, match="depends? on values"):
        porter.port(make(), torch.randn(3, 5, DIM))


class Summed(Hit):
    """Every expert that somebody wants sees all rows: a visit to one nobody wants would count."""

    def forward(self, x):
        total = x.new_zeros(())
        for expert_idx in (x.mean((0, 1))[:EXPERTS] > 0).nonzero():
            total = total + self.chosen(expert_idx)(x).mean()
        return total


class OtherRows(Hit):
    def forward(self, x):
        x = x.view(-1, DIM)
        final = torch.zeros_like(x)
        for expert_idx in (x.mean(0)[:EXPERTS] > 0).nonzero():
            (places,) = torch.where(x[:, 0] > 0)
            final.index_add_(0, places, self.chosen(expert_idx)(x[places]))
        return final


class Counting(Router):
    """How many experts are wanted."""

    def forward(self, x):
        x = x.view(-1, DIM)
        final, wanted = torch.zeros_like(x), 0
        for i, expert in enumerate(self.experts):
            mask = self.gate(x).argmax(-1) == i
            if mask.any():
                final[mask] = expert(x[mask])
                wanted = wanted + self.gate.weight.sum()
        return final * wanted


class CountingRows(Router):
    def forward(self, x):
        x = x.view(-1, DIM)
        final = torch.zeros_like(x)
        for i, expert in enumerate(self.experts):
            (places,) = torch.where(self.gate(x).argmax(-1) == i)
            if places.numel() > 0:
                final = final.index_add(0, places, expert(x[places])) + 1
        return final


class OtherPlaces(nn.Module):
    """Asked about the eleventh of many arrays of places, written at those of the second."""

    def forward(self, x):
        final = torch.zeros_like(x)
        places = [torch.where(x[:, 0, 0] > bound)[0] for bound in range(11)]
        if places[10].numel() > 0:
            final[places[1]] = x[places[1]] * 2
        return final


class Otherwise(Router):
    def forward(self, x):
        x = x.view(-1, DIM)
        final = torch.zeros_like(x)
        (places,) = torch.where(self.gate(x).argmax(-1) == 0)
        if places.numel() > 0:
            final[places] = self.experts[0](x[places])
        else:
            final = final + 1
        return final


class OtherMask(Router):
    """Asked about one mask, written under another."""

    def forward(self, x):
        mask = x[..., 0] > 0
        final = torch.zeros_like(x)
        if mask.any():
            final[~mask] = x[~mask] * 2
        return final


COUNTING = [Summed, OtherRows, Counting, CountingRows, OtherPlaces, Otherwise, OtherMask]


@pytest.mark.parametrize("make", COUNTING)
def test_a_visit_that_would_count_is_refused(make):
    with pytest.raises(UnsupportedOpError, match="where nothing is found|how many rows are found"):
        porter.port(make(), torch.randn(3, 5, DIM))
