"""The end is a beginning: the student's functions are put together, learn a toy language, and fill gaps in sentences.

Every part of the model but the embedding and the last linear layer is the student's: `sinusoidal_encoding`, one
`post_norm_block` and one `pre_norm_block` (of `multi_head_attention`, `feed_forward` and `layer_norm`) under
`padding_mask`, `training_step` to train it, `softmax` for its probabilities. A second one learns under `causal_mask`, too,
and writes sentences word by word.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from types import ModuleType, SimpleNamespace

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR

from common.toy_language import IDS, MASK, MAX_WORDS, PAD, SKILLS, VOCABULARY, Sentence, encode, sentences
from common.training import NO_TARGET, PlainAdamW

D_MODEL, N_HEADS, D_FF = 32, 4, 64
BATCH, LR = 64, 1e-2
STEPS, STEPS_WRITING = 300, 150
BUDGET = 8.0  # seconds for training both models; functions that loop over numbers get fewer steps
END = IDS[PAD]  # what follows the last word of a sentence

Answers = ModuleType | SimpleNamespace
Say = Callable[[str, str], None]  # (English, Korean); Korean is empty where it would say the same


class Block(nn.Module):
    """Parameters for the student's block of one kind, "post" or "pre"."""

    def __init__(self, answers: Answers, kind: str):
        super().__init__()
        self.answers, self.block = answers, getattr(answers, f"{kind}_norm_block")
        self.w_q, self.w_k, self.w_v, self.w_o = (matrix(D_MODEL, D_MODEL) for _ in range(4))
        self.w_1, self.b_1 = matrix(D_MODEL, D_FF), nn.Parameter(torch.zeros(D_FF))
        self.w_2, self.b_2 = matrix(D_FF, D_MODEL), nn.Parameter(torch.zeros(D_MODEL))
        self.gamma_1, self.gamma_2 = (nn.Parameter(torch.ones(D_MODEL)) for _ in range(2))
        self.beta_1, self.beta_2 = (nn.Parameter(torch.zeros(D_MODEL)) for _ in range(2))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        mine = self.answers
        return self.block(
            x,
            lambda x: mine.multi_head_attention(x, self.w_q, self.w_k, self.w_v, self.w_o, N_HEADS, mask),
            lambda x: mine.feed_forward(x, self.w_1, self.b_1, self.w_2, self.b_2),
            lambda x: mine.layer_norm(x, self.gamma_1, self.beta_1),
            lambda x: mine.layer_norm(x, self.gamma_2, self.beta_2),
        )


def matrix(n_in: int, n_out: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(n_in, n_out) / n_in**0.5)


class Model(nn.Module):
    """Word numbers (B, T) -> scores (B, T, vocabulary); with `causal`, no word sees a later one."""

    def __init__(self, answers: Answers, *, causal: bool = False):
        super().__init__()
        self.answers, self.causal = answers, causal
        self.embedding = nn.Parameter(0.1 * torch.randn(len(VOCABULARY), D_MODEL))
        self.blocks = nn.ModuleList([Block(answers, "post"), Block(answers, "pre")])
        self.to_scores = nn.Linear(D_MODEL, len(VOCABULARY))

    def forward(self, tokens: Tensor) -> Tensor:
        n = tokens.shape[1]
        mask = self.answers.padding_mask((tokens != IDS[PAD]).sum(dim=1), n)  # (B, 1, 1, n)
        if self.causal:
            mask = mask & self.answers.causal_mask(n)  # (B, 1, n, n)
        x = self.embedding[tokens] + 0.1 * self.answers.sinusoidal_encoding(n, D_MODEL)  # (B, n, d_model)
        for block in self.blocks:
            x = block(x, mask)
        return self.to_scores(x)


class Schedule(PlainAdamW):
    """AdamW whose rate rises and falls, so that one call of `step` is all that the student has to do."""

    def __init__(self, model: nn.Module, n_steps: int):
        super().__init__(model.parameters(), lr=LR, foreach=True)
        self.schedule = OneCycleLR(self, LR, total_steps=n_steps)

    def step(self, closure: Callable | None = None) -> None:
        super().step(closure)
        self.schedule.step()


