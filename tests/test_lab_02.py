"""Lab 2: what the heads learn, and the proof; the measurements themselves on models whose answers are known."""

import json
import math

import pytest
import torch

from common.toy_language import MaskedWordModel, sentences
from conftest import load, make_lab

lab2 = load(2)
TEST = sentences(300, 5, held_out=True)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The lab's model, trained in full (a few seconds)."""
    lab = make_lab(lab2, tmp_path_factory.mktemp("out"), "--seed", "1")
    lab.fast = False
    return lab2.train_model(lab, 4)


def test_agreement_across_attractors_is_learned(trained):
    assert lab2.attractor_accuracy(trained, TEST) >= 0.98
    assert abs(lab2.attractor_accuracy(MaskedWordModel().eval(), TEST) - 0.5) < 0.2


def test_heads_look_at_the_subject_and_carry_agreement(trained):
    found = lab2.measure_heads(trained, TEST)
    assert found["agreement"]["attention"].max() > 0.25  # an even spread would give about 0.12
    assert all(data["accuracy"] > 0.97 for data in found.values())
    without = trained
    for head in range(4):
        without = lab2.silenced(without, head)
    assert lab2.measure_heads(without, TEST)["agreement"]["accuracy"] < 0.7  # one head may be spared, not all of them


def test_silencing_removes_exactly_one_head():
    model = MaskedWordModel(4).eval()
    attention, x = model.block.attention, torch.randn(2, 5, 32)
    heads = []
    hook = attention.w_o.register_forward_hook(lambda layer, inputs, output: heads.append(inputs[0]))
    attention(x)
    hook.remove()
    kept = heads[0].clone()
    kept[..., 8:16] = 0
    torch.testing.assert_close(lab2.silenced(model, 1).block.attention(x)[0], attention.w_o(kept))
    assert (attention.w_o.weight != 0).all()  # the original is untouched


def test_a_head_is_named_only_if_attention_and_ablation_agree():
    def found(attention, drop):
        return {"agreement": {"attention": torch.tensor(attention), "drop": torch.tensor(drop)}}

    assert lab2.names_for_heads(found([0.1, 0.8], [0.0, 0.5])) == {"agreement": 1}
    assert lab2.names_for_heads(found([0.1, 0.8], [0.5, 0.0])) == {"agreement": None}
    assert lab2.names_for_heads(found([0.1, 0.8], [0.0, 0.05])) == {"agreement": None}


def test_diversity_is_training_and_zero_for_equal_heads(trained):
    model = MaskedWordModel(4).eval()
    for layer in (model.block.attention.w_q, model.block.attention.w_k):
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    assert lab2.diversity(model, TEST) == pytest.approx(0, abs=1e-6)
    assert 0.05 < lab2.diversity(trained, TEST) < math.log(2)
    assert lab2.diversity(MaskedWordModel(1).eval(), TEST) == 0


def test_look_inside_multiplies_as_the_paper_says(trained):
    seen = lab2.look_inside(trained, ["the", "cat", "sat", "on", "the", "mat"])
    q, k, v = (seen[name].view(6, 4, 8).transpose(0, 1) for name in "qkv")
    weights = (q @ k.transpose(1, 2) / math.sqrt(8)).softmax(dim=-1)
    torch.testing.assert_close(seen["weights"], weights)
    torch.testing.assert_close(seen["output"], trained.block.attention.w_o((weights @ v).transpose(0, 1).flatten(1)))


def test_cross_attention_learns_to_look_at_its_answer(tmp_path):
    reader = lab2.train_reader(make_lab(lab2, tmp_path), n_steps=120)
    found = lab2.measure_reader(reader, TEST)
    assert found["accuracy"] > 0.95 and found["weight"] > 3 * found["even_weight"]


def test_answers_are_marked_where_there_are_none():
    places, words = lab2.answers(TEST)
    for sentence, at, ids in zip(TEST, places.tolist(), words.tolist(), strict=True):
        for role, position, word in zip(lab2.QUESTIONS.values(), at, ids, strict=True):
            assert (role in sentence.at) == (position >= 0) == (word >= 0)
            assert position < 0 or lab2.VOCABULARY[word] == sentence.words[position]


def test_exponent_of_a_power_law():
    assert lab2.exponent(lab2.LENGTHS, [3 * n**1.7 for n in lab2.LENGTHS]) == pytest.approx(1.7)


