"""Lab 2: what the heads learn, and the proof; the measurements themselves on models whose answers are known."""

import ast
import json
import math
import re
import zlib
from pathlib import Path

import pytest
import torch

from common.heads import jensen_shannon, silenced
from common.sequence_layers import exponent, make_layer
from common.toy_language import (
    VOCABULARY,
    MaskedWordModel,
    fill_gaps,
    probe_sentences,
    role_words,
    sentences,
    train_masked_words,
    verb_position,
)
from conftest import load, run_script
from week6.figures.self_attention import draw_heads, draw_rnn

lab2 = load(2)
TEST = sentences(300, 5, held_out=True)
SOURCE = Path(lab2.__file__).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def trained():
    """The lab's model, trained in full (a few seconds), with --seed 1."""
    torch.manual_seed(zlib.crc32(b"1 model"))
    model = MaskedWordModel(4)
    train_masked_words(model, 400, zlib.crc32(b"1 training sentences"))
    return model


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    """The top-level names that a run leaves."""
    return run_script(2, tmp_path_factory.mktemp("out"))


# --- the chapter --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n_steps", "warmup"), [(4, 0.0), (23, 0.1)])
def test_the_loop_in_the_open_is_the_training_of_all_labs(n_steps, warmup, names, capsys):
    """Run again with sizes changed, as a student would; to the last bit what common.training gives."""
    (cell,) = (node for node in ast.parse(SOURCE).body if isinstance(node, ast.If) and "optimizer.step" in ast.unparse(node))
    there = names | {"n_steps": n_steps, "warmup": warmup, "losses": None}
    seeds = [names["lab"].seed(name) for name in ("model", "training sentences")]
    there |= dict(zip(("tokens", "lengths", "hidden", "missing"), lab2.masked_sentences(n_steps * 64, seeds[1]), strict=True))
    exec(compile(ast.Module([cell], []), "the training cell", "exec"), there)
    torch.manual_seed(seeds[0])
    model = MaskedWordModel(4)
    losses = train_masked_words(model, n_steps, seeds[1])
    assert there["losses"] == losses and len(losses) == n_steps and not there["model"].training
    for ours, theirs in zip(there["model"].parameters(), model.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_what_the_prose_tells_to_play_with_runs(names):
    (block,) = re.findall(r"^# ```python\n(.*?)^# ```", SOURCE, flags=re.DOTALL | re.MULTILINE)
    there = dict(names)
    n_words, lines = len(names["words"]), block.splitlines()
    assert len(lines) == 2 and "silenced" in lines[1]
    for line in lines:
        there["best"] = there["weights"] = None
        exec(line.removeprefix("# "), there)
        assert len(there["best"]) == 3 and there["weights"].shape == (4, n_words, n_words)


def test_a_guess_is_the_models_and_so_are_its_weights(trained):
    words = ["the", "cat", "which", "we", "found", "yesterday", "is", "very", "cute"]
    best, weights = lab2.guess(trained, words, 6)
    assert next(iter(best)) == "is" and best["is"] > 0.9
    tokens, lengths = lab2.encode([[*words[:6], "<mask>", *words[7:]]])
    probabilities = trained(tokens, lengths)[0][0, 6].softmax(dim=-1)
    assert best == {VOCABULARY[i]: pytest.approx(probabilities[i].item(), abs=1e-3) for i in probabilities.topk(3).indices}
    torch.testing.assert_close(weights, trained.block.attention(trained.embed(tokens))[1][0])
    without, same = lab2.guess(silenced(trained, 0, 1, 2, 3), words, 6)
    assert without != best and torch.equal(same, weights)  # silenced heads still look


def test_the_layer_in_the_open_multiplies_as_the_paper_says(names):
    q, k, v = (names[name].view(6, 4, 8).transpose(0, 1) for name in "qkv")
    weights = (q @ k.transpose(1, 2) / math.sqrt(8)).softmax(dim=-1)
    torch.testing.assert_close(names["weights"], weights)
    layer = names["model"].block.attention
    torch.testing.assert_close(names["output"], layer.w_o((weights @ v).transpose(0, 1).flatten(1)))
    torch.testing.assert_close(names["output"], layer(names["x"][None])[0][0])


# --- heads --------------------------------------------------------------------------------------------------------------


def attractor_accuracy(model) -> float:
    return lab2.accuracy(model, [sentence for sentence in TEST if sentence.attractor], "agreement")


def test_agreement_across_attractors_is_learned(trained):
    assert attractor_accuracy(trained) >= 0.98
    assert abs(attractor_accuracy(MaskedWordModel().eval()) - 0.5) < 0.2


def test_heads_look_at_the_subject_and_carry_agreement(trained):
    found = lab2.measure_heads(trained, TEST)
    assert found["agreement"]["attention"].max() > 2 * found["agreement"]["even"]
    assert all(data["accuracy"] > 0.97 for data in found.values())
    without = silenced(trained, 0, 1, 2, 3)
    assert lab2.measure_heads(without, TEST)["agreement"]["accuracy"] < 0.7  # one head may be spared, not all of them


def test_what_a_silenced_head_costs(trained):
    for skill, data in lab2.measure_heads(trained, TEST).items():
        usable = [sentence for sentence in TEST if skill in sentence.gaps]
        right = [fill_gaps(m, usable, skill)[0].sum() for m in (trained, *(silenced(trained, head) for head in range(4)))]
        costs = [(right[0] - without).item() / len(usable) for without in right[1:]]
        assert data["drop"].tolist() == pytest.approx(costs, abs=1e-6) and data["accuracy"] == pytest.approx(
            right[0].item() / len(usable)
        )
        if skill == "agreement":
            assert max(costs) > 0.05  # or nothing would be compared


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
    found, gap = dict.fromkeys(lab2.LOOKS_AT, data), torch.ones(2, 3) / 3
    fig = draw_heads(found, lab2.LOOKS_AT, lab2.verdict(data), ["a", "b", "c"], 1, gap, {1: 0.9, 2: 1.0})
    assert [label.get_text() for label in fig.axes[0].get_xticklabels()] == ["a", "<b>", "c"]
    assert says in fig.get_suptitle().replace("\n", " ")


def test_jensen_shannon_of_equal_and_of_disjoint_weights():
    p, q = torch.tensor([[0.5, 0.5, 0.0, 0.0]]), torch.tensor([[0.0, 0.0, 0.3, 0.7]])
    assert jensen_shannon(p, p) == pytest.approx(0, abs=1e-7)
    assert jensen_shannon(p, q) == pytest.approx(math.log(2))
    assert jensen_shannon(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.5, 0.5]])) == pytest.approx(0.2157615)


