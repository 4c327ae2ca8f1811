"""A reaching task for behaviour cloning: go to the block that the instruction names.

Seen from above: a table with blocks of different colours, and a gripper drawn as a white frame
that looks larger the higher it is. Numpy only, and every function works on all episodes at once.

An action has seven parts, each in [-1, 1]: dx, dy, dz (in units of ``STEP``), droll, dpitch, dyaw
(in units of ``TURN``), and the gripper (closed when above zero). A policy sees one image and the
instruction, and answers with the next ``CHUNK`` actions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

SIZE = 32  # pixels per side
BLOCKS = 3  # on the table
CHUNK = 4  # actions per answer of the policy
CHUNKS = 6  # answers per episode
RECORDED = 3  # of them in a demonstration: the way there, and a little of holding still
ACTIONS = 7
STEP = 0.08  # farthest move of one action; the table is 1 x 1
TURN = 0.1  # farthest turn of one action, in radians
HALF_BLOCK = 0.09  # half of a block's side
APART = 0.26  # centres of two blocks, at least
MARGIN = 0.12  # of a block's centre to the table's edge
NEAR = 0.1  # "at the block": closer than this in x, y, z
# The expert closes with +GRIP and opens with -GRIP. Half a unit, although only the sign counts: at
# a whole one the gripper would make up most of a squared error, and the moves too little of it.
GRIP = 0.5
LEVEL = 0.35  # "held level": each wrist angle within this

COLOURS = {
    "red": (1.0, 0.1, 0.1),
    "green": (0.1, 0.9, 0.1),
    "blue": (0.1, 0.2, 1.0),
    "yellow": (1.0, 0.9, 0.1),
    "purple": (0.8, 0.1, 0.9),
    "cyan": (0.1, 0.9, 0.9),
}
TABLE = 0.15  # grey level
TEMPLATES = ("reach the {} block", "go to the {} block", "touch the {} one", "move to the {} cube")
WORDS = ("reach", "go", "to", "the", "touch", "move", "block", "one", "cube")
VOCABULARY = ("<pad>", "<mask>", *WORDS, *COLOURS)
TOKENS = 5  # the longest instruction

Policy = Callable[[np.ndarray, np.ndarray], np.ndarray]
Instruction = Literal["named", "masked", "any"]

# Demonstrations, scenes of an evaluation and chance draw from streams of their own, so that no
# choice of seeds trains on the scenes that are scored.
_DEMONSTRATIONS, _EVALUATION, _CHANCE = 1, 2, 3


def tokenise(sentence: str) -> np.ndarray:
    """Token numbers of one instruction, padded at the front: the last token is its last word.

    >>> tokenise("reach the red block")
    array([ 0,  2,  5, 11,  8], dtype=int32)
    """
    words = sentence.split()
    unknown = [word for word in words if word not in VOCABULARY]
    if unknown or len(words) > TOKENS:
        raise ValueError(
            f"tokenise: expected at most {TOKENS} words of the vocabulary, got {sentence!r} "
            f"(unknown: {unknown}). The words are {', '.join(VOCABULARY)}."
        )
    padded = ["<pad>"] * (TOKENS - len(words)) + words
    return np.array([VOCABULARY.index(word) for word in padded], np.int32)


# (template, colour) -> tokens
_SENTENCES = np.array([[tokenise(t.format(colour)) for colour in COLOURS] for t in TEMPLATES])
_MASKED = np.full(TOKENS, VOCABULARY.index("<mask>"), np.int32)
_PALETTE = np.array(list(COLOURS.values()), np.float32)


@dataclass(frozen=True, slots=True)
class Score:
    """Successes among episodes, with the Wilson 95 % interval of the rate."""

    successes: int
    episodes: int

    @property
    def rate(self) -> float:
        """Share of the episodes that succeeded."""
        return self.successes / self.episodes

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval: sound at 0 and 1 too, where the usual one has no width."""
        z, n, p = 1.959964, self.episodes, self.rate
        centre = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        return max(0.0, float(centre - half)), min(1.0, float(centre + half))

    def __str__(self) -> str:
        low, high = self.interval
        return (
            f"{self.rate:6.1%} of {self.episodes} episodes (95 % interval {low:.1%} to {high:.1%})"
        )


