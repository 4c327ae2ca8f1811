"""Small modules, each with something that a careless porter gets wrong without an error."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fluxmod import porter
from fluxmod._errors import UnsupportedOpError
from parity_tests.porter.certified import require_equal

DIM = 6


class Linear(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(DIM, DIM)


class CopyThenWrite(Linear):
    def forward(self, x):
        y = self.fc(x)
        z = y.clone()
        z[:, 1:3] = 0.0
        return y, z


class WriteThroughChunk(Linear):
    def forward(self, x):
        y = self.fc(x)
        with torch.no_grad():
            first, second = y.chunk(2, dim=1)
            first.mul_(2.0)
        return y, second


class WriteThroughTranspose(Linear):
    def forward(self, x):
        y = self.fc(x)
        y.t()[1] = 3.0
        y[0, 2:4] += 1.0
        return y


class ReadAfterWrite(Linear):
    def forward(self, x):
        y = self.fc(x)
        view = y[:, :3]
        y.mul_(2.0)
        return view + y[:, 3:]


class Identity(nn.Module):
    def forward(self, x):
        return x


class ResidualAroundIdentity(Linear):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(Identity(), nn.Identity(), nn.Linear(DIM, DIM))
        self.skip = Identity()

    def forward(self, x):
        x = self.fc(x)
        return self.skip(x) + self.body(x)


class HandsTwoThrough(nn.Module):
    def forward(self, x, mask):
        return (x, mask) if not self.training else (x * 1.0, mask)


class TwoThrough(Linear):
    def __init__(self):
        super().__init__()
        self.pass_on = HandsTwoThrough()

    def forward(self, x):
        y, z = self.pass_on(self.fc(x), x)
        return y * z


class OldStatistic(Linear):
    def __init__(self):
        super().__init__()
        self.register_buffer("average", torch.zeros(DIM))

    def forward(self, x):
        x = self.fc(x)
        before = self.average * 1.0
        if self.training:
            self.average.mul_(0.9)
            self.average.add_(0.1 * x.detach().mean(0))
        return x - before, x - self.average


class Counter(Linear):
    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))

    def forward(self, x):
        if self.training:
            self.calls += 1
        return self.fc(x) * (self.calls > 0)


class Island(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(DIM))

    def forward(self, x):
        dtype = x.dtype
        x = x.to(torch.float32)
        x = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)
        return self.weight * x.to(dtype)


class ResidualAroundIsland(Linear):
    def __init__(self):
        super().__init__()
        self.norm = Island()

    def forward(self, x):
        x = self.fc(x)
        return x + self.norm(x)


class TwoOutputsAtOnce(Linear):
    def __init__(self):
        super().__init__()
        self.other = nn.Linear(DIM, DIM)

    def both(self, layer, x):
        y = layer(x)
        return {"y": y, "more": {"z": y * 2, "w": y.sum(1)}}

    def forward(self, x):
        first = self.both(self.fc, x)
        second = self.both(self.other, x)
        return first["more"]["z"], second["y"], first["y"], second["more"]["w"]


class Reparameterised(Linear):
    def forward(self, x):
        mean = self.fc(x)
        if self.training:
            return mean + torch.randn_like(mean) * 0.5
        return mean


class DropPath(nn.Module):
    """As in timm and transformers: a uniform draw, rounded down."""

    def __init__(self, drop_prob):
        super().__init__()
        self.drop_prob = drop_prob

    def forward(self, x):
        if self.drop_prob == 0.0 or not self.training:
            return x
        keep_prob = 1 - self.drop_prob
        shape = (x.shape[0],) + (1,) * (x.ndim - 1)
        random_tensor = keep_prob + torch.rand(shape, dtype=x.dtype, device=x.device)
        return x.div(keep_prob) * random_tensor.floor_()


class StochasticDepth(Linear):
    def __init__(self):
        super().__init__()
        self.drop_path = DropPath(0.4)

    def forward(self, x):
        return x + self.drop_path(self.fc(x))


class Branches(nn.Module):
    def __init__(self, residual):
        super().__init__()
        self.residual = residual
        self.fc = nn.Linear(DIM, DIM)

    def forward(self, x):
        if self.residual:
            return x + F.relu(self.fc(x))
        return F.relu(self.fc(x))


class Flags(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([Branches(True), Branches(False), Branches(True)])

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return x


class Lists(nn.Module):
    def __init__(self):
        super().__init__()
        self.scales = nn.ParameterList([torch.randn(DIM) for _ in range(3)])
        self.named = nn.ParameterDict({"shift": torch.randn(DIM)})

    def forward(self, x):
        for scale in self.scales:
            x = x * scale
        return x + self.named["shift"]


class Shared(Linear):
    def __init__(self):
        super().__init__()
        self.again = self.fc
        self.tied = nn.Linear(DIM, DIM, bias=False)
        self.tied.weight = self.fc.weight

    def forward(self, x):
        return self.tied(self.again(F.relu(self.fc(x))))


class Frozen(nn.Module):
    """Its own result has no gradient; that of what it calls has none because it is called here."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(DIM, DIM)
        self.body = CopyThenWrite()

    @torch.no_grad()
    def forward(self, x):
        return self.body(self.fc(x))[0] * 2