def test_training_makes_heads_differ_more_than_random_ones(trained):
    untrained = MaskedWordModel(4).eval()
    untrained.embedding, untrained.position = trained.embedding, trained.position
    assert lab2.diversity(trained, TEST) > 2 * lab2.diversity(untrained, TEST)


def test_the_script_compares_with_random_heads_that_read_the_trained_embeddings(names):
    model, untrained = names["model"], names["untrained"]
    assert untrained.embedding is model.embedding and untrained.position is model.position
    assert not torch.equal(untrained.block.attention.w_q.weight, model.block.attention.w_q.weight)


def test_the_model_learned_the_first_noun_not_the_subject(trained):
    probe = probe_sentences()
    assert len({str(s) for s in probe}) == len(probe) == 240
    assert str(probe[0]) == "near the cats the dog is very cute"
    assert fill_gaps(trained, probe, "agreement")[0].float().mean() < 0.3


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
            return torch.zeros(*tokens.shape, len(VOCABULARY)), weights.expand(len(tokens), 1, -1, -1)

    found = lab2.measure_verb(Spy(), TEST)
    assert found["word before"].item() == 1 and found["word after"].item() == found["object"].item() == 0
    assert found["subject"].item() < 1


def test_cross_attention_learns_to_look_at_its_answer():
    torch.manual_seed(zlib.crc32(b"0 reader"))
    reader = lab2.Reader()
    lab2.train_reader(reader, 120, zlib.crc32(b"0 reader sentences"))
    found = lab2.measure_reader(reader, TEST)
    assert found["accuracy"] > 0.95 and found["weight"] > 3 * found["even_weight"]


def test_answers_are_marked_where_there_are_none():
    roles = list(lab2.QUESTIONS.values())
    places, words = role_words(TEST, roles)
    for sentence, at, ids in zip(TEST, places.tolist(), words.tolist(), strict=True):
        for role, position, word in zip(roles, at, ids, strict=True):
            assert (role in sentence.at) == (position >= 0) == (word >= 0)
            assert position < 0 or VOCABULARY[word] == sentence.words[position]


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("the cat which we found is very cute", 5),
        ("the mice sat near the dogs", 2),
        ("these old dogs", 2),
        ("the cat sat which is cute", 4),
    ],
)
def test_the_last_verb_is_found(text, at):
    assert verb_position(text.split()) == at


# --- attention against an RNN -------------------------------------------------------------------------------------------


def test_exponent_of_a_power_law():
    lengths = lab2.LENGTHS
    assert exponent(lengths, [3 * n**1.7 for n in lengths], fitted_from=256) == pytest.approx(1.7)
    bent = [n if n < 256 else n**1.7 for n in lengths]
    assert exponent(lengths, bent, fitted_from=256) == pytest.approx(1.7)