class Reaching:
    """Independent episodes of the task, all advanced together.

    Shape:
        images: (B, 32, 32, 3) float32 in [0, 1].
        tokens: (B, 5) int32.
        actions: (B, 7) per step, (B, 4, 7) per chunk.

    Args:
        instruction: what the tokens say: the target ("named"), nothing ("masked"), or one of the
            blocks on the table by lot ("any"). Success is always judged by the target.
    """

    def __init__(
        self,
        seed: int | tuple[int, ...] = 0,
        episodes: int = 1,
        *,
        instruction: Instruction = "named",
    ) -> None:
        if episodes < 1:
            raise ValueError(f"Reaching: episodes={episodes} must be at least 1.")
        if instruction not in ("named", "masked", "any"):
            raise ValueError(
                f"Reaching: instruction={instruction!r} must be 'named', 'masked' or 'any'."
            )
        self.episodes = episodes
        self.instruction = instruction
        self._rng = np.random.default_rng(seed)
        self.reset()

    def reset(self) -> None:
        """New scenes, instructions and starting positions for every episode."""
        rng, n = self._rng, self.episodes
        self.blocks = _scatter(rng, n)  # (B, BLOCKS, 2)
        self.colours = rng.permuted(np.tile(np.arange(len(COLOURS)), (n, 1)), axis=1)[:, :BLOCKS]
        self.named = rng.integers(BLOCKS, size=n)  # the target's place among the blocks
        said = rng.integers(BLOCKS, size=n) if self.instruction == "any" else self.named
        colour = self.colours[np.arange(n), said]
        self.tokens = _SENTENCES[rng.integers(len(TEMPLATES), size=n), colour]
        if self.instruction == "masked":
            self.tokens = np.tile(_MASKED, (n, 1))
        self.position = rng.uniform((0.05, 0.05, 0.2), (0.95, 0.95, 1.0), (n, 3))
        self.angles = np.zeros((n, 3))
        self.closed = np.zeros(n, bool)

    @property
    def target(self) -> np.ndarray:
        """Where the gripper should go, (B, 3)."""
        block = self.blocks[np.arange(self.episodes), self.named]
        return np.concatenate([block, np.zeros((self.episodes, 1))], axis=1)

    def observe(self) -> tuple[np.ndarray, np.ndarray]:
        """What a policy may see: (images, tokens)."""
        return self._render(), self.tokens.copy()

    def step(self, action: np.ndarray) -> None:
        """Carry out one action per episode, (B, 7); parts beyond [-1, 1] are clipped."""
        action = self._checked("step", action, (self.episodes, ACTIONS))
        action = np.clip(action, -1, 1)
        self.position = np.clip(self.position + STEP * action[:, :3], 0, 1)
        self.angles = self.angles + TURN * action[:, 3:6]
        self.closed = action[:, 6] > 0

    def execute(self, chunk: np.ndarray) -> None:
        """Carry out a chunk of actions, (B, CHUNK, 7), without looking in between."""
        chunk = self._checked("execute", chunk, (self.episodes, CHUNK, ACTIONS))
        for step in range(CHUNK):
            self.step(chunk[:, step])

    def _checked(self, caller: str, actions: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        actions = np.asarray(actions)
        if actions.shape != shape or not np.isfinite(actions).all():
            raise ValueError(
                f"Reaching.{caller}: expected finite actions of shape {shape}, got shape "
                f"{actions.shape} with {np.sum(~np.isfinite(actions))} values not finite."
            )
        return actions

    def success(self) -> np.ndarray:
        """At the named block, gripper closed, wrist level: (B,) bool."""
        near = np.linalg.norm(self.position - self.target, axis=1) < NEAR
        return near & self.closed & (np.abs(self.angles) < LEVEL).all(axis=1)

    def expert(self) -> np.ndarray:
        """The actions of a demonstrator who knows the target, (B, CHUNK, 7)."""
        return expert_chunk(self.position, self.angles, self.target)

    def _render(self) -> np.ndarray:
        image = np.full((self.episodes, SIZE, SIZE, 3), TABLE, np.float32)
        for block in range(BLOCKS):
            cover = _square(self.blocks[:, block], HALF_BLOCK)
            image += cover[..., None] * (_PALETTE[self.colours[:, block], None, None] - image)
        outer = 0.05 + 0.07 * self.position[:, 2]  # nearer to the camera, so larger
        frame = _square(self.position[:, :2], outer) - _square(self.position[:, :2], 0.5 * outer)
        image += frame[..., None] * (1 - image)
        return image


def expert_chunk(position: np.ndarray, angles: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Proportional control with a clipped step: straight to the target, wrist levelled.

    Shape:
        position, angles, target: (B, 3); returns (B, CHUNK, 7) float32.
    """
    chunk = np.zeros((len(position), CHUNK, ACTIONS), np.float32)
    for step in range(CHUNK):
        move = np.clip(0.7 * (target - position) / STEP, -1, 1)
        turn = np.clip(-0.7 * angles / TURN, -1, 1)
        position, angles = position + STEP * move, angles + TURN * turn
        near = np.linalg.norm(position - target, axis=1) < NEAR
        chunk[:, step] = np.column_stack([move, turn, np.where(near, GRIP, -GRIP)])
    return chunk


@dataclass(frozen=True, slots=True)
class Demonstrations:
    """What the expert would do, for images and instructions."""

    images: np.ndarray  # (N, 32, 32, 3) float32
    tokens: np.ndarray  # (N, 5) int32
    actions: np.ndarray  # (N, 4, 7) float32

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays by name, as the loader takes them."""
        return {"image": self.images, "tokens": self.tokens, "action": self.actions}


def demonstrations(
    n: int, seed: int = 0, *, instruction: Instruction = "named", noise: float = 0.3
) -> Demonstrations:
    """``n`` (image, tokens, actions) triples from the expert's episodes.

    The expert's hand is pushed about by ``noise`` (in units of ``STEP``) while the actions that it
    wanted are recorded: so the data also show how to recover, as a policy that errs has to.
    """
    if n < 1:
        raise ValueError(f"demonstrations: n={n} must be at least 1.")
    episodes = -(-n // RECORDED)
    env = Reaching((seed, _DEMONSTRATIONS), episodes, instruction=instruction)
    rng = np.random.default_rng((seed, _DEMONSTRATIONS, 1))
    rows = []
    for _ in range(RECORDED):
        chunk = env.expert()
        rows.append((*env.observe(), chunk))
        push = rng.normal(0, noise, chunk.shape) * [1, 1, 1, 0, 0, 0, 0]
        env.execute(chunk + push)
    images, tokens, actions = (np.concatenate(column)[:n] for column in zip(*rows, strict=True))
    return Demonstrations(images, tokens, actions)


def evaluate(
    policy: Policy, episodes: int = 200, seed: int = 0, *, instruction: Instruction = "named"
) -> Score:
    """Closed loop: the policy acts in every episode at once, and success counts at the end."""
    env = Reaching((seed, _EVALUATION), episodes, instruction=instruction)
    for _ in range(CHUNKS):
        env.execute(policy(*env.observe()))
    return Score(int(env.success().sum()), episodes)


def chance_policy(seed: int = 0, pool: int = 6000) -> Policy:
    """A policy that answers with the expert's actions for other scenes, drawn by lot."""
    rng = np.random.default_rng((seed, _CHANCE))
    env = Reaching((seed, _CHANCE, 1), -(-pool // CHUNKS))
    chunks = []
    for _ in range(CHUNKS):
        chunks.append(env.expert())
        env.execute(chunks[-1])
    actions = np.concatenate(chunks)
    return lambda images, tokens: actions[rng.integers(len(actions), size=len(images))]


def _scatter(rng: np.random.Generator, n: int) -> np.ndarray:
    """Block centres at least ``APART`` from one another: (n, BLOCKS, 2)."""
    centres = np.empty((n, BLOCKS, 2))
    redo = np.arange(n)
    while len(redo):
        centres[redo] = rng.uniform(MARGIN, 1 - MARGIN, (len(redo), BLOCKS, 2))
        gaps = np.linalg.norm(centres[redo, :, None] - centres[redo, None], axis=-1)
        gaps += np.eye(BLOCKS)
        redo = redo[(gaps < APART).any(axis=(1, 2))]
    return centres


def _square(centre: np.ndarray, half: float | np.ndarray) -> np.ndarray:
    """How much of each pixel an upright square covers: centre (B, 2) -> (B, SIZE, SIZE)."""
    half = np.broadcast_to(half, len(centre))[:, None]
    edges = np.arange(SIZE) / SIZE
    x, y = (
        np.clip(
            (np.minimum(edges + 1 / SIZE, c + half) - np.maximum(edges, c - half)) * SIZE, 0, 1
        ).astype(np.float32)
        for c in (centre[:, :1], centre[:, 1:])
    )
    return y[:, :, None] * x[:, None, :]  # row is y, column is x
