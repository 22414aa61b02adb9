"""Lab 2: what the heads learn, and the proof; the measurements themselves on models whose answers are known."""

import json
import math

import pytest
import torch

from common.heads import jensen_shannon, silenced
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
    assert found["agreement"]["attention"].max() > 2 * found["agreement"]["even"]
    assert all(data["accuracy"] > 0.97 for data in found.values())
    without = silenced(trained, 0, 1, 2, 3)
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
    torch.testing.assert_close(silenced(model, 1).block.attention(x)[0], attention.w_o(kept))
    assert (attention.w_o.weight != 0).all()  # the original is untouched


def test_a_head_is_named_only_if_attention_and_ablation_agree():
    def judge(attention, drop, even=0.1):
        return lab2.verdict({"attention": torch.tensor(attention), "drop": torch.tensor(drop), "even": even})

    assert judge([0.1, 0.8], [0.0, 0.5]) == (1, 1, True)
    assert judge([0.1, 0.8], [0.5, 0.0]) == (1, 0, False)
    assert judge([0.1, 0.8], [0.0, 0.05]) == (1, None, False)  # not needed
    assert judge([0.1, 0.18], [0.0, 0.5]) == (1, 1, False)  # hardly looks there
    assert judge([0.8], [0.5]) == (0, 0, False)  # the only head is no specialist


@pytest.mark.parametrize(
    ("attention", "drop", "says"),
    [
        ([0.1, 0.8], [0.0, 0.5], "Head 1 looks at the subject (0.80; evenly spread: 0.12), and silencing it costs 50 points"),
        ([0.1, 0.8], [0.5, 0.0], "silencing head 0 costs 50 points"),
        ([0.1, 0.8], [0.0, 0.0], "silencing any one head costs at most 0 points"),
    ],
)
def test_the_headline_says_what_was_found(attention, drop, says):
    data = {"attention": torch.tensor(attention), "drop": torch.tensor(drop), "even": 0.12}
    fig = lab2.draw_heads(dict.fromkeys(lab2.LOOKS_AT, data), torch.ones(2, 3) / 3, ["a", "b", "c"], {1: 0.9, 2: 1.0})
    assert says in fig.get_suptitle().replace("\n", " ")


def test_jensen_shannon_of_equal_and_of_disjoint_weights():
    p, q = torch.tensor([[0.5, 0.5, 0.0, 0.0]]), torch.tensor([[0.0, 0.0, 0.3, 0.7]])
    assert jensen_shannon(p, p) == pytest.approx(0, abs=1e-7)
    assert jensen_shannon(p, q) == pytest.approx(math.log(2))
    assert jensen_shannon(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.5, 0.5]])) == pytest.approx(0.2157615)


def test_training_makes_heads_differ_more_than_random_ones(trained):
    torch.manual_seed(0)
    assert lab2.diversity(trained, TEST) > 2 * lab2.diversity(lab2.untrained_heads(trained), TEST)


def test_the_model_learned_the_first_noun_not_the_subject(trained):
    probe = lab2.probe_sentences()
    assert len({str(s) for s in probe}) == len(probe) == 240
    assert str(probe[0]) == "near the cats the dog is very cute"
    assert lab2.fill_gaps(trained, probe, "agreement")[0].float().mean() < 0.3


def test_a_pair_of_heads_costs_at_least_as_much_as_the_same_heads_alone(trained):
    found = lab2.measure_heads(trained, TEST)
    assert lab2.worst_pair(trained, TEST, "agreement") >= found["agreement"]["drop"].max() - 0.05
    everything = silenced(trained, 0, 1, 2, 3)
    assert lab2.worst_pair(everything, TEST, "agreement") == pytest.approx(0)


def test_where_a_hidden_verb_looks(trained):
    class Spy(torch.nn.Module):
        """Puts all weight on the word before the hidden one."""

        def forward(self, tokens, lengths):
            weights = torch.eye(tokens.shape[1]).roll(-1, dims=1)  # row t looks at t - 1
            return torch.zeros(*tokens.shape, len(lab2.VOCABULARY)), weights.expand(len(tokens), 1, -1, -1)

    found = lab2.measure_verb(Spy(), TEST)
    assert found["word before"].item() == 1 and found["word after"].item() == found["object"].item() == 0
    assert found["subject"].item() < 1


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
    found = lab2.path_summary(paths)
    assert found["RNN"]["decay"] < 0.7 and found["LSTM"]["decay"] < 0.8
    assert found["RNN"]["ratio"] < 1e-10 and found["LSTM, forget bias 3"]["ratio"] > 0.1
    assert 0.3 < found["attention"]["ratio"] < 3


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
        "probe.agrees_with_subject",
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
    lab2.show_components(lab, model, words)
    lab2.show_heads(lab, model, words)
    assert (tmp_path / "02_multi_head_attention.png").exists()
