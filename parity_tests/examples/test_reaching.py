from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from examples import _reaching as reaching
from examples._reaching import CHUNK, CHUNKS, Reaching, Score, demonstrations, evaluate


def within(score: Score, rate: float) -> bool:
    low, high = score.interval
    return low <= rate <= high


def play(env: Reaching, target: np.ndarray) -> Score:
    """The expert goes to ``target``, whatever the instruction says."""
    for _ in range(CHUNKS):
        env.execute(reaching.expert_chunk(env.position, env.angles, target))
    return Score(int(env.success().sum()), env.episodes)


def seen_gripper(images: np.ndarray) -> np.ndarray:
    """Where the white frame is, (B, 3), from the pixels alone; the larger, the higher."""
    white = np.clip((images.min(-1) - reaching.TABLE) / (1 - reaching.TABLE), 0, None)
    mass = white.sum((1, 2))
    pixels = (np.arange(reaching.SIZE) + 0.5) / reaching.SIZE
    x, y = white.sum(1) @ pixels / mass, white.sum(2) @ pixels / mass
    outer = np.sqrt(mass / 3) / reaching.SIZE  # a frame covers 3/4 of (2 outer)^2
    return np.stack([x, y, np.clip((outer - 0.05) / 0.07, 0, 1)], axis=1)