class Teacher(Linear):
    """Targets that no gradient reaches, beside the same arrays with gradients."""

    def __init__(self):
        super().__init__()
        self.frozen = Frozen()
        self.register_buffer("centre", torch.zeros(DIM))

    def forward(self, x):
        y = self.fc(x)
        with torch.no_grad():
            scale = y.abs().amax(dim=1, keepdim=True)
            target = self.fc(x)
            if self.training:
                self.centre.mul_(0.9).add_(y.mean(0), alpha=0.1)
        return y / scale + target * y - self.frozen(x) * x + self.centre


class ListsInStep(nn.Module):
    """Lists whose names end in numbers: the loop needs a name for each."""

    def __init__(self):
        super().__init__()
        self.norm1 = nn.ModuleList(nn.LayerNorm(DIM) for _ in range(2))
        self.linears = nn.ModuleList(nn.Linear(DIM, DIM) for _ in range(2))
        self.norm2 = nn.ModuleList(nn.LayerNorm(DIM) for _ in range(2))

    def forward(self, x):
        for i in range(2):
            x = x + self.linears[i](self.norm1[i](x))
            x = self.norm2[i](x)
        return x


class TiedHead(nn.Module):
    """A weight of the table and a bias of its own: torch lists the weight first."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(DIM, DIM)
        self.head = nn.Linear(DIM, DIM)
        self.head.weight = self.table.weight

    def forward(self, x):
        return self.head(self.table(x.argmax(1)) + x)


class PartlyTied(nn.Module):
    """One class, two instances: the second one's weight is the first one's."""

    class Part(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(DIM, DIM))
            self.register_buffer("centre", torch.randn(DIM))

        def forward(self, x):
            return (x - self.centre) @ self.weight

    def __init__(self):
        super().__init__()
        self.first, self.second, self.third = (self.Part() for _ in range(3))
        self.second.weight = self.first.weight
        self.third.centre = self.first.centre

    def forward(self, x):
        return self.third(torch.relu(self.second(self.first(x))))


class Slots(nn.Module):
    """A number that every call of a block says anew, handed on to a child that ignores it."""

    class Block(nn.Module):
        class Mixer(nn.Module):
            def __init__(self):
                super().__init__()
                self.fc = nn.Linear(DIM, DIM)

            def forward(self, x, slot=0, scale=None):
                return self.fc(x) * scale

        def __init__(self):
            super().__init__()
            self.mixer = self.Mixer()

        def forward(self, x, **kwargs):
            return x + self.mixer(x, **kwargs)

    def __init__(self):
        super().__init__()
        self.block = self.Block()

    def forward(self, x):
        scale = x.mean(0)
        for slot in range(3):
            x = self.block(x, slot=slot, scale=scale)
        return x


class SizesOfArrays(nn.Module):
    """Sizes and factors that torch's constructor takes from arrays."""

    def __init__(self):
        super().__init__()
        sizes = torch.tensor([DIM, 2 * DIM])
        self.up = nn.Linear(sizes[0], sizes[1])
        self.down = nn.Linear(np.int64(2 * DIM), np.asarray(DIM).item())
        self.scale, self.shift = np.float32(0.5), torch.tensor(3).numpy()[()]

    def forward(self, x):
        return self.down(self.up(x)) * float(self.scale) + int(self.shift)