def test_operation_counts_cross_at_n_equal_d():
    d = lab2.D_TIMED
    assert lab2.operation_count("RNN", d) == lab2.operation_count("attention", d) == d**3
    assert lab2.operation_count("RNN", d // 2) > lab2.operation_count("attention", d // 2)


def test_memory_is_measured():
    assert lab2.memory_bytes("attention", 2048) == 2048 * 2048 * 4
    assert lab2.memory_bytes("RNN", 16) == lab2.memory_bytes("RNN", 512) == lab2.D_TIMED * 4


def test_path_is_the_norm_of_the_jacobian():
    path = lab2.measure_path("RNN", seed=3, n=7, d=5)
    torch.manual_seed(3)
    layer = lab2.make_layer("RNN", 5).double()
    x = torch.randn(1, 7, 5, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda x: layer(x)[0][0, -1], x)  # (5, 1, 7, 5)
    for distance in range(7):
        assert path[distance].item() == pytest.approx(jacobian[:, 0, 6 - distance].norm().item())


def test_an_rnn_forgets_and_attention_does_not():
    paths = {kind: torch.stack([lab2.measure_path(kind, seed) for seed in range(3)]) for kind in lab2.PATH_KINDS}
    decay, ratio = lab2.path_summary(paths)
    assert decay["RNN"] < 0.7 and decay["LSTM"] < 0.8 and decay["LSTM, forget bias 3"] > 0.9
    assert 0.3 < ratio < 3


def test_the_forget_gate_is_the_one_that_is_opened():
    lstm = lab2.make_layer("LSTM, forget bias 3", 4)
    with torch.no_grad():
        for parameter in (lstm.weight_ih_l0, lstm.weight_hh_l0, lstm.bias_hh_l0):
            parameter.zero_()
        lstm.bias_ih_l0[:4] = -50.0  # the input gate closed: what is left of the cell is the forget gate's share
        cell = torch.ones(1, 1, 4)
        _, (_, kept) = lstm(torch.zeros(1, 1, 4), (torch.zeros(1, 1, 4), cell))
    torch.testing.assert_close(kept, torch.sigmoid(torch.tensor(3.0)) * cell)


def test_required_records(fast_runs):
    results = json.loads((fast_runs["02", "ascii"].out / "02_results.json").read_text())["results"]
    assert set(results) >= {
        "agreement.accuracy",
        "agreement.accuracy.attractor",
        "heads.subject_head",
        "heads.subject_attention",
        "heads.named_subject_head",
        *(f"ablation.{skill}.head_{head}" for skill in lab2.LOOKS_AT for head in range(4)),
        "diversity.trained",
        "diversity.untrained",
        *(f"n_heads.{count}.accuracy" for count in (1, 2, 4, 8)),
        "path.rnn.decay_per_step",
        "path.attention.ratio_far_to_near",
        "memory.attention.bytes.n2048",
    }


def test_committed_numbers_reach_the_target():
    results = json.loads((lab2.Path(lab2.__file__).parent / "outputs" / "02_results.json").read_text())["results"]
    assert results["agreement.accuracy.attractor"]["value"] >= 0.98


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--heads", "3"], "choose from 1, 2, 4, 8"),
        (["--heads", "x"], "invalid int"),
        (["--sentence", "the unicorn sat"], "unknown word 'unicorn'; known words: apple"),
        (["--sentence", ""], "0 words"),
        (["--sentence", "<mask> cat"], "unknown word '<mask>'"),
        (["--sentence", "the " * 17], "17 words"),
    ],
)
def test_a_mistake_is_one_line(flags, says, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        make_lab(lab2, tmp_path / "out", *flags)
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.count("\n") == 1 and says in error.replace("'1', '2', '4', '8'", "1, 2, 4, 8")


@pytest.mark.parametrize("flags", [("--heads", "1"), ("--heads", "8", "--sentence", "these old cats sleep")])
def test_other_heads_and_sentences(flags, tmp_path, monkeypatch):
    lab = make_lab(lab2, tmp_path, *flags)
    model = MaskedWordModel(lab.options.heads).eval()
    words = lab.options.sentence or lab2.sentence("the cat sat on the mat")
    monkeypatch.setattr(lab2, "train_model", lambda lab, n_heads, start=0: MaskedWordModel(n_heads).eval())
    lab2.show_heads(lab, model, words)
    assert (tmp_path / "02_multi_head_attention.png").exists()
