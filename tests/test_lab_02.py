"""Lab 2: what the heads learn, and the proof; the measurements themselves on models whose answers are known."""

import ast
import json
import math
import re
import zlib
from pathlib import Path

import pytest
import torch

from common import sequence_layers
from common.heads import jensen_shannon, silenced
from common.sequence_layers import exponent, kept_bytes, make_layer, multiplications
from common.sink import ASKED, LENGTH, MARKED, share_of_error, share_of_error_of_a_constant, train_to_answer, unused_weight
from common.sink import draw as draw_problems
from common.skills import LOOKS_AT, probes
from common.toy_language import (
    VOCABULARY,
    MaskedWordModel,
    fill_gaps,
    judge_gaps,
    role_words,
    sentences,
    train_masked_words,
    verb_position,
)
from conftest import load, run_script
from week6.figures.self_attention import draw_heads, draw_rnn, draw_sink, over_starts

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
def test_the_loop_in_the_open_is_the_training_of_all_labs(n_steps, warmup, names):
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
    hide, *calls = lines
    assert "at = 1" in hide and len(calls) == 2 and "silenced" in calls[1]
    exec(hide.removeprefix("# "), there)
    for line in calls:
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
        assert data["drop"].tolist() == pytest.approx(costs, abs=1e-6)
        assert data["accuracy"] == pytest.approx(right[0].item() / len(usable))
        pair = judge_gaps(silenced(trained, 1, 3), usable, skill)[0].mean().item()
        assert data["pairs"][1, 3] == pytest.approx(1 - pair / data["log_odds"]) and len(data["pairs"]) == 6
        if skill == "agreement":
            assert max(costs) > 0.05  # or nothing would be compared


def test_log_odds_are_those_of_the_right_word_among_its_competitors(trained):
    sentence = next(s for s in TEST if "object" in s.gaps)
    at, word, competitors = sentence.gaps["object"]
    tokens, lengths = lab2.encode([[*sentence.words[:at], "<mask>", *sentence.words[at + 1 :]]])
    probabilities = trained(tokens, lengths)[0][0, at].softmax(dim=-1)
    p, *others = (probabilities[VOCABULARY.index(name)].item() for name in (word, *competitors))
    log_odds, right, weights = judge_gaps(trained, [sentence], "object")
    assert len(others) == 6 and log_odds.item() == pytest.approx(math.log(p / sum(others)))
    assert right.item() == (p > max(others)) and weights.shape == (1, 4, len(sentence.words))


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


def judge(attention, lost, pair=None, even=0.1):
    data = {"attention": torch.tensor(attention), "lost": torch.tensor(lost), "even": even}
    return lab2.verdict(data | {"pairs": {} if pair is None else {(0, 1): pair}})


def test_a_head_is_named_only_if_attention_and_ablation_agree():
    assert judge([0.1, 0.8], [0.0, 0.6]) == (1, 1, True)
    assert judge([0.1, 0.8], [0.6, 0.0]) == (1, 1, False)  # another head is needed
    assert judge([0.1, 0.8], [0.0, 0.4], pair=0.9) == (1, 2, False)  # shared
    assert judge([0.1, 0.8], [0.0, 0.4], pair=0.4) == (1, 3, False)
    assert judge([0.1, 0.18], [0.0, 0.6]) == (1, 1, False)  # hardly looks there
    assert judge([0.8], [0.6]) == (0, 1, False)  # the only head is no specialist


def drawn_heads(lost, starts):
    data = {"attention": torch.tensor([0.1, 0.8]), "lost": torch.tensor(lost), "even": 0.12, "pairs": {(0, 1): 1.0}}
    found = dict.fromkeys(LOOKS_AT, data)
    verdicts = dict.fromkeys(LOOKS_AT, lab2.verdict(data))
    return draw_heads(found, LOOKS_AT, verdicts, dict.fromkeys(LOOKS_AT, starts))


def test_the_headline_speaks_of_the_starts_or_of_this_run():
    none = {"needed": (), "named": ()}
    assert drawn_heads([0.0, 0.6], none).get_suptitle().startswith("In this run what hangs on a single head: agreement, obj")
    assert drawn_heads([0.0, 0.4], none).get_suptitle().endswith("nothing")
    fig = drawn_heads([0.0, 0.6], {"needed": (1, 2, 1, 3, 1), "named": (1, 0, 0, 0, 1)})
    title = " ".join(fig.get_suptitle().split())
    assert "single head in 3 of 5 random starts, the choice of the object in 3" in title
    widths = [bar.get_width() for container in fig.axes[2].containers for bar in container[:1]]
    assert widths == [2, 1, 1, 1]  # may be named, may not, shared by two, by more


