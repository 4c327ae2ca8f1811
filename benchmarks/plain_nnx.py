"""The note models as a Flax user writes them with ``flax.nnx`` alone: the baseline to beat."""

import jax
import jax.numpy as jnp
from flax import nnx


class Model(nnx.Module):
    def __init__(self, rngs):
        self.conv1 = nnx.Conv(1, 20, (5, 5), padding="VALID", rngs=rngs)
        self.conv2 = nnx.Conv(20, 20, (5, 5), padding="VALID", rngs=rngs)

    def __call__(self, x):
        return nnx.relu(self.conv2(nnx.relu(self.conv1(x))))


class SimpleCNN(nnx.Module):
    def __init__(self, rngs):
        self.conv = nnx.Conv(1, 16, (5, 5), rngs=rngs)
        self.norm = nnx.BatchNorm(16, rngs=rngs)
        self.fc1 = nnx.Linear(16 * 14 * 14, 128, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.fc2 = nnx.Linear(128, 10, rngs=rngs)

    def __call__(self, x):
        x = nnx.max_pool(nnx.relu(self.norm(self.conv(x))), (2, 2), strides=(2, 2))
        return self.fc2(self.drop(nnx.relu(self.fc1(x.reshape(x.shape[0], -1)))))


class NeuralNetwork(nnx.Module):
    def __init__(self, rngs):
        self.fc1 = nnx.Linear(784, 512, rngs=rngs)
        self.fc2 = nnx.Linear(512, 512, rngs=rngs)
        self.fc3 = nnx.Linear(512, 10, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.fc1(x.reshape(x.shape[0], -1)))
        return self.fc3(nnx.relu(self.fc2(x)))


class Mlp(nnx.Module):
    def __init__(self, rngs, sizes, flatten=False, last=None):
        self.layers = nnx.List(
            nnx.Linear(a, b, rngs=rngs) for a, b in zip(sizes, sizes[1:], strict=False)
        )
        self.flatten = flatten
        self.last = last

    def __call__(self, x):
        x = x.reshape(x.shape[0], -1) if self.flatten else x
        for layer in self.layers[:-1]:
            x = nnx.relu(layer(x))
        x = self.layers[-1](x)
        return x if self.last is None else self.last(x)


class Block(nnx.Module):
    def __init__(self, dim, heads, rngs):
        self.norm1 = nnx.LayerNorm(dim, rngs=rngs)
        self.attn = nnx.MultiHeadAttention(heads, dim, decode=False, rngs=rngs)
        self.norm2 = nnx.LayerNorm(dim, rngs=rngs)
        self.fc1 = nnx.Linear(dim, 4 * dim, rngs=rngs)
        self.fc2 = nnx.Linear(4 * dim, dim, rngs=rngs)

    def __call__(self, x, mask=None):
        x = x + self.attn(self.norm1(x), mask=mask)
        return x + self.fc2(nnx.gelu(self.fc1(self.norm2(x)), approximate=False))


class VLAModel(nnx.Module):
    def __init__(self, rngs, dim=64, patch=8, patches=16, vocab=32, length=16, depth=2, heads=4):
        self.conv1 = nnx.Conv(3, dim, (patch, patch), (patch, patch), padding="VALID", rngs=rngs)
        self.image_positions = nnx.Param(jnp.zeros((patches, dim)))
        self.vision = nnx.List(Block(dim, heads, rngs) for _ in range(depth))
        self.norm = nnx.LayerNorm(dim, rngs=rngs)
        self.words = nnx.Embed(vocab, dim, rngs=rngs)
        self.word_positions = nnx.Param(jnp.zeros((length, dim)))
        self.language = nnx.List(Block(dim, heads, rngs) for _ in range(depth))
        self.final = nnx.LayerNorm(dim, rngs=rngs)
        self.fc1 = nnx.Linear(dim, dim, rngs=rngs)
        self.fc2 = nnx.Linear(dim, 4 * 7, rngs=rngs)

    def __call__(self, image, tokens):
        x = self.conv1(image)
        x = x.reshape(x.shape[0], -1, x.shape[-1]) + self.image_positions[...]
        for block in self.vision:
            x = block(x)
        words = self.words(tokens) + self.word_positions[: tokens.shape[1]]
        x = jnp.concatenate([self.norm(x), words], axis=1)
        mask = jnp.tril(jnp.ones((x.shape[1], x.shape[1]), bool))
        for block in self.language:
            x = block(x, mask)
        x = nnx.gelu(self.fc1(self.final(x[:, -1])), approximate=False)
        return self.fc2(x).reshape(-1, 4, 7)


BUILD = {
    "Model": Model,
    "MLP": lambda rngs: Mlp(rngs, (64, 1), last=jax.nn.sigmoid),
    "SimpleCNN": SimpleCNN,
    "NeuralNetwork": NeuralNetwork,
    "seq_modules": lambda rngs: Mlp(rngs, (784, 20, 10), flatten=True),
    "SimpleModel": lambda rngs: Mlp(rngs, (64, 32), last=nnx.relu),
    "mlp_256_128_64": lambda rngs: Mlp(rngs, (256, 128, 64)),
    "TwoLayerMLP": lambda rngs: Mlp(rngs, (64, 128, 10)),
    "Liner": lambda rngs: Mlp(rngs, (64, 32)),
    "VLAModel": VLAModel,
}
