"""One step of training: predictions, loss, gradients, a step of the optimizer, and old gradients cleared in time."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from week6.exercises import lesson
from week6.exercises.definition import Exercise, Inputs, MistakeError, type_name
from week6.exercises.inputs import tensor
from week6.exercises.sentences import NONE
from week6.exercises.verdict import Mistake


class LinearModel(nn.Module):
    """prediction = inputs @ weight, beginning at a weight that is given."""

    def __init__(self, start: Tensor):
        super().__init__()
        self.start = start
        self.weight = nn.Parameter(start.clone())

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs @ self.weight

    def fresh(self) -> LinearModel:
        return LinearModel(self.start)

    def __repr__(self) -> str:
        return f"x -> x @ weight, weight = {self.start.tolist()}"


class Descent:
    """Gradient descent: weight = weight - 0.1 * gradient. (torch.optim takes a second to load, and does the same.)"""

    def __init__(self, parameters: Iterable[nn.Parameter] = ()):
        self.param_groups = [{"params": list(parameters), "lr": 0.1}]
        self.calls: list[str] = []
        for p in self.param_groups[0]["params"]:
            p.register_hook(lambda gradient: self.calls.append("backward"))

    def zero_grad(self, set_to_none: bool = True) -> None:
        for p in self.param_groups[0]["params"]:
            p.grad = None if set_to_none or p.grad is None else torch.zeros_like(p)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = closure() if closure else None  # as torch's optimizers do
        self.calls.append("step")
        with torch.no_grad():
            for p in self.param_groups[0]["params"]:
                if p.grad is not None:
                    p -= self.param_groups[0]["lr"] * p.grad
        return loss

    def __repr__(self) -> str:
        return "weight = weight - 0.1 * gradient"


class Loss:
    """A loss that shows its formula in an example."""

    def __init__(self, formula: str, function: Callable[[Tensor, Tensor], Tensor]):
        self.formula, self.function = formula, function

    def __call__(self, predictions: Tensor, targets: Tensor) -> Tensor:
        return self.function(predictions, targets)

    def __repr__(self) -> str:
        return f"(predictions, targets) -> {self.formula}"


def training_step(
    model: nn.Module,
    loss_function: Callable[[Tensor, Tensor], Tensor],
    optimizer: Descent,
    inputs: Tensor,
    targets: Tensor,
    *,
    clear: str = "before backward",
    backward: bool = True,
    step: str = "after backward",
    exchanged: bool = False,
    returned: str = "number",
) -> float | Tensor:
    """Right with the defaults; each keyword makes a classic mistake."""
    if step == "before clearing":
        optimizer.step()
    if clear == "before backward":
        optimizer.zero_grad()
    predictions = model(inputs)
    loss = loss_function(targets, predictions) if exchanged else loss_function(predictions, targets)
    if step == "before backward":
        optimizer.step()
    if backward:
        loss.backward()
    if clear == "before the step":
        optimizer.zero_grad()
    if step == "after backward":
        optimizer.step()
    if returned == "loss after the step":
        return loss_function(model(inputs), targets).item()
    return loss if returned == "graph" else loss.item()


def three_steps(function: Callable, given: Inputs) -> Any:
    """What is looked at: the three losses, the weight after each step, and four counts, which are 0 for a right answer.

    These are the losses that keep their graph and, only where the weight never changes, the calls of backward, those of
    the optimizer's step, and the steps that came before their backward. A student may call them in many right ways.
    """
    model = given["model"].fresh()
    optimizer = Descent(model.parameters())
    losses, weights, n_graphs, n_early = [], [], 0, 0
    for _ in range(3):
        n_calls = len(optimizer.calls)
        loss = function(model, given["loss_function"], optimizer, given["inputs"], given["targets"])
        if isinstance(loss, Tensor) and loss.numel() == 1:
            n_graphs += loss.requires_grad
            loss = loss.item()
        if not isinstance(loss, float | int):
            raise MistakeError(NONE if loss is None else NOT_A_NUMBER.about(kind=type_name(loss)))
        losses.append(float(loss))
        weights.append(model.weight.detach().clone())
        n_early += optimizer.calls[n_calls:] == ["step", "backward"]
    moved = any(not torch.equal(weight, given["model"].start) for weight in weights)
    calls = [0, 0, 0] if moved else [optimizer.calls.count("backward"), optimizer.calls.count("step"), n_early]
    return torch.tensor(losses), torch.stack(weights), torch.tensor([n_graphs, *calls])


def observed(
    model: LinearModel, loss_function: Loss, optimizer: Descent, inputs: Tensor, targets: Tensor, **switches
) -> tuple[Tensor, ...]:
    """Three steps of the model answer."""
    given = {"model": model, "loss_function": loss_function, "inputs": inputs, "targets": targets}
    return three_steps(lambda *arguments: training_step(*arguments, **switches), given)


def cases() -> list[list[Inputs]]:
    """A line through points, which can be done by hand, then classes."""
    squared = Loss("mean of (predictions - targets)^2", F.mse_loss)
    # its gradient goes through the predictions only, and it is not the same with the two exchanged
    relative = Loss("mean of (predictions - targets)^2 / (1 + targets^2)", lambda p, t: ((p - t) ** 2 / (1 + t**2)).mean())
    data = [
        ([[1.0]], [[2.0]], [[0.5]], squared),
        ([[1.0]], [[2.0]], [[0.5]], relative),
        ([[1.0], [2.0]], [[2.0], [-1.0]], [[1.0]], relative),
        ([[1.0, 2.0], [0.5, -1.0], [-1.0, 1.0]], [[1.0], [0.0], [-2.0]], [[0.5], [-1.0]], relative),
    ]
    return [
        [
            {
                "model": LinearModel(tensor(weight)),
                "loss_function": loss,
                "optimizer": Descent(),
                "inputs": tensor(inputs),
                "targets": tensor(targets),
            }
            for inputs, targets, weight, loss in data
        ]
    ]


NOT_A_NUMBER = Mistake(
    "not a number",
    "loss를 숫자로 반환해야 하는데 반환값의 타입이 {kind}입니다.",
    "It must return the loss as a number, and returns this type: {kind}.",
)

MISTAKES = [
    Mistake(
        "gradients not cleared",
        "두 번째 step부터 이전 step의 gradient가 더해집니다: optimizer.zero_grad()가 빠진 것 같습니다. (backward는 "
        "gradient를 더합니다)",
        "From the second step on the gradients of earlier steps are added: is optimizer.zero_grad() missing (backward adds)?",
        {"clear": "never"},
    ),
    Mistake(
        "gradients cleared before the step",
        "학습해도 weight가 그대로입니다: backward()와 step() 사이에서 zero_grad()를 호출해 방금 구한 gradient를 지운 것 "
        "같습니다.",
        "The weights never change: zero_grad() between backward() and step() clears the gradients that were just computed?",
        {"clear": "before the step"},
    ),
    Mistake(
        "backward missing",
        "학습해도 weight가 그대로입니다: gradient를 계산하는 loss.backward()가 빠진 것 같습니다.",
        "The weights never change: is loss.backward(), which computes the gradients, missing?",
        {"backward": False},
    ),
    Mistake(
        "step missing",
        "학습해도 weight가 그대로입니다: weight를 고치는 optimizer.step()이 빠진 것 같습니다.",
        "The weights never change: is optimizer.step(), which changes them, missing?",
        {"step": "never"},
    ),
    Mistake(
        "step before backward",
        "학습해도 weight가 그대로입니다: loss.backward()보다 먼저 optimizer.step()을 호출하니, 그때는 gradient가 지워져 "
        "있습니다.",
        "The weights never change: optimizer.step() before loss.backward(), when the gradients have just been cleared?",
        {"step": "before backward"},
    ),
    Mistake(
        "step one late",
        "weight가 한 step씩 늦게 바뀝니다: optimizer.step()을 loss.backward()보다 먼저 호출해 이전 step의 gradient를 쓰는 "
        "것 같습니다.",
        "The weights follow one step late: optimizer.step() before loss.backward(), with the gradients of the step before?",
        {"step": "before clearing"},
    ),
    Mistake(
        "predictions and targets exchanged",
        "loss_function에 (targets, predictions)를 넘깁니다: 순서는 (predictions, targets)입니다.",
        "loss_function gets (targets, predictions): the order is (predictions, targets).",
        {"exchanged": True},
    ),
    Mistake(
        "loss keeps its graph",
        "loss를 텐서 그대로 반환해 계산 그래프가 메모리에 남습니다: loss.item()으로 숫자만 반환하세요.",
        "The loss is returned as a tensor, which keeps its whole graph in memory: return the number, loss.item().",
        {"returned": "graph"},
    ),
    Mistake(
        "loss after the step",
        "weight를 고친 다음의 loss를 반환합니다: 고치기 전에 계산한 loss를 반환하세요.",
        "The loss after the step is returned: return the one before it, from which the gradients came.",
        {"returned": "loss after the step"},
    ),
]

EXERCISE = Exercise(
    "training_step",
    lesson.TRAINING,
    observed,
    cases(),
    MISTAKES,
    parts=("losses", "weights", "calls"),
    call=three_steps,
    differentiable=False,
)