def test_jensen_shannon_of_equal_and_of_disjoint_weights():
    p, q = torch.tensor([[0.5, 0.5, 0.0, 0.0]]), torch.tensor([[0.0, 0.0, 0.3, 0.7]])
    assert jensen_shannon(p, p) == pytest.approx(0, abs=1e-7)
    assert jensen_shannon(p, q) == pytest.approx(math.log(2))
    assert jensen_shannon(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.5, 0.5]])) == pytest.approx(0.2157615)


def test_training_makes_heads_differ_more_than_random_ones(trained):
    untrained = MaskedWordModel(4).eval()
    untrained.embedding, untrained.position = trained.embedding, trained.position
    assert lab2.diversity(trained, TEST) > 2 * lab2.diversity(untrained, TEST)  # tiny inputs: even attention


def test_larger_inputs_make_random_heads_differ(trained):
    tiny, usual = (lab2.diversity(lab2.with_random_heads(trained, size), TEST) for size in (1.0, 10.0))
    assert usual > 20 * tiny


def test_random_heads_read_the_trained_embeddings(names):
    model, untrained = names["model"], names["rivals"]["untrained"]
    assert untrained.embedding is model.embedding and untrained.position is model.position
    assert not torch.equal(untrained.block.attention.w_q.weight, model.block.attention.w_q.weight)
    scale = 1 / names["size"]
    torch.manual_seed(3)
    large = lab2.with_random_heads(model, scale).block.attention
    torch.manual_seed(3)
    plain = lab2.with_random_heads(model).block.attention
    torch.testing.assert_close(large.w_q.weight, scale * plain.w_q.weight)
    torch.testing.assert_close(large.w_v.weight, plain.w_v.weight)


def test_probes_put_two_nouns_of_different_number():
    found = probes("near the A the B _ cute")
    assert len({str(s) for s in found}) == len(found) == 60
    assert str(found[0]) == "near the cat the dogs is cute" and found[0].gaps["agreement"] == (5, "is", ("are",))


def test_neither_subject_nor_first_noun_but_its_place_was_learned(trained):
    agrees = {name: lab2.accuracy(trained, probes(pattern), "agreement") for name, pattern in lab2.PROBES.items()}
    assert min(agrees[name] for name in ("place_1", "place_2", "place_3")) > 0.95
    assert agrees["not_subject"] > 0.9  # so it is not the subject
    assert agrees["both_early"] < 0.8  # nor the first noun


def test_where_a_hidden_verb_looks():
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
    reader, roles = lab2.Reader(), list(lab2.QUESTIONS.values())
    lab2.train_reader(reader, roles, 120, zlib.crc32(b"0 reader sentences"))
    found = lab2.measure_reader(reader, roles, TEST)
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


def test_multiplications_are_those_that_torch_counts():
    from torch.utils.flop_counter import FlopCounterMode

    layer, x = make_layer("attention", 7), torch.randn(1, 13, 7)
    with FlopCounterMode(display=False) as counter:
        layer(x)
    assert counter.get_total_flops() == 2 * multiplications("attention", 13, 7)  # it counts additions, too


def test_attention_always_multiplies_more_than_an_rnn():
    assert multiplications("LSTM", 5, 3) == 4 * multiplications("RNN", 5, 3) == 4 * 5 * (3 * 3 + 3 * 3)
    for n in lab2.LENGTHS:
        assert multiplications("attention", n, 64) / multiplications("RNN", n, 64) == 2 + n / 64


def test_fused_attention_is_the_same_attention():
    ours, fused = make_layer("attention", 7), make_layer("fused attention", 7)
    fused.load_state_dict(ours.state_dict())
    x = torch.randn(1, 13, 7)
    torch.testing.assert_close(fused(x)[0], ours(x)[0])
    assert fused(x)[1] is None


def test_what_is_kept_at_inference():
    assert kept_bytes("attention", 13, 7) == 2 * 13 * 7 * 8
    assert kept_bytes("RNN", 13, 7) == kept_bytes("RNN", 113, 7) == 7 * 8


