from __future__ import annotations

import copy
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from flax import nnx

import fluxmod
from fluxmod import convert, nn, optim
from fluxmod._errors import ConvertError, DtypeError, LayoutError, UnmatchedKeysError
from parity_tests.compare import bitwise
from parity_tests.optim.race import FlaxNet, TorchNet, batches, flat_state, torch_step

PAIRS = {
    "SGD": {"lr": 0.1},
    "SGD-momentum": {"lr": 0.1, "momentum": 0.9, "dampening": 0.2},
    "Adam": {"lr": 0.01},
    "Adam-amsgrad": {"lr": 0.01, "amsgrad": True},
    "AdamW": {"lr": 0.01, "weight_decay": 0.1},
}


class TorchConv(torch.nn.Module):
    """Layers whose weights all have other axes in Flax, with sizes that all differ."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(2, 3, (2, 4))
        self.head = torch.nn.Linear(3, 5, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.conv(x).mean((2, 3)))


class FlaxConv(nn.Module):
    def __init__(self, *, param_dtype: Any = jnp.float32, rngs: nnx.Rngs) -> None:
        self.conv = nn.Conv2d(2, 3, (2, 4), param_dtype=param_dtype, rngs=rngs)
        self.head = nn.Linear(3, 5, bias=False, param_dtype=param_dtype, rngs=rngs)


def trained(net, name, settings, steps=3, dtype=torch.float32):
    """A torch net and its optimizer after some steps on random gradients."""
    optimizer = getattr(torch.optim, name.partition("-")[0])(net.parameters(), **settings)
    torch.manual_seed(1)
    for _ in range(steps):
        for p in net.parameters():
            p.grad = torch.randn_like(p) if p.requires_grad else None
        optimizer.step()
    return optimizer


def net_pair(**settings):
    """TorchNet stepped with Adam, and the Flax net with its weights."""
    torch.manual_seed(0)
    theirs = TorchNet()
    ours = FlaxNet(rngs=nnx.Rngs(0))
    optimizer = trained(theirs, "Adam", settings)
    convert.to_flax(theirs, ours)
    return theirs, optimizer, ours


def tx_of(name, settings):
    return getattr(optim, name.partition("-")[0])(**settings)


@pytest.mark.parametrize("steps", [0, 3])
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
@pytest.mark.parametrize("name", PAIRS)
def test_round_trip_is_bitwise(name, dtype, steps):
    with jax.enable_x64(dtype == "float64"):
        torch.manual_seed(0)
        theirs = TorchConv().to(getattr(torch, dtype))
        optimizer = trained(theirs, name, PAIRS[name], steps)
        ours = FlaxConv(param_dtype=getattr(jnp, dtype), rngs=nnx.Rngs(0))
        convert.to_flax(theirs, ours)
        tx = tx_of(name, PAIRS[name])
        state = convert.optimizer_to_flax(optimizer, ours, tx, torch_model=theirs)
        assert jax.tree.structure(state) == jax.tree.structure(
            tx.init(nnx.state(ours, nn.is_trainable))
        )
        assert int(state.count) == (steps if "Adam" in name else steps > 0 and "-" in name)
        for like in (None, optimizer):
            back = convert.optimizer_to_torch(state, ours, tx, like=like)
            bitwise(flat_state(back), flat_state(optimizer.state_dict()))
            assert back["param_groups"] == optimizer.state_dict()["param_groups"]


def test_moments_have_the_layout_of_their_parameters():
    theirs = TorchConv()
    optimizer = trained(theirs, "Adam", {})
    ours = FlaxConv(rngs=nnx.Rngs(0))
    state = convert.optimizer_to_flax(optimizer, ours, optim.Adam())
    want = optimizer.state[theirs.conv.weight]["exp_avg"].permute(2, 3, 1, 0).numpy()
    np.testing.assert_array_equal(state.slots["exp_avg"]["conv"]["kernel"][...], want)


@pytest.mark.parametrize("name", PAIRS)
def test_torch_carries_on_from_what_came_back(name):
    torch.manual_seed(0)
    theirs, inputs = TorchNet(), batches(6).astype(np.float32)
    optimizer = getattr(torch.optim, name.partition("-")[0])(theirs.parameters(), **PAIRS[name])
    for x in inputs[:3]:
        torch_step(theirs, optimizer, x)
    ours, tx = FlaxNet(rngs=nnx.Rngs(0)), tx_of(name, PAIRS[name])
    convert.to_flax(theirs, ours)
    state = convert.optimizer_to_flax(optimizer, ours, tx)
    again = copy.deepcopy(theirs)
    other = getattr(torch.optim, name.partition("-")[0])(again.parameters(), **PAIRS[name])
    convert.load_optimizer_state_dict(other, convert.optimizer_to_torch(state, ours, tx))
    for x in inputs[3:]:
        torch_step(theirs, optimizer, x)
        torch_step(again, other, x)
    bitwise(again.state_dict(), theirs.state_dict())
    bitwise(flat_state(other.state_dict()), flat_state(optimizer.state_dict()))


def test_a_bfloat16_state_is_loaded_bit_for_bit():
    theirs = TorchConv().bfloat16()
    optimizer = trained(theirs, "Adam", {})
    ours, tx = FlaxConv(param_dtype=jnp.bfloat16, rngs=nnx.Rngs(0)), optim.Adam()
    state = convert.optimizer_to_flax(optimizer, ours, tx)
    other = torch.optim.Adam(theirs.parameters())
    convert.load_optimizer_state_dict(other, convert.optimizer_to_torch(state, ours, tx))
    bitwise(flat_state(other.state_dict()), flat_state(optimizer.state_dict()))


# Names


def shuffled_pair(**how):
    torch.manual_seed(0)
    theirs, ours = TorchNet(), FlaxNet(rngs=nnx.Rngs(0))
    order = ["fc2.weight", "norm.bias", "fc1.bias", "fc2.bias", "fc1.weight", "norm.weight"]
    named = dict(theirs.named_parameters())
    params = [(n, named[n]) if how.get("named") else named[n] for n in order]
    optimizer = torch.optim.Adam(params)
    torch_step(theirs, optimizer, batches(1)[0].astype(np.float32))
    return theirs, optimizer, ours, order


def check_names(theirs, optimizer, ours, state):
    for name, parameter in theirs.named_parameters():
        slot = next(s for s in convert.slots(ours) if s.key == name)
        module, leaf = slot.path.split(".")
        got = slot.leaf.to_torch(np.asarray(state.slots["exp_avg"][module][leaf][...]))
        np.testing.assert_array_equal(got, optimizer.state[parameter]["exp_avg"].numpy())


def test_names_by_identity():
    theirs, optimizer, ours, order = shuffled_pair()
    state = convert.optimizer_to_flax(optimizer, ours, optim.Adam(), torch_model=theirs)
    check_names(theirs, optimizer, ours, state)
    back = convert.optimizer_to_torch(state, ours, optim.Adam(), like=optimizer, torch_model=theirs)
    bitwise(flat_state(back), flat_state(optimizer.state_dict()))
    with pytest.raises(UnmatchedKeysError, match="are no parameters of the torch_model"):
        convert.optimizer_to_flax(optimizer, ours, optim.Adam(), torch_model=TorchNet())


def test_names_given():
    theirs, optimizer, ours, order = shuffled_pair()
    content = optimizer.state_dict()
    state = convert.optimizer_to_flax(content, ours, optim.Adam(), names=order)
    check_names(theirs, optimizer, ours, state)
    with pytest.raises(UnmatchedKeysError, match="5 names were given, and the optimizer has 6"):
        convert.optimizer_to_flax(content, ours, optim.Adam(), names=order[:5])
    with pytest.raises(
        UnmatchedKeysError, match=r"nonsense is no parameter(.|\n)*fc2.weight is tr"
    ):
        convert.optimizer_to_flax(content, ours, optim.Adam(), names=["nonsense", *order[1:]])
    with pytest.raises(UnmatchedKeysError, match="are one parameter, listed twice"):
        convert.optimizer_to_flax(content, ours, optim.Adam(), names=[order[1], *order[1:]])


def test_names_that_torch_recorded():
    theirs, optimizer, ours, _ = shuffled_pair(named=True)
    state = convert.optimizer_to_flax(optimizer.state_dict(), ours, optim.Adam())
    check_names(theirs, optimizer, ours, state)


def test_shapes_tell_a_wrong_order():
    _, optimizer, ours, _ = shuffled_pair()
    with pytest.raises(LayoutError, match=r"fc1.weight: exp_avg has shape \(3, 7\)"):
        convert.optimizer_to_flax(optimizer, ours, optim.Adam())


@pytest.mark.parametrize("listed", ["all", "trained"])
def test_frozen_parameters_have_no_state_on_either_side(listed):
    theirs, ours, tx = TorchNet(), FlaxNet(rngs=nnx.Rngs(0)), optim.Adam()
    fluxmod.freeze(theirs, "fc1")
    fluxmod.freeze(ours, "fc1")
    chosen = [p for p in theirs.parameters() if p.requires_grad or listed == "all"]
    optimizer = torch.optim.Adam(chosen)
    torch_step(theirs, optimizer, batches(1)[0].astype(np.float32))
    state = convert.optimizer_to_flax(optimizer, ours, tx)
    assert "fc1" not in state.slots["exp_avg"]
    back = convert.optimizer_to_torch(state, ours, tx, like=optimizer)
    bitwise(flat_state(back), flat_state(optimizer.state_dict()))
    assert back["param_groups"] == optimizer.state_dict()["param_groups"]


def test_an_order_that_tells_nothing_is_refused():
    _, optimizer, ours = net_pair()
    content = optimizer.state_dict()
    content["param_groups"][0]["params"] = [0, 1, 2]
    content["state"] = {}
    with pytest.raises(UnmatchedKeysError, match="has 3 parameters, and FlaxNet has 6, of which 6"):
        convert.optimizer_to_flax(content, ours, optim.Adam())


def test_a_tied_parameter_has_one_state():
    class Theirs(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.head = torch.nn.Embedding(5, 4), torch.nn.Linear(4, 5, bias=False)
            self.head.weight = self.embed.weight

    class Ours(nn.Module):
        def __init__(self, rngs):
            self.embed = nn.Embedding(5, 4, rngs=rngs)
            self.out = nn.Embedding(5, 4, rngs=rngs)
            self.out.embedding = self.embed.embedding

    theirs, ours, tx = Theirs(), Ours(nnx.Rngs(0)), optim.Adam()
    optimizer = trained(theirs, "Adam", {})
    for names in (None, ["out.weight"]):
        state = convert.optimizer_to_flax(optimizer, ours, tx, names=names)
        assert len(jax.tree.leaves(state.slots["exp_avg"])) == 1
        back = convert.optimizer_to_torch(state, ours, tx)
        bitwise(flat_state(back), flat_state(optimizer.state_dict()))


# Settings


def test_settings_that_differ_are_all_listed():
    _, optimizer, ours = net_pair(lr=0.01, betas=(0.8, 0.9), weight_decay=0.1)
    with pytest.raises(ConvertError) as error:
        convert.optimizer_to_flax(optimizer, ours, optim.Adam(lr=0.02, maximize=True))
    text = str(error.value)
    for expected in (
        "group 0: lr is 0.01 in torch and 0.02 here",
        "group 0: betas is (0.8, 0.9) in torch and (0.9, 0.999) here",
        "group 0: weight_decay is 0.1 in torch and 0 here",
        "group 0: maximize is False in torch and True here",
    ):
        assert expected in text
    back = optim.Adam(lr=0.01, betas=(0.8, 0.9), weight_decay=0.1)
    state = convert.optimizer_to_flax(optimizer, ours, back)
    with pytest.raises(ConvertError, match="lr is 0.5 in torch and 0.01 here"):
        convert.optimizer_to_torch(
            state,
            ours,
            back,
            like=torch.optim.Adam(
                TorchNet().parameters(), lr=0.5, betas=(0.8, 0.9), weight_decay=0.1
            ),
        )


def test_another_optimizer_is_refused():
    _, optimizer, ours = net_pair()
    with pytest.raises(ConvertError, match="the optimizer is torch's Adam and SGD here"):
        convert.optimizer_to_flax(optimizer, ours, optim.SGD())
    with pytest.raises(ConvertError, match="decoupled_weight_decay is False in torch and True"):
        convert.optimizer_to_flax(optimizer.state_dict(), ours, optim.AdamW(weight_decay=0))
    with pytest.raises(ConvertError, match="holds no optimizer of fluxmod.optim"):
        convert.optimizer_to_flax(optimizer, ours, optax.adam(1e-3))


def test_unknown_keys_of_a_group_are_refused_and_old_groups_read():
    _, optimizer, ours = net_pair()
    content = optimizer.state_dict()
    (group,) = content["param_groups"]
    old = {k: v for k, v in group.items() if k not in ("maximize", "decoupled_weight_decay")}
    convert.optimizer_to_flax({**content, "param_groups": [old]}, ours, optim.Adam())
    new = {**group, "cautious": True}
    with pytest.raises(ConvertError, match="cautious=True is unknown here"):
        convert.optimizer_to_flax({**content, "param_groups": [new]}, ours, optim.Adam())
    del group["eps"]
    with pytest.raises(ConvertError, match="eps is not given in torch"):
        convert.optimizer_to_flax(content, ours, optim.Adam())


@pytest.mark.parametrize("source", [None, {"state": {}}, {"param_groups": []}, torch.zeros(3)])
def test_what_is_no_optimizer_is_refused(source):
    with pytest.raises(ConvertError, match="expected a torch optimizer or its state_dict"):
        convert.optimizer_to_flax(source, FlaxNet(rngs=nnx.Rngs(0)), optim.Adam())


def schedule(count):
    return 0.01 * 0.5**count


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", ["Adam", "SGD"])
def test_a_schedule_goes_on_at_torchs_step(name):
    theirs, ours = TorchNet(), FlaxNet(rngs=nnx.Rngs(0))
    optimizer = getattr(torch.optim, name)(theirs.parameters(), lr=0.01)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    for x in batches(3).astype(np.float32):
        torch_step(theirs, optimizer, x)
        scheduler.step()
    tx = getattr(optim, name)(lr=schedule)
    if name == "SGD":
        with pytest.raises(ConvertError, match="does not count the steps.*pass step="):
            convert.optimizer_to_flax(optimizer, ours, tx)
    state = convert.optimizer_to_flax(optimizer, ours, tx, step=3)
    assert int(state.count) == 3
    back = convert.optimizer_to_torch(state, ours, tx, like=optimizer)
    assert back["param_groups"] == optimizer.state_dict()["param_groups"]
    fresh = convert.optimizer_to_torch(state, ours, tx)["param_groups"][0]["lr"]
    assert fresh == pytest.approx(0.01 / 8, rel=1e-15)
    with pytest.raises(ConvertError, match=r"lr is 0.00125 in torch and 0.01 here at step 0|num"):
        convert.optimizer_to_flax(optimizer, ours, tx, step=0)
    with pytest.raises(ConvertError, match="lr follows a scheduler in torch"):
        convert.optimizer_to_flax(optimizer, ours, getattr(optim, name)(lr=0.00125), step=3)


# State


def test_steps_that_differ_are_refused():
    theirs, optimizer, ours = net_pair()
    optimizer.state[theirs.norm.bias]["step"] += 2
    with pytest.raises(
        ConvertError, match=r"different numbers of steps: fc1.weight 3.*norm.bias 5"
    ):
        convert.optimizer_to_flax(optimizer, ours, optim.Adam())
    optimizer.state[theirs.norm.bias]["step"] -= 2
    with pytest.raises(ConvertError, match=r"different numbers of steps: .*step= 7"):
        convert.optimizer_to_flax(optimizer, ours, optim.Adam(), step=7)
    for entry in optimizer.state.values():
        entry["step"] += 0.5
    with pytest.raises(ConvertError, match="no whole numbers"):
        convert.optimizer_to_flax(optimizer, ours, optim.Adam())


def test_a_parameter_that_never_had_a_gradient_is_named():
    theirs, optimizer, ours = net_pair()
    optimizer.state.pop(theirs.fc2.bias)
    with pytest.raises(UnmatchedKeysError, match="fc2.bias has no state in torch, though others"):
        convert.optimizer_to_flax(optimizer, ours, optim.Adam())
    state = convert.optimizer_to_flax(optimizer, ours, optim.Adam(), allow_missing=["fc2.bias"])
    assert not np.any(state.slots["exp_avg"]["fc2"]["bias"][...])
    assert np.all(state.slots["exp_avg"]["fc2"]["kernel"][...] != 0)
    fluxmod.freeze(ours, "fc2.bias")
    state = convert.optimizer_to_flax(optimizer, ours, optim.Adam())
    back = convert.optimizer_to_torch(state, ours, optim.Adam(), like=optimizer)
    bitwise(flat_state(back), flat_state(optimizer.state_dict()))


def test_state_of_a_parameter_that_is_frozen_here_is_kept_for_the_way_back():
    _, optimizer, ours = net_pair()
    fluxmod.freeze(ours, "fc1")
    with pytest.raises(UnmatchedKeysError) as error:
        convert.optimizer_to_flax(optimizer, ours, optim.Adam())
    for name in ("fc1.weight", "fc1.bias"):
        assert f"{name} has state in torch and is frozen in the Flax model" in str(error.value)
    state = convert.optimizer_to_flax(optimizer, ours, optim.Adam(), allow_unexpected=["fc1"])
    back = convert.optimizer_to_torch(state, ours, optim.Adam(), like=optimizer)
    bitwise(flat_state(back), flat_state(optimizer.state_dict()))


def test_a_parameter_that_torch_does_not_train_is_named():
    theirs, ours = TorchNet(), FlaxNet(rngs=nnx.Rngs(0))
    optimizer = torch.optim.Adam(theirs.fc1.parameters())
    torch_step(theirs, optimizer, batches(1)[0].astype(np.float32))
    with pytest.raises(UnmatchedKeysError, match="fc2.bias is trained in Flax, and the torch opt"):
        convert.optimizer_to_flax(optimizer, ours, optim.Adam(), torch_model=theirs)
    state = optim.Adam().init(nnx.state(ours, nn.is_trainable))
    with pytest.raises(UnmatchedKeysError, match="norm.weight is trained in Flax"):
        convert.optimizer_to_torch(state, ours, optim.Adam(), like=optimizer, torch_model=theirs)


def test_arrays_that_do_not_fit_are_all_listed():
    theirs, optimizer, ours = net_pair()
    optimizer.state[theirs.fc1.weight]["exp_avg"] = torch.zeros(5, 7)
    optimizer.state[theirs.fc1.bias]["exp_avg_sq"] = torch.zeros(7, dtype=torch.float64)
    with pytest.raises(LayoutError, match=r"\(5, 7\), expected \(7, 5\)(.|\n)*float64, expected"):
        convert.optimizer_to_flax(optimizer, ours, optim.Adam())
    optimizer.state[theirs.fc1.weight]["exp_avg"] = torch.zeros(7, 5)
    with pytest.raises(DtypeError, match="fc1.bias: exp_avg_sq is float64, expected float32"):
        convert.optimizer_to_flax(optimizer, ours, optim.Adam())
    optimizer.state[theirs.fc1.bias]["surprise"] = optimizer.state[theirs.fc1.bias].pop("exp_avg")
    with pytest.raises(UnmatchedKeysError, match="lacks 'exp_avg'(.|\n)*unknown 'surprise'"):
        convert.optimizer_to_flax(optimizer, ours, optim.Adam())
    content = optimizer.state_dict()
    content["state"][17] = content["state"].pop(0)
    with pytest.raises(UnmatchedKeysError, match="has entries .17. that no parameter group lists"):
        convert.optimizer_to_flax(content, ours, optim.Adam())


def test_amsgrad_needs_its_maximum():
    _, optimizer, ours = net_pair(amsgrad=True)
    with pytest.raises(UnmatchedKeysError, match="has the unknown 'max_exp_avg_sq'"):
        convert.optimizer_to_flax(optimizer, ours, optim.Adam())


# Optimizers within other transformations


def test_the_optimizer_is_found_in_a_chain():
    _, optimizer, ours = net_pair()
    tx = optax.chain(optim.clip_grad_norm(1.0), optim.Adam())
    state = convert.optimizer_to_flax(optimizer, ours, tx)
    assert int(state[1].count) == 3
    back = convert.optimizer_to_torch(state, ours, tx, like=optimizer)
    bitwise(flat_state(back), flat_state(optimizer.state_dict()))


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_groups_with_settings_of_their_own(momentum):
    theirs, ours = TorchNet(), FlaxNet(rngs=nnx.Rngs(0))
    decay = [p for n, p in theirs.named_parameters() if n.endswith("weight") and "fc" in n]
    plain = [p for n, p in theirs.named_parameters() if not (n.endswith("weight") and "fc" in n)]
    optimizer = torch.optim.SGD(
        [
            {"params": decay, "weight_decay": 0.1, "momentum": 0.9},
            {"params": plain, "momentum": momentum},
        ]
    )
    torch_step(theirs, optimizer, batches(1)[0].astype(np.float32))

    def labels(params):
        return jax.tree.map(lambda p: "decay" if p.ndim > 1 else "plain", params)

    def both(weight_decay):
        return optax.partition(
            {
                "decay": optim.SGD(weight_decay=weight_decay, momentum=0.9),
                "plain": optim.SGD(momentum=momentum),
            },
            labels,
        )

    state = convert.optimizer_to_flax(optimizer, ours, both(0.1), torch_model=theirs)
    back = convert.optimizer_to_torch(state, ours, both(0.1), like=optimizer, torch_model=theirs)
    bitwise(flat_state(back), flat_state(optimizer.state_dict()))
    fresh = convert.optimizer_to_torch(state, ours, both(0.1))
    assert [g["weight_decay"] for g in fresh["param_groups"]] == [0.1, 0]
    assert [g["params"] for g in fresh["param_groups"]] == [[0, 1], [2, 3, 4, 5]]
    with pytest.raises(ConvertError, match="group 0: weight_decay is 0.1 in torch and 0.2 here"):
        convert.optimizer_to_flax(optimizer, ours, both(0.2), torch_model=theirs)


def test_state_that_torch_has_no_place_for_is_named():
    _, optimizer, ours = net_pair()
    tx = optax.MultiSteps(optim.Adam(), every_k_schedule=2)
    state = convert.optimizer_to_flax(optimizer, ours, tx)
    with pytest.raises(UnmatchedKeysError, match="opt_state holds 'mini_step'"):
        convert.optimizer_to_torch(state, ours, tx, like=optimizer)
    dropped = ["mini_step", "gradient_step", "acc_grads", "skip_state"]
    back = convert.optimizer_to_torch(state, ours, tx, like=optimizer, allow_unexpected=dropped)
    bitwise(flat_state(back), flat_state(optimizer.state_dict()))


def test_the_state_of_another_model_is_refused():
    other = optim.Adam().init(nnx.state(FlaxConv(rngs=nnx.Rngs(0)), nn.is_trainable))
    with pytest.raises(UnmatchedKeysError, match="belongs to another model"):
        convert.optimizer_to_torch(other, FlaxNet(rngs=nnx.Rngs(0)), optim.Adam())
    wide = FlaxNet(rngs=nnx.Rngs(0))
    wide.fc2 = nn.Linear(7, 4, rngs=nnx.Rngs(0))
    other = optim.Adam().init(nnx.state(wide, nn.is_trainable))
    with pytest.raises(UnmatchedKeysError, match=r"exp_avg.fc2.kernel float32\(7, 4\)"):
        convert.optimizer_to_torch(other, FlaxNet(rngs=nnx.Rngs(0)), optim.Adam())