def test_operation_counts_cross_at_n_equal_d():
    d, counts = lab2.D_TIMED, lab2.operations
    at = lab2.LENGTHS.index(d)
    assert counts["RNN"][at] == counts["attention"][at] == d**3
    assert counts["RNN"][at - 1] > counts["attention"][at - 1]


def test_memory_is_measured():
    assert lab2.memory_bytes("attention", 2048, 64) == 2048 * 2048 * 4
    assert lab2.memory_bytes("RNN", 16, 64) == lab2.memory_bytes("RNN", 512, 64) == 64 * 4


def test_path_is_the_norm_of_the_jacobian():
    path = lab2.measure_path("RNN", seed=3, n=7, d=5)
    torch.manual_seed(3)
    layer = make_layer("RNN", 5).double()
    x = torch.randn(1, 7, 5, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda x: layer(x)[0][0, -1], x)  # (5, 1, 7, 5)
    for distance in range(7):
        assert path[distance].item() == pytest.approx(jacobian[:, 0, 6 - distance].norm().item())


def test_an_rnn_forgets_and_attention_does_not():
    paths = {kind: torch.stack([lab2.measure_path(kind, seed) for seed in range(3)]) for kind in lab2.PATH_KINDS}
    found = {kind: lab2.path_summary(path) for kind, path in paths.items()}
    assert found["RNN"]["decay"] < 0.7 and found["LSTM"]["decay"] < 0.8
    assert found["RNN"]["ratio"] < 1e-10 and found["LSTM, forget bias 3"]["ratio"] > 0.1
    assert 0.3 < found["attention"]["ratio"] < 3


def test_the_forget_gate_is_the_one_that_is_opened():
    lstm = make_layer("LSTM, forget bias 3", 4)
    with torch.no_grad():
        for parameter in (lstm.weight_ih_l0, lstm.weight_hh_l0, lstm.bias_hh_l0):
            parameter.zero_()
        lstm.bias_ih_l0[:4] = -50.0  # the input gate closed: what is left of the cell is the forget gate's share
        cell = torch.ones(1, 1, 4)
        _, (_, kept) = lstm(torch.zeros(1, 1, 4), (torch.zeros(1, 1, 4), cell))
    torch.testing.assert_close(kept, torch.sigmoid(torch.tensor(3.0)) * cell)


def test_an_unknown_layer_is_named():
    with pytest.raises(ValueError, match="got 'GRU'"):
        make_layer("GRU", 4)


def test_the_figure_says_the_sizes_it_was_given():
    kinds, lengths = ("RNN", "attention"), (4, 8, 16, 32)
    exponents = dict.fromkeys(kinds, 1.7)
    values = {kind: [1, 2, 3, 4] for kind in kinds}
    paths = {kind: torch.rand(5, 7) + 1 for kind in kinds}
    reach = {kind: {"decay": 0.12, "ratio": ratio} for kind, ratio in zip(kinds, (0.0, 0.34), strict=True)}
    fig = draw_rnn(lengths, 11, values, exponents, 8, values, values, paths, reach)
    title = " ".join(fig.get_suptitle().split())
    assert "keeps 0.12 of" in title and "keeps 0.34 of it from distance 1 to 6," in title
    assert [ax.get_title() + ax.get_title("left") for ax in fig.axes[::3]] == [
        "time, forward + backward (d = 11),\nn^p fitted from n = 8 on",
        "path (untrained, median of 5 seeds)",
    ]
    assert "RNN: n^1.7" in [text.get_text() for text in fig.axes[0].get_legend().get_texts()]


# --- the script ---------------------------------------------------------------------------------------------------------


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
    results = json.loads((Path(lab2.__file__).parent / "outputs" / "02_results.json").read_text())["results"]
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
        run_script(2, tmp_path / "out", *flags)
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.count("\n") == 1 and says in error.replace("'1', '2', '4', '8'", "1, 2, 4, 8")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("flags", [("--heads", "1"), ("--heads", "8", "--sentence", "these old cats sleep")])
def test_other_heads_and_sentences(flags, tmp_path):
    names = run_script(2, tmp_path, *flags)
    assert (tmp_path / "02_multi_head_attention.png").exists() and (tmp_path / "02_self_attention_components.png").exists()
    results = json.loads((tmp_path / "02_results.json").read_text())["results"]
    n_heads = int(flags[1])
    assert names["gap"].shape == (n_heads, len(names["words"]))
    assert sum(key.startswith("ablation.agreement.") for key in results) == n_heads
    assert ("diversity.trained" in results) == ("ablation_pair.object" in results) == (n_heads > 1)  # one head is no pair