def test_path_is_the_norm_of_the_jacobian():
    path = lab2.measure_path("RNN", seed=3, n=7, d=5)
    torch.manual_seed(3)
    layer = make_layer("RNN", 5)
    x = torch.randn(1, 7, 5)
    jacobian = torch.autograd.functional.jacobian(lambda x: layer(x)[0][0, -1], x)  # (5, 1, 7, 5)
    for distance in range(7):
        assert path[distance].item() == pytest.approx(jacobian[:, 0, 6 - distance].norm().item())


def test_an_rnn_forgets_and_attention_does_not():
    paths = {k: torch.stack([lab2.measure_path(k, seed) for seed in range(5)]).median(dim=0).values for k in lab2.PATH_KINDS}
    ratio = {kind: (path[64] / path[1]).item() for kind, path in paths.items()}
    assert ratio["RNN"] < 1e-10 and ratio["LSTM"] < 1e-6 and ratio["LSTM, forget bias 3"] > 0.1
    assert 0.3 < ratio["attention"] < 3


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


def test_of_a_layers_times_the_fastest_counts(monkeypatch):
    clock = {"RNN": iter([5.0, 2.0, 9.0, 50.0, 70.0, 40.0]), "attention": iter([4.0, 8.0, 3.0, 20.0, 30.0, 60.0])}
    monkeypatch.setattr(sequence_layers, "make_layer", lambda kind, d: kind)
    monkeypatch.setattr(sequence_layers, "seconds", lambda kind, x: next(clock[kind]))
    found = sequence_layers.measure_times(("RNN", "attention"), [7, 11], 5, n_times=3)
    assert found == {"RNN": [2.0, 40.0], "attention": [3.0, 20.0]}  # by length


def test_the_figure_says_the_sizes_it_was_given():
    kinds, lengths = ("RNN", "attention"), (4, 8, 16, 32)
    exponents = dict.fromkeys(kinds, 1.7)
    values = {kind: [1, 2, 3, 4] for kind in kinds}
    paths = {kind: torch.rand(7) + 1 for kind in kinds}
    spread = dict.fromkeys(kinds, [(1.0, 2.0, 3.0)] * 2)
    keeps, no_spread = {"RNN": [0.2, 0.4, 0.3], "attention": [1.0]}, dict.fromkeys(kinds, [()] * 2)
    measured = (lengths, 11, values, 7, exponents, 8, values, paths, (1, 3))
    fig = draw_rnn(*measured, spread, keeps)
    alone = draw_rnn(*measured, no_spread, dict.fromkeys(kinds, (0.25,)))
    title = " ".join(fig.get_suptitle().split())
    assert title.endswith("keeps 0.30 (median of 3 starts, 0.20 to 0.40) of its gradient, attention 1.00")
    titles = [ax.get_title() + ax.get_title("left") for ax in (*fig.axes, *alone.axes)]  # where the style puts them or not
    assert titles[0] == "time, forward + backward (d = 11),\nn^p fitted from n = 8 on"
    assert "80 % of 3 starts" in titles[2] and "starts" not in titles[5]
    assert fig.axes[0].get_ylabel() == "ms (fastest of 7)"
    assert "RNN: n^1.7" in [text.get_text() for text in fig.axes[0].get_legend().get_texts()]
    assert "keeps 0.25 of" in alone.get_suptitle()


def test_values_over_starts():
    assert over_starts([0.456]) == "0.46" and over_starts([0.1, 0.9, 0.3]) == "0.30 (median of 3 starts, 0.10 to 0.90)"


# --- a softmax has to look somewhere --------------------------------------------------------------------------------------


def test_the_answer_is_the_average_of_the_marked_or_0():
    asked, marked, values, answers = draw_problems(500, 3)
    assert values.shape == (500, LENGTH) and values.min() >= 1 and values.max() <= 2
    assert (marked.sum(dim=1) == MARKED).all() and abs(asked.double().mean() - ASKED) < 0.06
    for is_asked, marks, numbers, answer in zip(asked, marked, values, answers, strict=True):
        assert answer.item() == pytest.approx(numbers[marks].mean().item() if is_asked else 0)


