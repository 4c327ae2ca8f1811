"""Models of ``transformers``, unchanged: torch's outputs, at another size too."""

from __future__ import annotations

import ast

import pytest
import torch

from fluxmod import parity, porter
from parity_tests.porter.certified import require_equal
from parity_tests.porter.hub import HUB, make
from parity_tests.porter.test_feed import compare

pytest.importorskip("transformers", reason="models of transformers; install the extra 'test'")
pytestmark = pytest.mark.filterwarnings("ignore")
QUICK = ("bert", "gpt2", "llama", "vit")
UNROLLED = ("mamba",)  # its Python loop runs over the tokens: the length is the example's


def plain(output):
    return (
        {key: plain(value) for key, value in output.items()} if hasattr(output, "items") else output
    )


def names(every):
    return list(HUB) if every else list(QUICK)


@pytest.fixture(scope="module")
def every(request):
    return request.config.getoption("--samples") == "all"


def idle(source):
    """Constructors that take random numbers and draw none."""
    classes = [node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)]
    found = [(c.name, f) for c in classes for f in c.body if getattr(f, "name", "") == "__init__"]
    return [
        name
        for name, function in found
        if any(a.arg == "rngs" for a in function.args.kwonlyargs)
        and not any(isinstance(n, ast.Name) and n.id == "rngs" for n in ast.walk(function))
    ]


@pytest.mark.parametrize("name", list(HUB))
def test_a_model_and_its_port_give_the_same(name, every):
    if name not in names(every):
        pytest.skip("runs with --samples=all")
    model, inputs = make(name)
    ported = porter.port(model, **inputs)
    assert not idle(porter.source(ported))
    larger = {key: torch.cat([value, value.flip(0)[:1]]) for key, value in inputs.items()}
    if name not in UNROLLED and name not in ("t5", "whisper"):
        larger = {
            key: value if value.is_floating_point() else torch.cat([value, value[:, :2]], 1)
            for key, value in larger.items()
        }
    with torch.no_grad():
        compare(plain(porter.feed(ported, **inputs)), plain(model(**inputs)))
        compare(plain(porter.feed(ported, **larger)), plain(model(**larger)))


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_the_certificate_of_a_language_model(name):
    model, inputs = make(name)
    ported = porter.port(model, **inputs)
    require_equal(model, ported, **inputs)


def test_a_mask_that_eager_code_drops():
    """Nyström attention takes no mask of ones: torch traces it only as it runs."""
    import transformers

    torch.manual_seed(0)
    settings = transformers.NystromformerConfig(
        vocab_size=99,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=40,
        segment_means_seq_len=8,
        num_landmarks=4,
        conv_kernel_size=3,
    )
    model = transformers.NystromformerModel(settings).eval()
    tokens = torch.randint(0, 99, (2, 8))
    ported = porter.port(model, tokens)
    with torch.no_grad():
        compare(plain(porter.feed(ported, tokens)), plain(model(tokens)))


@pytest.fixture
def small():
    """A model as a user has it: configurations say ``use_cache=True`` unless somebody objects."""
    import transformers

    config = transformers.GPT2Config(
        vocab_size=50,
        n_embd=16,
        n_layer=1,
        n_head=2,
        n_positions=16,
        bos_token_id=0,
        eos_token_id=0,
    )
    assert config.use_cache
    return transformers.GPT2LMHeadModel(config).eval()


def test_a_cache_is_left_out(small):
    ids = torch.randint(0, 50, (2, 7))
    ported = porter.port(small, ids)
    got, want = porter.feed(ported, ids), small(ids)
    assert set(got) == {"logits"}
    assert want.past_key_values is not None
    torch.testing.assert_close(torch.tensor(got["logits"]), want.logits.detach())
    levels = parity.Options(levels=("L0", "L1", "L4"), per_module=False)
    parity.check(small, ported, ids, options=levels).require()
    assert small.config.use_cache


def test_a_folder_is_a_target(small, tmp_path, monkeypatch):
    """Its configuration names the class; its weights come back out, key by key."""
    from safetensors.torch import load_file
    from typer.testing import CliRunner

    from fluxmod.cli._app import app

    small.save_pretrained(tmp_path / "small")
    monkeypatch.chdir(tmp_path)
    written = ["-o", "small.py", "--weights", "w.safetensors"]
    arguments = ["port", "small", "--input", "input_ids=int64[2,7]<50", *written]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert "GPT2LMHeadModel: equal" in done.output
    assert "class GPT2LMHeadModel(" in (tmp_path / "small.py").read_text()
    wanted, got = load_file("small/model.safetensors"), load_file("w.safetensors")
    assert wanted.keys() <= got.keys()
    assert all(torch.equal(wanted[key], got[key]) for key in wanted)


def test_a_folder_whose_class_nobody_has(tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from fluxmod.cli._app import app

    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "config.json").write_text('{"architectures": ["NoSuchModel"]}')
    monkeypatch.chdir(tmp_path)
    refused = CliRunner().invoke(app, ["port", "odd", "--input", "int64[2,7]<50", "-o", "odd.py"])
    assert refused.exit_code == 2
    assert "NoSuchModel" in refused.output
    assert not (tmp_path / "odd.py").exists()