def loss_function(scores: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(scores.flatten(0, 1), targets.flatten(), ignore_index=NO_TARGET)


# --- what is learned ------------------------------------------------------------------------------------------------


def with_gaps(texts: Sequence[Sentence], seed: int) -> tuple[Tensor, Tensor]:
    """Sentences with one word hidden, and the hidden words; mostly a word that the rest of the sentence decides."""
    rng = random.Random(seed)
    hidden = torch.tensor([gap_of(sentence, rng) for sentence in texts])[:, None]  # (B, 1)
    tokens, _ = encode(sentence.words for sentence in texts)
    targets = torch.full_like(tokens, NO_TARGET).scatter(1, hidden, tokens.gather(1, hidden))
    return tokens.scatter(1, hidden, IDS[MASK]), targets


def gap_of(sentence: Sentence, rng: random.Random) -> int:
    if sentence.gaps and rng.random() < 0.8:
        return rng.choice(list(sentence.gaps.values()))[0]
    return rng.randrange(len(sentence.words))


def with_next_words(texts: Sequence[Sentence]) -> tuple[Tensor, Tensor]:
    """Sentences behind a start sign, and at each place the word that follows."""
    tokens, lengths = encode([MASK, *sentence.words] for sentence in texts)
    after = F.pad(tokens[:, 1:], (0, 1), value=END)  # (B, T)
    beyond = torch.arange(tokens.shape[1]) >= lengths[:, None]
    return tokens, after.masked_fill(beyond, NO_TARGET)


def train(answers: Answers, model: Model, data: tuple[Tensor, Tensor], seconds: float, say: Say) -> int:
    """The student's `training_step` over the data, as many steps as fit into the time. Returns their number."""
    tokens, targets = data
    n_steps = steps_that_fit(seconds, len(tokens) // BATCH, lambda: loss_function(model(tokens[:BATCH]), targets[:BATCH]))
    model.zero_grad()
    optimizer = Schedule(model, n_steps)
    for step in range(n_steps):
        rows = slice(step * BATCH, (step + 1) * BATCH)
        loss = answers.training_step(model, loss_function, optimizer, tokens[rows], targets[rows])
        if step in (0, n_steps - 1) or (step + 1) % 50 == 0:
            say(f"  step {step + 1:>3} of {n_steps}: loss {float(loss):.2f}", "")
    return n_steps


def steps_that_fit(seconds: float, most: int, loss: Callable[[], Tensor]) -> int:
    """How many steps, at most `most`, fit into the time; half of them also where only other programs are in the way."""
    for _ in range(2):  # the first step also pays for what torch sets up once
        clocks = time.perf_counter(), time.process_time()
        loss().backward()
    passed, computed = time.perf_counter() - clocks[0], time.process_time() - clocks[1]
    fitting, alone = (int(seconds / (1.3 * max(spent, 1e-6))) for spent in (passed, computed))  # the optimizer takes 0.3
    return max(2, min(most, max(fitting, min(alone, most // 2))))


# --- what is shown --------------------------------------------------------------------------------------------------


@torch.no_grad()
def fill(answers: Answers, model: Model, words: Sequence[str], gap: int) -> list[tuple[float, str]]:
    """The most probable words for the gap."""
    tokens = torch.tensor([[IDS[MASK] if i == gap else IDS[word] for i, word in enumerate(words)]])
    probabilities = answers.softmax(model(tokens)[0])[gap]  # (vocabulary,)
    best = probabilities.topk(3)
    return [(p, VOCABULARY[i]) for p, i in zip(best.values.tolist(), best.indices.tolist(), strict=True)]


def show_gaps(answers: Answers, model: Model, examples: Sequence[tuple[Sentence, str]], say: Say) -> None:
    for sentence, skill in examples:
        gap = sentence.gaps[skill][0]
        guesses = ", ".join(f"{word} {p:.2f}" for p, word in fill(answers, model, sentence.words, gap))
        say(f"  {' '.join('____' if i == gap else word for i, word in enumerate(sentence.words))}", "")
        say(f"    -> {guesses}", "")


def share_right(model: Model, test: Sequence[Sentence], skill: str) -> float:
    """How often the hidden word beats all its competitors."""
    right = 0
    with torch.no_grad():
        for sentence in test:
            gap, word, competitors = sentence.gaps[skill]
            tokens = torch.tensor([[IDS[MASK] if i == gap else IDS[w] for i, w in enumerate(sentence.words)]])
            scores = model(tokens)[0, gap]
            right += bool(scores[IDS[word]] > max(scores[IDS[other]] for other in competitors))
    return right / len(test)


@torch.no_grad()
def write(answers: Answers, model: Model, generator: torch.Generator) -> str:
    """A sentence, word by word: each is drawn from the probabilities of the next."""
    tokens = [IDS[MASK]]
    while len(tokens) <= MAX_WORDS:
        probabilities = answers.softmax(model(torch.tensor([tokens]))[0])[-1]
        tokens.append(int(torch.multinomial(probabilities, 1, generator=generator)))
        if tokens[-1] == END:
            break
    return " ".join(VOCABULARY[i] for i in tokens[1:] if i != END)


def examples_of(test: Sequence[Sentence]) -> list[tuple[Sentence, str]]:
    """One sentence for each skill; the verb's has a noun of the other number in between."""
    suitable = {
        skill: [s for s in test if skill in s.gaps and len(s.words) <= 12 and (skill != "agreement" or s.attractor)]
        for skill in SKILLS
    }
    return [(found[0], skill) for skill, found in suitable.items()]


def run(answers: Answers, say: Say) -> dict[str, float]:
    """Builds, trains, shows. Returns the share of gaps filled rightly, by skill."""
    torch.set_default_dtype(torch.float32)  # as in the exercises, and faster than the labs' float64
    torch.manual_seed(0)
    say("\nYour functions become a Transformer:", "\n여러분의 함수들이 모여 Transformer가 됩니다:")
    say("  embedding + sinusoidal_encoding -> post_norm_block -> pre_norm_block -> softmax", "")
    test = sentences(400, seed=99, held_out=True)
    examples, model = examples_of(test), Model(answers)
    say("Before training it fills gaps like this:", "학습하기 전에는 빈칸을 이렇게 채웁니다:")
    show_gaps(answers, model, examples[:1], say)
    say("Now it learns a toy language, by your training_step:", "이제 여러분의 training_step으로 작은 언어를 배웁니다:")
    start = time.perf_counter()
    data = with_gaps(sentences(STEPS * BATCH, seed=0, held_out=False), seed=0)
    n_steps = train(answers, model, data, 0.7 * BUDGET, say)
    seconds = time.perf_counter() - start
    say(
        f"After {seconds:.0f} seconds, on sentences it has never seen:",
        f"{seconds:.0f}초 동안 학습한 다음, 처음 보는 문장의 빈칸을 채웁니다:",
    )
    show_gaps(answers, model, examples, say)
    shares = {skill: share_right(model, [s for s in test if skill in s.gaps][:60], skill) for skill in SKILLS}
    say("Right on unseen sentences: " + ", ".join(f"{skill} {share:.0%}" for skill, share in shares.items()), "")

    writer = Model(answers, causal=True)
    say(
        "Another one sees no later word (your causal_mask), and learns to write:",
        "모델을 하나 더 만들어 이후의 단어를 보지 못하게 하면(여러분의 causal_mask) 글을 쓰는 법을 배웁니다:",
    )
    data = with_next_words(sentences(STEPS_WRITING * BATCH, seed=1, held_out=False))
    n_steps_writing = train(answers, writer, data, 0.3 * BUDGET, say)
    g = torch.Generator().manual_seed(1)
    for _ in range(4):
        say(f"  {write(answers, writer, g)}", "")
    if n_steps + n_steps_writing < STEPS + STEPS_WRITING:
        say(
            "(There was time for fewer steps than usual: loops over single numbers are slow, and so is a busy computer.)",
            "(정해진 시간 안에 평소보다 적은 step만 학습했습니다: 숫자를 하나씩 처리하는 반복문은 느리고, "
            "컴퓨터가 다른 일로 바쁠 때도 느립니다.)",
        )
    say("All of this is what you wrote. It works.", "이 모든 것이 여러분이 작성한 코드입니다. 잘 작동합니다.")
    return shares