def test_weights_sum_to_1_unless_1_is_added_to_the_denominator():
    asked, marked, values, _ = draw_problems(7, 3)
    for rest in lab2.RESTS:
        torch.manual_seed(5)
        model = lab2.Average(rest)
        answers, weights = model(asked, marked, values)
        sums = weights.sum(dim=1)
        if rest == "plus_one":
            scores = (model.key(marked.long()) @ model.query(asked.long())[..., None])[..., 0] / math.sqrt(8)
            torch.testing.assert_close(weights, scores.exp() / (1 + scores.exp().sum(dim=1, keepdim=True)))
        else:
            torch.testing.assert_close(sums, torch.ones(7))
        torch.testing.assert_close(answers, (weights[:, -LENGTH:] * values).sum(dim=1))  # as it starts: no scale, no shift


def test_only_with_a_place_to_rest_nothing_can_be_said():
    test = draw_problems(1000, 11)
    models = {rest: train_to_answer(lab2.Average, rest, 200, 7) for rest in lab2.RESTS}
    errors = {rest: share_of_error(model, test) for rest, model in models.items()}
    assert errors["without"] > 0.9 * share_of_error_of_a_constant(test) > 0.6
    assert max(errors["with"], errors["plus_one"]) < 0.02
    assert min(unused_weight(models["with"], test), unused_weight(models["plus_one"], test)) > 0.7
    assert unused_weight(models["without"], test) == pytest.approx(0, abs=1e-12)


def test_the_error_of_simple_answers():
    test = draw_problems(1000, 11)
    answers = test[3]

    class Always(torch.nn.Module):
        def __init__(self, answer):
            super().__init__()
            self.answer = answer

        def forward(self, asked, marked, values):
            return torch.full(asked.shape, self.answer), None

    assert share_of_error(Always(0.0), test) == pytest.approx(1)
    assert share_of_error(Always(answers.mean().item()), test) == pytest.approx(share_of_error_of_a_constant(test))


def test_the_sinks_figure_shows_what_is_missing():
    weights = {
        "without": torch.tensor([0.25, 0.75]),
        "with": torch.tensor([0.5, 0.2, 0.3]),
        "plus_one": torch.tensor([0.1, 0.3]),
    }
    shown = {rest: [x, x] for rest, x in weights.items()}
    errors = {"without": 0.77, "with": 2e-4, "plus_one": 3e-4}
    fig = draw_sink(torch.tensor([True, False]), torch.tensor([1.5, 1.25]), shown, errors, dict.fromkeys(errors, ()))
    assert "0.77" in fig.get_suptitle() and "2e-04" in fig.get_suptitle()
    assert [text.get_text() for text in fig.axes[0].texts[0::3]] == ["none", "none", "0.50", "0.50", "0.60", "0.60"]
    assert [label.get_text() for label in fig.axes[0].get_xticklabels()] == ["rest", "*1.50*", "1.25"]


# --- the script ---------------------------------------------------------------------------------------------------------


def test_required_records(fast_runs):
    results = json.loads((fast_runs["02", "ascii"].out / "02_results.json").read_text())["results"]
    assert set(results) >= {
        "agreement.accuracy",
        "agreement.accuracy.attractor",
        "heads.subject_head",
        "heads.subject_attention",
        *(f"heads.{skill}.{name}" for skill in LOOKS_AT for name in ("needed", "named", "log_odds", "lost_by_two")),
        "probe.agrees_with_subject",
        *(f"ablation.{skill}.head_{head}" for skill in LOOKS_AT for head in range(4)),
        "diversity.trained",
        "diversity.untrained",
        *(f"n_heads.{count}.accuracy" for count in (1, 2, 4, 8)),
        "path.rnn.decay_per_step",
        "path.attention.ratio_far_to_near",
        "memory.attention.bytes.n2048",
        *(f"sink.error.{rest}" for rest in ("without", "with", "plus_one")),
        "sink.idle_weight",
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
def test_other_heads_and_sentences(flags, tmp_path, capsys):
    names = run_script(2, tmp_path, *flags)
    assert "nan" not in capsys.readouterr().out  # without a pair of heads
    assert (tmp_path / "02_multi_head_attention.png").exists() and (tmp_path / "02_self_attention_components.png").exists()
    results = json.loads((tmp_path / "02_results.json").read_text())["results"]
    n_heads = int(flags[1])
    assert names["guess"](names["model"], names["words"], names["at"])[1].shape[0] == n_heads
    assert sum(key.startswith("ablation.agreement.") for key in results) == n_heads
    assert ("diversity.trained" in results) == (n_heads > 1)  # one head is no pair