def seeing_policy(images: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """A policy that reads image and instruction by rules written for this task."""
    names = np.array([*reaching.VOCABULARY])[tokens]
    colours = [next((w for w in row if w in reaching.COLOURS), "red") for row in names]
    wanted = np.array([reaching.COLOURS[c] for c in colours])[:, None, None]
    match = np.linalg.norm(images - wanted, axis=-1) < 0.2
    mass = np.maximum(match.sum((1, 2)), 1)
    pixels = (np.arange(reaching.SIZE) + 0.5) / reaching.SIZE
    x, y = match.sum(1) @ pixels / mass, match.sum(2) @ pixels / mass
    target = np.stack([x, y, np.zeros_like(x)], axis=1)
    return reaching.expert_chunk(seen_gripper(images), np.zeros((len(images), 3)), target)


# ---- the task is fair -------------------------------------------------------------------------


def test_the_expert_succeeds():
    env = Reaching(0, 500)
    assert play(env, env.target).rate > 0.99


def test_an_expert_that_ignores_the_instruction_succeeds_one_time_in_three():
    env = Reaching(0, 2000)
    some = env.blocks[np.arange(2000), np.random.default_rng(1).integers(3, size=2000)]
    assert within(play(env, np.column_stack([some, np.zeros(2000)])), 1 / 3)


def test_no_place_on_the_table_is_a_safe_guess():
    env = Reaching(0, 2000)
    assert play(env, np.tile([0.5, 0.5, 0.0], (2000, 1))).rate < 0.1
    env.reset()
    centre = np.column_stack([env.blocks.mean(1), np.zeros(2000)])
    assert play(env, centre).rate < 0.1


def test_chance_is_low():
    assert evaluate(reaching.chance_policy(), 1000).rate < 0.03


def test_image_and_instruction_hold_all_that_is_needed():
    assert evaluate(seeing_policy, 300).rate > 0.95


def test_a_good_policy_told_any_block_succeeds_one_time_in_three():
    assert within(evaluate(seeing_policy, 400, instruction="any"), 1 / 3)


def test_a_good_policy_told_nothing_does_no_better():
    assert evaluate(seeing_policy, 300, instruction="masked").rate < 0.4


# ---- scenes -----------------------------------------------------------------------------------


def test_blocks_keep_apart_and_on_the_table():
    env = Reaching(0, 1000)
    gaps = np.linalg.norm(env.blocks[:, :, None] - env.blocks[:, None], axis=-1) + np.eye(3)
    assert gaps.min() >= reaching.APART
    assert env.blocks.min() >= reaching.MARGIN
    assert env.blocks.max() <= 1 - reaching.MARGIN
    assert all(len(set(row)) == 3 for row in env.colours)
    assert np.bincount(env.colours.ravel()).min() > 400  # of 500 each
    assert np.bincount(env.named).min() > 280  # of 333 each


def test_a_block_shows_its_colour_where_it_is():
    env = Reaching(0, 200)
    env.position[:] = (0, 0, 0)  # out of the way
    images, _ = env.observe()
    assert images.shape == (200, 32, 32, 3)
    assert images.dtype == np.float32
    assert images.min() >= 0
    assert images.max() <= 1
    column, row = (env.target[:, :2] * 32).astype(int).T
    colour = env.colours[np.arange(200), env.named]
    expected = np.array(list(reaching.COLOURS.values()), np.float32)[colour]
    np.testing.assert_allclose(images[np.arange(200), row, column], expected, atol=1e-6)


def test_the_gripper_is_drawn_where_it_is_and_larger_the_higher():
    env = Reaching(0, 200)
    env.position[:, :2] = np.random.default_rng(0).uniform(0.15, 0.85, (200, 2))
    error = np.abs(seen_gripper(env.observe()[0]) - env.position).max(0)
    assert (error < [0.005, 0.005, 0.02]).all()


def test_a_square_covers_its_area():
    centre = np.random.default_rng(0).uniform(0.2, 0.8, (50, 2))
    covered = reaching._square(centre, 0.123).sum((1, 2)) / 32**2
    np.testing.assert_allclose(covered, (2 * 0.123) ** 2, rtol=1e-5)


def test_instructions_name_the_target():
    env = Reaching(0, 100)
    _, tokens = env.observe()
    assert tokens.shape == (100, reaching.TOKENS)
    assert tokens.dtype == np.int32
    for row, colours, named in zip(tokens, env.colours, env.named, strict=True):
        words = {reaching.VOCABULARY[token] for token in row}
        assert words & set(reaching.COLOURS) == {list(reaching.COLOURS)[colours[named]]}
    assert len(np.unique(tokens[:, [0, 1]], axis=0)) == len(reaching.TEMPLATES)


def test_a_masked_instruction_says_nothing_and_changes_nothing_else():
    named, masked = Reaching(0, 50), Reaching(0, 50, instruction="masked")
    assert len(np.unique(masked.tokens)) == 1
    np.testing.assert_array_equal(named.observe()[0], masked.observe()[0])
    np.testing.assert_array_equal(named.target, masked.target)


# ---- rules ------------------------------------------------------------------------------------


def arrived(episodes: int = 4) -> Reaching:
    env = Reaching(0, episodes)
    env.position = env.target
    env.closed[:] = True
    return env


def test_success_needs_every_part():
    assert arrived().success().all()
    for axis in range(3):
        env = arrived()
        env.position[:, axis] += 1.01 * reaching.NEAR
        assert not env.success().any()
        env = arrived()
        env.angles[:, axis] -= 1.01 * reaching.LEVEL
        assert not env.success().any()
    env = arrived()
    env.closed[:] = False
    assert not env.success().any()
    env = arrived()
    env.named = (env.named + 1) % 3
    assert not env.success().any()


def test_a_step_moves_turns_and_grips():
    env = Reaching(0, 2)
    env.position[:] = 0.5
    env.step(np.array([[0.5, -1, 0, 0.1, 0, -0.2, 0.3], [9, 0, -9, 0, 0, 0, -0.1]]))
    step = reaching.STEP
    expected = [[0.5 + step / 2, 0.5 - step, 0.5], [0.5 + step, 0.5, 0.5 - step]]
    np.testing.assert_allclose(env.position, expected)
    np.testing.assert_allclose(env.angles, [[0.01, 0, -0.02], [0, 0, 0]])
    assert env.closed.tolist() == [True, False]


def test_the_gripper_stays_over_the_table():
    env = Reaching(0, 3)
    for _ in range(40):
        env.step(np.tile([1, -1, -1, 0, 0, 0, 0.0], (3, 1)))
    np.testing.assert_array_equal(env.position, [[1, 0, 0]] * 3)


@pytest.mark.parametrize("bad", [np.zeros((2, 6)), np.zeros(7), np.full((2, 7), np.nan)])
def test_a_bad_action_is_refused_and_changes_nothing(bad):
    env, same = Reaching(0, 2), Reaching(0, 2)
    with pytest.raises(ValueError, match="Reaching.step: expected finite actions"):
        env.step(bad)
    np.testing.assert_array_equal(env.position, same.position)
    np.testing.assert_array_equal(env.angles, same.angles)
    np.testing.assert_array_equal(env.closed, same.closed)


def test_misuse_is_refused():
    with pytest.raises(ValueError, match="Reaching.execute: expected finite"):
        Reaching(0, 2).execute(np.zeros((2, CHUNK + 1, 7)))
    with pytest.raises(ValueError, match="episodes=0"):
        Reaching(0, 0)
    with pytest.raises(ValueError, match="instruction='blind'"):
        Reaching(0, 1, instruction="blind")
    with pytest.raises(ValueError, match="n=0"):
        demonstrations(0)
    with pytest.raises(ValueError, match=r"unknown: \['orange'\]"):
        reaching.tokenise("reach the orange block")
    with pytest.raises(ValueError, match="at most 5 words"):
        reaching.tokenise("go to the red block the")


def test_a_chunk_not_finite_halfway_is_refused_and_changes_nothing():
    env, same = Reaching(0, 2), Reaching(0, 2)
    chunk = np.ones((2, CHUNK, 7))
    chunk[1, 2, 3] = np.inf
    with pytest.raises(ValueError, match="not finite"):
        env.execute(chunk)
    np.testing.assert_array_equal(env.position, same.position)


# ---- demonstrations and evaluation ------------------------------------------------------------


def test_demonstrations_are_what_the_policy_will_see():
    data = demonstrations(100, seed=3)
    assert data.images.shape == (100, 32, 32, 3)
    assert data.tokens.shape == (100, reaching.TOKENS)
    assert data.actions.shape == (100, CHUNK, 7)
    assert [a.dtype for a in data.arrays.values()] == [np.float32, np.int32, np.float32]
    assert np.abs(data.actions).max() <= 1
    assert set(np.unique(data.actions[..., 6])) == {-reaching.GRIP, reaching.GRIP}


def test_demonstrations_depend_on_the_seed_alone():
    one, same, other = demonstrations(60, 5), demonstrations(60, 5), demonstrations(60, 6)
    for name in ("images", "tokens", "actions"):
        np.testing.assert_array_equal(getattr(one, name), getattr(same, name))
        assert not np.array_equal(getattr(one, name), getattr(other, name))


def test_masked_demonstrations_differ_in_the_instruction_alone():
    named, masked = demonstrations(60, 5), demonstrations(60, 5, instruction="masked")
    np.testing.assert_array_equal(named.images, masked.images)
    np.testing.assert_array_equal(named.actions, masked.actions)
    assert len(np.unique(masked.tokens)) == 1


def test_no_scored_scene_is_among_the_demonstrations_of_the_same_seed():
    seen = []
    evaluate(lambda i, t: seen.append(i) or np.zeros((len(i), CHUNK, 7)), 50, seed=0)
    shown = demonstrations(50 * reaching.RECORDED, seed=0).images
    together = np.concatenate([seen[0], shown[:50]])
    assert len(np.unique(together.reshape(100, -1), axis=0)) == 100


def test_evaluation_asks_for_all_episodes_at_once():
    calls = []

    def still(images, tokens):
        calls.append((images.shape, tokens.shape))
        return np.zeros((len(images), CHUNK, 7), np.float32)

    assert evaluate(still, 30).successes == 0
    assert calls == [((30, 32, 32, 3), (30, reaching.TOKENS))] * CHUNKS


def test_evaluation_is_the_same_for_every_policy_and_run():
    assert evaluate(seeing_policy, 100, seed=4) == evaluate(seeing_policy, 100, seed=4)


@pytest.mark.parametrize("successes", [0, 1, 100, 170, 200])
def test_the_interval_is_wilsons(successes):
    expected = scipy.stats.binomtest(successes, 200).proportion_ci(method="wilson")
    assert Score(successes, 200).interval == pytest.approx(tuple(expected), abs=1e-6)


def test_a_score_reads_well():
    assert str(Score(170, 200)) == " 85.0% of 200 episodes (95 % interval 79.4% to 89.3%)"
