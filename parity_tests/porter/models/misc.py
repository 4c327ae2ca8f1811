"""Other models as people write them in torch; the porter has to turn them into Flax."""

from __future__ import annotations

import torch
import torch.nn as nn
import torch.nn.functional as F


class PointNet(nn.Module):
    def __init__(self, k=4):
        super().__init__()
        self.conv1 = nn.Conv1d(3, 8, 1)
        self.conv2 = nn.Conv1d(8, 16, 1)
        self.bn1 = nn.BatchNorm1d(8)
        self.bn2 = nn.BatchNorm1d(16)
        self.fc = nn.Linear(16, k)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.bn2(self.conv2(x))
        x = torch.max(x, 2, keepdim=True)[0]
        x = x.view(-1, 16)
        return self.fc(x)


class GraphConvolution(nn.Module):
    def __init__(self, in_features, out_features):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(in_features, out_features))
        self.bias = nn.Parameter(torch.zeros(out_features))

    def forward(self, input, source, target):
        support = torch.mm(input, self.weight)
        output = torch.zeros_like(support)
        output = output.index_add(0, target, support[source])
        return output + self.bias


class GCN(nn.Module):
    def __init__(self, nfeat=5, nhid=6, nclass=3, dropout=0.5):
        super().__init__()
        self.gc1 = GraphConvolution(nfeat, nhid)
        self.gc2 = GraphConvolution(nhid, nclass)
        self.dropout = dropout

    def forward(self, x, source, target):
        x = F.relu(self.gc1(x, source, target))
        x = F.dropout(x, self.dropout, training=self.training)
        x = self.gc2(x, source, target)
        return F.log_softmax(x, dim=1)


class Siamese(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4))

    def forward_once(self, x):
        return self.net(x)

    def forward(self, input1, input2):
        output1 = self.forward_once(input1)
        output2 = self.forward_once(input2)
        return output1, output2


class FourierLayer(nn.Module):
    def __init__(self, width=4, modes=3):
        super().__init__()
        self.modes = modes
        self.weights = nn.Parameter(torch.randn(width, width, modes, 2))
        self.w = nn.Conv1d(width, width, 1)

    def forward(self, x):
        x_ft = torch.fft.rfft(x)
        weights = torch.view_as_complex(self.weights)
        out_ft = torch.einsum("bix,iox->box", x_ft[:, :, : self.modes], weights)
        x1 = torch.fft.irfft(out_ft, n=x.size(-1))
        return F.gelu(x1 + self.w(x))


class DuelingDQN(nn.Module):
    def __init__(self, state_dim=6, action_dim=3):
        super().__init__()
        self.feature = nn.Sequential(nn.Linear(state_dim, 16), nn.ReLU())
        self.value_stream = nn.Linear(16, 1)
        self.advantage_stream = nn.Linear(16, action_dim)

    def forward(self, state):
        features = self.feature(state)
        values = self.value_stream(features)
        advantages = self.advantage_stream(features)
        qvals = values + (advantages - advantages.mean(dim=1, keepdim=True))
        return qvals


class FiLM(nn.Module):
    def __init__(self, channels=6, cond=4):
        super().__init__()
        self.conv = nn.Conv2d(3, channels, 3, padding=1)
        self.bn = nn.BatchNorm2d(channels, affine=False)
        self.film = nn.Linear(cond, 2 * channels)

    def forward(self, x, cond):
        gamma, beta = self.film(cond).chunk(2, dim=1)
        x = self.bn(self.conv(x))
        x = gamma[:, :, None, None] * x + beta[:, :, None, None]
        return F.relu(x)


class SpatialGatingUnit(nn.Module):
    def __init__(self, d_ffn, seq_len):
        super().__init__()
        self.norm = nn.LayerNorm(d_ffn)
        self.spatial_proj = nn.Conv1d(seq_len, seq_len, kernel_size=1)

    def forward(self, x):
        u, v = x.chunk(2, dim=-1)
        v = self.norm(v)
        v = self.spatial_proj(v)
        return u * v


class GatedMLP(nn.Module):
    def __init__(self, d_model=6, d_ffn=8, seq_len=5):
        super().__init__()
        self.norm = nn.LayerNorm(d_model)
        self.channel_proj1 = nn.Linear(d_model, d_ffn * 2)
        self.channel_proj2 = nn.Linear(d_ffn, d_model)
        self.sgu = SpatialGatingUnit(d_ffn, seq_len)

    def forward(self, x):
        residual = x
        x = self.norm(x)
        x = F.gelu(self.channel_proj1(x))
        x = self.sgu(x)
        x = self.channel_proj2(x)
        out = x + residual
        return out


class Perceiver(nn.Module):
    def __init__(self, dim=8, num_latents=3):
        super().__init__()
        self.latents = nn.Parameter(torch.randn(num_latents, dim))
        self.attn = nn.MultiheadAttention(dim, 2, batch_first=True)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x, mask=None):
        latents = self.latents.unsqueeze(0).repeat(x.shape[0], 1, 1)
        out, _ = self.attn(latents, x, x, key_padding_mask=mask)
        return self.norm(latents + out).mean(dim=1)


class InPlace(nn.Module):
    """Writes through views and slices."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(6, 6)

    def forward(self, x):
        y = self.fc(x)
        y[:, 2:4].zero_()
        y[:, 0] += 1.0
        z = y.clone()
        z[:, 1] = x[:, 0] * 2
        view = z.view(-1, 2, 3)
        view[:, 1].mul_(3.0)
        return z.relu_(), {"y": y, "last": (view[:, 0], z.sum())}


class MixtureOfExperts(nn.Module):
    def __init__(self, dim=6, experts=3):
        super().__init__()
        self.gate = nn.Linear(dim, experts)
        self.experts = nn.ModuleList([nn.Linear(dim, dim) for _ in range(experts)])

    def forward(self, x):
        weights = F.softmax(self.gate(x), dim=-1)
        outputs = torch.stack([e(x) for e in self.experts], dim=1)
        return (weights.unsqueeze(-1) * outputs).sum(dim=1)


class EMA(nn.Module):
    """A buffer that training moves."""

    def __init__(self, dim=4):
        super().__init__()
        self.register_buffer("average", torch.zeros(dim))
        self.register_buffer("scale", torch.full((dim,), 2.0), persistent=False)
        self.fc = nn.Linear(dim, dim)

    def forward(self, x):
        x = self.fc(x) * self.scale
        if self.training:
            self.average.mul_(0.9).add_(0.1 * x.detach().mean(0))
        return x - self.average


class DataDependent(nn.Module):
    """Cannot be ported: Python decides on values."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x):
        x = self.fc(x)
        if x.sum() > 0:
            return x
        return -x