class RoundedScale(nn.Module):
    """A scale that torch computes in float32, whatever the model's dtype."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(DIM, DIM)

    def forward(self, x):
        scale = torch.sqrt(torch.tensor(x.size(-1), dtype=torch.float) * 3)
        return self.linear(x) / scale


CASES = [
    PartlyTied, RoundedScale, SizesOfArrays, Slots,
    ListsInStep, TiedHead, Teacher, CopyThenWrite, WriteThroughTranspose, ReadAfterWrite,
    ResidualAroundIdentity, TwoThrough, OldStatistic, Counter, ResidualAroundIsland,
    TwoOutputsAtOnce, Reparameterised, StochasticDepth, Flags, Lists, Shared,
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_both_modes_are_torchs(case):
    torch.manual_seed(0)
    model, x = case(), torch.randn(3, DIM)
    ported = porter.port(model, x)
    require_equal(model, ported, x)


def test_a_flag_is_an_if_in_one_class():
    text = porter.translate(Flags(), torch.randn(3, DIM)).text
    assert text.count("class Branches") == 1
    assert "if self.residual:" in text


def test_a_write_into_a_part_of_a_split_is_refused():
    with pytest.raises(UnsupportedOpError, match="Write into a slice"):
        porter.port(WriteThroughChunk(), torch.randn(3, DIM))


class NormAct(nn.BatchNorm2d):
    def __init__(self, features, eps=1e-5, act=None):
        super().__init__(features, eps=eps)
        self.act = act or nn.Identity()

    def forward(self, x):
        if self.training:
            self.num_batches_tracked.add_(1)
        statistics = (self.running_mean, self.running_var)
        x = F.batch_norm(
            x, *statistics, self.weight, self.bias, self.training, self.momentum, self.eps
        )
        return self.act(x)


class OwnStatistics(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(4))
        self.register_buffer("mean", torch.zeros(4))
        self.register_buffer("var", torch.ones(4))

    def forward(self, x):
        return F.batch_norm(x, self.mean, self.var, self.scale, None, self.training, 0.2)


class MapNorm(nn.LayerNorm):
    def forward(self, x):
        x = x.permute(0, 2, 3, 1)
        x = F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)
        return x.permute(0, 3, 1, 2)


class Extended(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = NormAct(4, 1e-3, nn.ReLU())
        self.norm = MapNorm(4)
        self.last = NormAct(4)

    def forward(self, x):
        return self.last(self.norm(self.first(x)))


class Window(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.size = size
        self.table = nn.Parameter(torch.randn(size * size + 1))
        places = torch.arange(size * size)
        index = (places // size - (places % size)[:, None]).abs()
        index[0, 1:] = size * size
        self.register_buffer("index", index, persistent=False)

    def forward(self, x):
        return x + self.table[self.index].sum()


class Windows(nn.Module):
    def __init__(self):
        super().__init__()
        self.small, self.large = Window(3), Window(5)

    def forward(self, x):
        return self.large(self.small(x))


class Places(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Conv2d(1, 4, 1)

    def forward(self, shape):
        return self.fc(torch.ones(shape, dtype=self.fc.weight.dtype).cumsum(1)[:, None])


class SizesAlone(nn.Module):
    def __init__(self):
        super().__init__()
        self.places = Places()

    def forward(self, x):
        N, C, H, W = x.shape
        x = x * 2
        x = x + self.places((N, H, W))
        x = x.reshape(N, 2, 2, H, W).transpose(1, 2).flatten(0, 1)
        x = x.flatten(2).sum(-1)
        return x.reshape(N, -1)


class Chosen(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Conv2d(2, 2, 1)
        self.width = 2
        self.forward = self.on_a_part

    def on_a_part(self, x):
        first, rest = torch.split(x, [self.width, x.shape[1] - self.width], dim=1)
        return torch.cat((self.fc(first), rest), 1)


class Dense(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, 2, 3, padding=1)

    def forward(self, features):
        return self.conv(F.relu(torch.cat(features, 1)))


class DenseBlock(nn.ModuleDict):
    def __init__(self):
        super().__init__({f"layer{i}": Dense(4 + 2 * i) for i in range(3)})

    def forward(self, x):
        features = [x]
        for layer in self.values():
            features.append(layer(features))
        return torch.cat(features, 1)


class Tree(nn.Module):
    def __init__(self, depth):
        super().__init__()
        self.left = Tree(depth - 1) if depth else nn.Conv2d(4, 4, 1)
        self.right = Tree(depth - 1) if depth else nn.Conv2d(4, 4, 1)

    def forward(self, x):
        return self.right(self.left(x))


class Forest(nn.Module):
    def __init__(self):
        super().__init__()
        self.tree = Tree(2)

    def forward(self, x):
        return self.tree(x)


class Pattern(nn.Sequential):
    def __init__(self, width, out, kernel_size=3):
        layers = [nn.Conv2d(width, out, kernel_size, padding=kernel_size // 2)]
        super().__init__(*layers, nn.BatchNorm2d(out), nn.ReLU())


class Named(nn.Sequential):
    def __init__(self, width, out):
        super().__init__()
        self.norm = nn.BatchNorm2d(width)
        self.conv = nn.Conv2d(width, out, 1)


class Patterns(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.third = Pattern(4, 6), Pattern(6, 8, 1), Pattern(8, 4)
        self.named = nn.Sequential(Named(4, 6), Named(6, 3), Named(3, 4))

    def forward(self, x):
        return self.named(self.third(self.second(self.first(x))))


class Shuffle(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.last = nn.Conv2d(2, 2, 1), nn.Conv2d(2, 3, 3)

    def forward(self, x):
        first, second = x.chunk(2, dim=1)
        x = torch.cat((first, self.inner(second)), dim=1)
        N, C, H, W = x.shape
        x = x.view(N, 2, C // 2, H, W).transpose(1, 2).contiguous().view(N, C, H, W)
        return self.last(x.chunk(2, dim=1)[1])


MAPS = [Shuffle, Patterns, Extended, OwnStatistics, Windows, SizesAlone, Chosen, DenseBlock, Forest]


@pytest.mark.parametrize("case", MAPS, ids=lambda case: case.__name__)
def test_both_modes_are_torchs_on_maps(case):
    torch.manual_seed(0)
    model, x = case(), torch.randn(2, 4, 6, 5)
    ported = porter.port(model, x)
    require_equal(model, ported, x)


def test_a_class_that_extends_a_layer_extends_it_here():
    text = porter.translate(Extended(), torch.randn(2, 4, 6, 5)).text
    assert "class NormAct(nn.BatchNorm2d):" in text
    assert text.count("super().__call__(x)") == 2
    assert "running_mean" not in text


def test_a_sequential_that_is_used_several_times_is_a_class():
    text = porter.translate(Patterns(), torch.randn(2, 4, 6, 5)).text
    assert "class Pattern(nn.Sequential):" in text
    assert "class Named(nn.Sequential):" in text
    assert text.count("nn.BatchNorm2d(") == 2


def test_a_shuffle_of_channels_leaves_them_last():
    text = porter.translate(Shuffle(), torch.randn(2, 4, 6, 5)).text
    assert "transpose" not in text


def test_a_table_that_the_constructor_computes_is_one_function():
    text = porter.translate(Windows(), torch.randn(2, 4, 6, 5)).text
    assert text.count("def _index(") == 1
    assert "_index(" in text.partition("class Window(")[2]


def test_layers_that_take_a_list_share_a_class():
    text = porter.translate(DenseBlock(), torch.randn(2, 4, 6, 5)).text
    assert text.count("class Dense(") == 1
    assert "jnp.concatenate(features, axis=-1)" in text


class AxisOfMap(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.glu = nn.GLU(dim=1)
        self.softmax = nn.Softmax(dim=2)
        self.out = nn.Conv2d(4, 3, 1)

    def forward(self, x):
        return self.out(self.softmax(self.glu(self.conv(x))))


class Helpers(nn.Module):
    """Two helpers have one name for the sizes of different arrays."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)

    @staticmethod
    def split(x, size):
        batch, length, width = x.shape
        return x.view(batch, length // size, size, width).transpose(1, 2)

    def forward(self, x):
        batch, length, width = x.shape
        mask = self.split(torch.arange(length).to(x.dtype).view(1, length, 1), 2)
        return (self.split(self.fc(x), 2) * mask).reshape(batch, length, width)


class Constants(nn.Module):
    """Python decides on values that no input changes."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x):
        mask = torch.ones(x.shape[:2])
        if (mask == 0).any():
            x = x * 2
        x = self.fc(x)
        if self.training and not torch.isfinite(x).all():
            x = torch.clamp(x, -1, 1)
        return x[:, : torch.tensor(3)]


class Keep(nn.Module):
    def __init__(self):
        super().__init__()
        self.kept = []

    def forward(self, x):
        self.kept[:] = [x * 2]
        return x.relu()


class Handed(nn.Module):
    """What a child made and did not return is used."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 4), nn.Sequential(Keep(), nn.Linear(4, 4)))

    def forward(self, x):
        return self.body(x), self.body[1][0].kept[-1]


class WriteInTheMiddle(nn.Module):
    """An axis that is neither the first nor the last is written at one place."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x):
        x = self.linear(x)
        out = torch.zeros_like(x)
        for i in range(1, x.shape[2]):
            out[:, :, i] = x[:, :, i - 1] * (i + 1) + out[:, :, 0]
        out[:, :, [0, 2]] = x[:, :, :2]
        return out


class NearPlaces(nn.Module):
    """A mask that depends on an argument which the module does not keep."""

    def __init__(self, is_local):
        super().__init__()
        mask = torch.ones(6, 6, dtype=torch.bool).tril()
        if is_local:
            mask = torch.bitwise_xor(mask, torch.tril(mask, -3))
        self.register_buffer("mask", mask.view(1, 6, 6), persistent=False)

    def forward(self, x):
        return torch.where(self.mask, x[:, None] * x[..., None], 0.0).sum(-1)


class NearAndFar(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(6, 6)
        self.layers = nn.ModuleList(NearPlaces(is_local) for is_local in (False, True))

    def forward(self, x):
        for layer in self.layers:
            x = layer(self.linear(x))
        return x


class Stages(nn.Module):
    """Tokens that become a map twice: for the next stage and for the output."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(3, 8), nn.Linear(8, 8)
        self.down = nn.Conv2d(8, 8, 2, 2)

    def forward(self, x):
        n, _, h, w = x.shape
        x = self.first(x.flatten(2).transpose(1, 2))
        x = x.reshape(n, h, w, -1).permute(0, 3, 1, 2).contiguous()
        kept = [x]
        x = self.second(self.down(x).flatten(2).transpose(1, 2))
        kept.append(x.reshape(n, h // 2, w // 2, -1).permute(0, 3, 1, 2).contiguous())
        return kept


class LocalWidths(nn.Module):
    """A local of the constructor is not its argument of the same layer."""

    def __init__(self):
        super().__init__()
        self.a = Inner2(4, 6)
        self.b = Inner2(6, 3)

    def forward(self, x):
        return self.b(self.a(x))


class Inner2(nn.Module):
    def __init__(self, width, out):
        super().__init__()
        wider = round(width * 2.5)
        self.up = Affine(width, out=wider)
        self.down = Affine(wider, out=out)

    def forward(self, x):
        return self.down(self.up(x))


class Affine(nn.Module):
    def __init__(self, width, out):
        super().__init__()
        self.fc = nn.Linear(width, out)

    def forward(self, x):
        return self.fc(x).relu()


class WeightWrite(nn.Module):
    """A weight that is stored transposed is written."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 3)

    def forward(self, x):
        with torch.no_grad():
            self.fc.weight.mul_(0.5)
        return x @ self.fc.weight.t()


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (AxisOfMap, (2, 3, 6, 7)),
        (Helpers, (2, 6, 4)),
        (Constants, (2, 5, 4)),
        (Handed, (2, 4)),
        (LocalWidths, (2, 4)),
        (NearAndFar, (2, 6)),
        (Stages, (2, 3, 8, 8)),
        (WriteInTheMiddle, (2, 4, 6, 4)),
    ],
)
def test_models_of_several_parts(make, shape):
    model, x = make(), torch.randn(*shape)
    require_equal(model, porter.port(model, x), x)


def test_statements_that_count_are_a_loop():
    text = porter.translate(WriteInTheMiddle(), torch.randn(2, 4, 6, 4)).text
    assert "for i in range(1, 6):" in text
    assert text.count(".set(") == 2


def test_a_weight_that_is_stored_transposed_is_written():
    model, x = WeightWrite().eval(), torch.randn(2, 4)
    ported = porter.port(model, x)
    for _ in range(2):
        torch.testing.assert_close(torch.tensor(porter.feed(ported, x)), model(x))


class Kinds(nn.Module):
    """One module is called with a word that decides what it does; a layer is in two classes."""

    class Scale(nn.Module):
        def __init__(self):
            super().__init__()
            self.near, self.far = nn.Parameter(torch.ones(4)), nn.Parameter(torch.ones(4))

        def forward(self, x, kind):
            if kind == "near":
                x = x * self.near
            elif kind == "far":
                x = (x * self.far).relu()
            else:
                x = x - self.far
            return x.tanh()

    class Part(nn.Module):
        def __init__(self, act):
            super().__init__()
            self.fc = nn.Linear(4, 4)
            self.act = act

        def forward(self, x):
            return self.act(self.fc(x))

    def __init__(self):
        super().__init__()
        act = nn.Tanh()
        self.scale = self.Scale()
        self.parts = nn.ModuleList(self.Part(act) for _ in range(3))

    def forward(self, x):
        for part, kind in zip(self.parts, ("near", "far", "off"), strict=True):
            x = part(self.scale(x, kind))
        return x


class LastPlaces(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(20, 4)
        self.bias = nn.Parameter(torch.randn(9))

    def forward(self, ids):
        length = ids.shape[1]
        return self.embedding(ids) * self.bias[max(0, 9 - length) :][:, None]


def test_calls_that_a_word_tells_apart():
    model, x = Kinds(), torch.randn(2, 4)
    ported = porter.port(model, x)
    text = porter.source(ported)
    assert 'if kind == "near":' in text
    assert 'elif kind == "far":' in text
    require_equal(model, ported, x)


def test_a_size_with_a_bound():
    model, ids = LastPlaces(), torch.randint(0, 20, (3, 7))
    ported = porter.port(model, ids[:2, :5])
    torch.testing.assert_close(torch.tensor(porter.feed(ported, ids)), model(ids).detach())


class Nested(Linear):
    """In evaluation the child gives what it got, which has its name already."""

    class Drop(nn.Module):
        def forward(self, x):
            return x if not self.training else F.dropout(x, 0.5)

    def __init__(self):
        super().__init__()
        self.drop = self.Drop()

    def forward(self, x):
        result = self.fc(x)
        result = self.drop(result)
        result += x
        return result


def test_a_value_that_one_mode_names_and_the_other_nests():
    model, x = Nested(), torch.randn(3, DIM)
    ported = porter.port(model, x)
    assert porter.source(ported).count("self.training") == 1  # in the child alone
    require_equal(model, ported, x)


@pytest.mark.parametrize(
    ("nested", "named", "same"),
    [
        (["return f(x) + y"], ["x = f(x)", "return x + y"], True),
        (["return g(f(x), x=1)"], ["a = f(x)", "return g(a, x=1)"], True),
        (["y = f(x) + 1", "return y"], ["a = f(x)", "y = a + 1", "return y"], True),
        (["return h(g(f(x)))"], ["a = f(x)", "b = g(a)", "return h(b)"], True),
        (["y = f(x) + 1", "return y * x"], ["x = f(x)", "y = x + 1", "return y * x"], False),
        (["return a + b * c"], ["x = a + b", "return x * c"], False),
        (["return f(x) * f(x)"], ["x = f(x)", "return x * x"], False),
        (["return g(f(x))"], ["a = f(y)", "return g(a)"], False),
    ],
)
def test_texts_are_one_where_only_a_name_tells_them_apart(nested, named, same):
    from fluxmod.porter.modes import folds

    assert folds(nested, named) is same


def test_long_texts_are_compared_line_by_line():
    from fluxmod.porter.modes import folds

    named = [line for i in range(60) for line in (f"a{i} = f{i}(x)", f"x = a{i} + 1")]
    nested = [f"x = f{i}(x) + 1" for i in range(60)]
    assert folds(nested, named)
    assert not folds([*nested[:-1], "x = 0"], named)


class Paths(Linear):
    """The first block's rate is zero: torch returns early, and names nothing on the way."""

    class Part(nn.Module):
        class Path(nn.Module):
            def __init__(self, rate):
                super().__init__()
                self.rate = rate

            def forward(self, x):
                if self.rate == 0.0 or not self.training:
                    return x
                noise = x.new_empty((x.shape[0], 1)).bernoulli_(1 - self.rate)
                return x * noise / (1 - self.rate)

        def __init__(self, rate):
            super().__init__()
            self.fc = nn.Linear(DIM, DIM)
            self.path = self.Path(rate)

        def forward(self, x):
            result = self.fc(x)
            result = self.path(result)
            result += x
            return result

    def __init__(self):
        super().__init__()
        self.parts = nn.ModuleList(self.Part(rate) for rate in (0.0, 0.25, 0.5))

    def forward(self, x):
        for part in self.parts:
            x = part(x)
        return self.fc(x)


def test_a_rate_of_zero_is_an_if_in_one_class():
    model, x = Paths(), torch.randn(3, DIM)
    ported = porter.port(model, x)
    text = porter.source(ported)
    assert text.count("class ") == 3
    assert "if not self.training or self.rate == 0.0:" in text
    require_equal(model, ported, x)


class Corrected(nn.Module):
    def forward(self, x):
        return x.var(0, correction=1.23456789)


def test_a_correction_keeps_its_digits():
    x = torch.randn(5, 3)
    assert "ddof=1.23456789" in porter.translate(Corrected(), x).text


class LayerDrop(Linear):
    def __init__(self, rate):
        super().__init__()
        self.rate = rate

    def forward(self, x):
        y = torch.relu(x)
        if not (self.training and torch.rand([]) < self.rate):
            y = self.fc(y)
        return y


@pytest.mark.parametrize("rate", [0.0, 0.25])
def test_a_layer_that_torch_leaves_out_at_random_is_kept_and_that_is_said(rate):
    ours = porter.port(LayerDrop(rate), torch.randn(3, DIM))
    said = [note for note in porter.notes(ours) if "leaves a layer out at random" in note]
    assert len(said) == (1 if rate else 0), porter.notes(ours)
    assert not rate or "test_semantics.py:" in said[0]
