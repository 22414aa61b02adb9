"""What is said about mistakes that can happen in any exercise, and what Python's error messages mean.

Light: does not load torch, because the process that starts the grader says some of this, too.
"""

from __future__ import annotations

import re

from week6.exercises.verdict import Mistake

# --- the function and what it calls ---------------------------------------------------------------------------------

MISSING = Mistake(
    "missing function",
    "{name}() 함수를 찾을 수 없습니다: 이름을 바꾸거나 지우지 않았나요?",
    "There is no function {name}(): was it renamed or deleted?",
)
RAISE_LEFT = Mistake(
    "raise left standing",
    "코드를 작성했지만 `raise NotImplementedError`가 남아 있어 함수가 거기서 멈춥니다: 그 줄을 지우세요.",
    "There is code, but `raise NotImplementedError` still stands in it and ends the function: delete that line.",
)
UNWRITTEN = Mistake(
    "unwritten function",
    "아직 작성하지 않은 함수 {other}()를 호출하고 있습니다: 그 함수를 먼저 작성하세요.",
    "It calls {other}(), which is not written yet: write that first.",
)
CALLS_WRONG = Mistake(
    "calls a wrong function",
    "이 함수가 호출하는 {other}()가 아직 올바르지 않습니다: {other}()부터 고치세요.",
    "It calls {other}(), which is still wrong: put that right first.",
)
USES_TORCH = Mistake(
    "torch's own function",
    "torch에 이미 있는 함수 {name}()를 호출합니다: 이 과제에서는 exp, sum, mean 같은 기본 연산으로 직접 작성해 보세요.",
    "It calls torch's own {name}(): in this exercise write it yourself, from operations such as exp, sum and mean.",
)
HANGS = Mistake(
    "does not end",
    "{seconds:g}초가 지나도 끝나지 않아 멈추었습니다{where}: 끝나지 않는 반복문이 있지 않나요?",
    "It had not ended after {seconds:g} s and was stopped{where}: a loop without end?",
)
CRASHES = Mistake(
    "ends the interpreter",
    "실행하는 도중에 Python 자체가 종료됩니다{where}: os._exit()를 호출하거나, 자기 자신을 끝없이 호출하거나, 메모리를 잘못 "
    "건드리지 않았나요?",
    "Python itself ends while it runs{where}: by os._exit(), by calling itself without end, or by touching memory that is "
    "not there?",
)
GRADER_FAILED = Mistake(
    "grader failed",
    "이 답은 채점할 수 없었습니다. 채점기의 오류일 수 있으니 담당 조교에게 알려 주세요: {error}",
    "This answer could not be graded, which may be the grader's fault: please tell your teacher: {error}",
)

# --- what it returns ------------------------------------------------------------------------------------------------

NONE = Mistake(
    "returns None",
    "함수가 None을 반환합니다: return 문을 빠뜨리지 않았나요?",
    "It returns None: is the return statement missing?",
)
NUMPY = Mistake(
    "NumPy array",
    "torch 텐서가 아니라 NumPy 값을 반환합니다: NumPy에서는 gradient가 끊기므로 torch 연산만 사용하세요.",
    "It returns a NumPy value, not a torch tensor: NumPy cuts off the gradient, so use torch operations only.",
)
NOT_A_TENSOR = Mistake(
    "not a tensor",
    "torch 텐서를 반환해야 하는데 반환값의 타입이 {kind}입니다.",
    "It must return a torch tensor, and returns this type: {kind}.",
)
NOT_A_TUPLE = Mistake(
    "not a tuple",
    "텐서 {count}개({parts})를 이 순서로 반환해야 하는데 반환값의 타입이 {kind}입니다.",
    "It must return {count} tensors ({parts}), in this order, and returns this type: {kind}.",
)
SHAPE = Mistake(
    "wrong shape",
    "{part}의 shape이 {expected}이어야 하는데 {got}입니다.",
    "The shape of the {part} must be {expected} and is {got}.",
)
AXES_EXCHANGED = Mistake(
    "wrong shape",
    "{part}의 shape이 {expected}이어야 하는데 {got}입니다: 두 축의 순서가 바뀌지 않았나요?",
    "The shape of the {part} must be {expected} and is {got}: are two axes exchanged?",
)
AXIS_MISSING = Mistake(
    "wrong shape",
    "{part}의 shape이 {expected}이어야 하는데 {got}입니다: 축 하나가 빠졌습니다.",
    "The shape of the {part} must be {expected} and is {got}: an axis is missing.",
)
AXIS_TOO_MANY = Mistake(
    "wrong shape",
    "{part}의 shape이 {expected}이어야 하는데 {got}입니다: 축이 하나 더 있습니다.",
    "The shape of the {part} must be {expected} and is {got}: there is an axis too many.",
)
DTYPE = Mistake(
    "wrong dtype",
    "{part}의 dtype이 {expected}이어야 하는데 {got}입니다.",
    "The dtype of the {part} must be {expected} and is {got}.",
)
NAN = Mistake(
    "NaN",
    "{part}에 NaN이나 무한대가 들어 있습니다: 아래의 가장 작은 예에서 0/0, inf - inf, 0 * inf가 생기는 곳을 찾아보세요.",
    "The {part} contains NaN or infinity: look for 0/0, inf - inf or 0 * inf in the smallest example below.",
)
UNKNOWN = Mistake(
    "unknown",
    "답이 틀렸지만 채점기가 아는 실수는 아닙니다: 아래의 가장 작은 예를 손으로 계산해 비교해 보세요.",
    "The answer is wrong in a way the grader does not recognise: work the smallest example below by hand and compare.",
)
IN_PLACE = Mistake(
    "input modified in place",
    "함수를 호출하고 나면 입력 {name}의 값이 바뀝니다: `-=`나 `masked_fill_()`처럼 입력을 직접 고치는(in-place) 연산을 "
    "쓰지 않았나요?",
    "The call changes its input {name}: an in-place operation such as `-=` or `masked_fill_()` on what was passed in?",
)

# --- its gradients --------------------------------------------------------------------------------------------------

NO_GRADIENT = Mistake(
    "no gradient",
    "값은 맞지만 입력 {name}까지 gradient가 전달되지 않습니다: detach(), item(), round(), no_grad()나 torch.tensor()로 계산이 "
    "끊기지 않았나요?",
    "The values are right, but no gradient reaches the input {name}: cut off by detach(), item(), round(), no_grad() or "
    "torch.tensor()?",
)
WRONG_GRADIENT = Mistake(
    "wrong gradient",
    "값은 맞지만 입력 {name}의 gradient가 아래 예에서 다릅니다: 계산의 일부가 detach(), item(), no_grad()나 torch.tensor()로 "
    "끊기지 않았나요?",
    "The values are right, but on the input below the gradient of {name} is not: is a part of the computation cut off by "
    "detach(), item(), no_grad() or torch.tensor()?",
)
NAN_GRADIENT = Mistake(
    "NaN gradient",
    "값은 맞지만 아래 입력에서 {name}의 gradient가 NaN입니다: 계산 도중에 생긴 NaN이나 무한대는 결과에서는 사라져도 "
    "backward에서 되살아나므로, 처음부터 생기지 않게 하세요. (mask라면 -inf 대신 아주 작은 유한한 값)",
    "The values are right, but on the input below the gradient of {name} is NaN: a NaN or infinity on the way, which the "
    "result no longer shows, comes back in the backward pass: let none arise (for a mask, a low finite number, not -inf).",
)

# --- what Python's errors mean --------------------------------------------------------------------------------------

PYTHON_ERROR = Mistake(
    "Python error",
    "아래 입력으로 실행하는 도중에 오류가 났습니다 ({where}): {error}",
    "Python stopped with an error on the input below ({where}): {error}",
)
SIGNATURE = Mistake(
    "other arguments",
    "함수가 받는 인자가 주어진 것과 다릅니다: `def` 줄을 처음 상태로 되돌리세요. ({error})",
    "The function does not take the arguments that were given: keep its `def` line as it was ({error}).",
)

# (what the error says, as a pattern over "Type: message"; the sentence in Korean; in English). The first that fits is
# said. {where} is the file and line, {1} the pattern's first group.
ERRORS: list[tuple[str, str, str, str]] = [
    (
        "max without values",
        r"return_types\.(max|min|median|mode|sort|topk)",
        "{1}(dim=...)는 값과 위치(index) 두 가지를 함께 돌려줍니다 ({where}): 값만 쓰려면 .values를 붙이세요.",
        "{1}(dim=...) gives a pair, values and indices ({where}): add .values to get the values.",
    ),
    (
        "view after transpose",
        r"view size is not compatible",
        "transpose나 permute를 거친 텐서에는 view를 쓸 수 없습니다 ({where}): reshape을 쓰거나 먼저 contiguous()를 호출하세요.",
        "After transpose or permute a tensor cannot be cut by view ({where}): use reshape, or call contiguous() first.",
    ),
    (
        "float as a size",
        r"but got float|must be (?:tuple of )?(?:int|SymInt)s?, not float|slice indices must be integers"
        r"|'float' object cannot be interpreted as an integer"
        r"|got \(.*\bfloat\b.*SymInt|cannot be interpreted as an index",
        "정수가 필요한 자리(크기, 축, 인덱스)에 실수가 들어갔습니다 ({where}): 나눗셈 `/`의 결과는 늘 실수이므로 `//`를 "
        "쓰세요.",
        "A float stands where a whole number is needed, as for a size ({where}): `/` always gives a float, so use `//`.",
    ),
    (
        "one number from a tensor",
        r"only one element tensors can be converted|elements? cannot be converted to Scalar|only length-1 arrays",
        "math.exp, math.sqrt, float(), item()은 숫자 하나만 받는데 원소가 여러 개인 텐서를 넣었습니다 ({where}): "
        "torch.exp나 x.sqrt() 같은 torch 함수를 쓰세요.",
        "math.exp, math.sqrt, float() and item() take one number and got a tensor of several ({where}): use torch's "
        "functions, such as torch.exp or x.sqrt().",
    ),
    (
        "pair used like a tensor",
        r"'tuple' and 'Tensor'|'Tensor' and 'tuple'|'tuple' and '(?:int|float)'|'tuple' object has no attribute"
        r"|must be Tensor, not tuple",
        "텐서가 필요한 자리에 튜플이 들어갔습니다 ({where}): (output, weights)처럼 둘을 돌려주는 함수라면 `output, weights "
        "= ...`로 나누어 받으세요.",
        "A tuple stands where a tensor is needed ({where}): of a function that returns (output, weights), take them apart by "
        "`output, weights = ...`.",
    ),
    (
        "function used like a tensor",
        r"unsupported operand .*'(?:Layer|function|method|builtin_function_or_method)'",
        "함수의 결과가 필요한 자리에 함수 자체를 썼습니다 ({where}): attention이 아니라 attention(x)처럼 호출하세요.",
        "A function stands where its result is needed ({where}): call it, as in attention(x).",
    ),
    (
        "number instead of a tensor",
        r"argument 'input' \(position 1\) must be Tensor, not (?:int|float)",
        "torch.sqrt나 torch.sin 같은 함수는 텐서만 받는데 보통의 숫자를 넣었습니다 ({where}): 숫자에는 math.sqrt, math.sin이나 "
        "`** 0.5`를 쓰세요.",
        "torch.sqrt, torch.sin and their like take tensors and got a plain number ({where}): for a number use math.sqrt, "
        "math.sin, or `** 0.5`.",
    ),
    (
        "missing import",
        r"NameError: name '(math|np|numpy|F|nn|einops|torch)' is not defined",
        "{1} 모듈을 import하지 않았습니다 ({where}): 파일 맨 위에 import 문을 추가하세요.",
        "{1} is used but not imported ({where}): add the import at the top of the file.",
    ),
    (
        "unknown name",
        r"NameError: (?:free variable|name) '(\w+)'",
        "정의되지 않은 이름을 사용했습니다 ({where}): {1}의 철자를 확인하세요.",
        "The name {1} is not defined ({where}): is it spelled as where it was made?",
    ),
    (
        "used before it is set",
        r"UnboundLocalError: .*variable '(\w+)'",
        "변수 {1}에 값을 넣기 전에 사용합니다 ({where}): if 문 안에서만 값을 넣지 않았나요?",
        "The variable {1} is used before it has a value ({where}): is it set inside an `if` only?",
    ),
    (
        "in-place change stops autograd",
        r"modified by an inplace operation|leaf Variable that requires grad is being used in an in-place",
        "gradient 계산에 필요한 값을 직접 고쳤습니다(in-place): `a /= b` 대신 `a = a / b`처럼 새 텐서를 만드세요.",
        "A value that the gradient needs was changed in place: make a new tensor, `a = a / b` instead of `a /= b`.",
    ),
    (
        "tensor as a condition",
        r"Boolean value of Tensor with .*ambiguous",
        "원소가 여러 개인 텐서를 참이나 거짓으로 판단하려 합니다 ({where}): if, and, max()에는 텐서를 쓸 수 없습니다. "
        "mask가 있는지는 `if mask is not None:`으로 확인하고, 값을 고를 때는 torch.maximum이나 torch.where를 쓰세요.",
        "A tensor of several entries is asked whether it is true ({where}), by `if`, `and` or Python's max(): ask for a "
        "mask by `if mask is not None:`, and choose between numbers by torch.maximum or torch.where.",
    ),
    (
        "None is used",
        r"NoneType|masked_fill\(\).*got \(bool,",
        "None인 값을 텐서처럼 사용했습니다 ({where}): mask를 주지 않으면 mask는 None이고, return이 없는 함수의 결과도 "
        "None입니다.",
        "A value that is None is used like a tensor ({where}): mask is None when none is given, and so is what a function "
        "without return gives.",
    ),
    (
        "mask that is not bool",
        r"only supports boolean masks|condition to be a boolean tensor|only implemented on integer and Boolean"
        r"|bitwise_not.*not implemented|expected.*BoolTensor",
        "bool 텐서가 필요한 자리에 다른 dtype의 mask가 들어갔습니다 ({where}): `mask == 0`이나 mask.bool()로 바꾸세요.",
        "A mask of another dtype stands where a bool tensor is needed ({where}): make it one by `mask == 0` or mask.bool().",
    ),
    (
        "minus a mask",
        r"the `-` operator, (?:with|on) a bool tensor",
        "bool 텐서에는 뺄셈을 쓸 수 없습니다 ({where}): mask를 뒤집으려면 `1 - mask`가 아니라 `~mask`를 쓰세요.",
        "A bool tensor cannot be subtracted ({where}): to invert a mask write `~mask`, not `1 - mask`.",
    ),
    (
        "shape called like a function",
        r"'torch\.Size' object is not callable",
        "shape은 함수가 아닙니다 ({where}): x.shape(0)이 아니라 x.shape[0]이나 x.size(0)으로 쓰세요.",
        "shape is no function ({where}): write x.shape[0] or x.size(0), not x.shape(0).",
    ),
    (
        "brackets for parentheses",
        r"'(?:builtin_function_or_method|method|function)' object is not subscriptable",
        "함수 뒤에 소괄호가 아니라 대괄호를 썼습니다 ({where}): 예를 들어 x.size[0]이 아니라 x.size(0)으로 쓰세요.",
        "A function is followed by brackets instead of parentheses ({where}): x.size(0), for example, not x.size[0].",
    ),
    (
        "reshape to another size",
        r"shape '(\[.*\])' is invalid for input of size (\d+)",
        "원소가 {2}개인 텐서의 shape을 {1}로 바꿀 수 없습니다 ({where}): 크기들의 곱이 원소의 개수와 같은지 확인하세요.",
        "A tensor of {2} entries cannot be cut into {1} ({where}): the sizes must multiply to the number of entries.",
    ),
    (
        "no such axis",
        r"Dimension out of range|too many indices for tensor|number of dimensions in the tensor input does not match"
        r"|must have at least \d+ dimensions|must be a 3D tensor",
        "텐서에 없는 축을 가리킵니다 ({where}): 그 줄 바로 위에서 shape을 출력해 축이 몇 개인지 확인하세요.",
        "An axis is named that the tensor does not have ({where}): print its shape before that line and count the axes.",
    ),
    (
        "index out of bounds",
        r"is out of bounds for dimension|index out of range|IndexError",
        "텐서나 리스트의 끝을 넘어선 위치를 읽습니다 ({where}): 인덱스가 0부터 크기 - 1까지인지 확인하세요.",
        "A position beyond the end of a tensor or list is read ({where}): indices go from 0 to the size - 1.",
    ),
    (
        "einsum subscripts",
        r"einsum\(\): the number of subscripts",
        "einsum 식의 글자 수가 텐서의 축 수와 다릅니다 ({where}): 축마다 글자가 하나씩 있어야 합니다.",
        "The einsum equation does not have one letter for each axis of the tensor ({where}).",
    ),
    (
        "sizes do not fit",
        r"shapes cannot be multiplied|Expected size for first two dimensions|must match the size of tensor"
        r"|must match the existing size|does not broadcast|not broadcastable|size mismatch|inconsistent tensor size"
        r"|doesn't match the broadcast shape|each tensor to be equal size|Sizes of tensors must match"
        r"|same number of dimensions|number of sizes provided|Expected input batch_size",
        "두 텐서의 shape이 맞지 않아 함께 계산할 수 없습니다 ({where}): "
        "그 줄 바로 위에서 두 텐서의 shape을 출력해 비교해 보세요.",
        "The shapes of two tensors do not fit together ({where}): print both shapes before that line and compare them.",
    ),
    (
        "dtypes do not fit",
        r"to have the same dtype|expected scalar type|dtypes? match|can't be cast to|could not infer output dtype"
        r"|not implemented for '(?:Long|Int|Bool|Half)'",
        "텐서의 dtype이 이 연산에 맞지 않습니다 ({where}): 정수나 bool 텐서라면 .float()로 바꾸세요.",
        "The dtype of a tensor does not suit this operation ({where}): turn whole numbers or bool into floats by .float().",
    ),
    (
        "numpy inside",
        r"call numpy\(\) on Tensor that requires grad|can't convert .* to numpy|Tensor\.__array__",
        "계산 도중에 NumPy를 쓰면 gradient가 끊깁니다 ({where}): 같은 일을 하는 torch 연산으로 바꾸세요.",
        "NumPy in the middle of the computation cuts off the gradient ({where}): use the torch operation of the same name.",
    ),
    (
        "backward without a graph",
        r"does not require grad and does not have a grad_fn",
        "backward()를 호출한 값까지 계산 그래프가 이어져 있지 않습니다 ({where}): detach(), item(), no_grad()를 먼저 쓰지 "
        "않았나요?",
        "backward() is called on a value that has no graph ({where}): was detach(), item() or no_grad() used before it?",
    ),
    (
        "backward twice",
        r"backward through the graph a second time",
        "같은 loss에 backward()를 두 번 호출합니다 ({where}): 한 step에 한 번만 호출하세요.",
        "backward() is called twice on the same loss ({where}): once a step is enough.",
    ),
    (
        "backward on several numbers",
        r"grad can be implicitly created only for scalar outputs",
        "backward()는 숫자 하나인 loss에만 호출할 수 있습니다 ({where}): loss가 아니라 예측값에 호출하지 않았나요?",
        "backward() works on a loss that is one number ({where}): was it called on the predictions instead?",
    ),
    (
        "wrong arguments",
        r"TypeError: (?:.*\.)?(\w+)\(\) (?:missing \d+ required|takes .*positional argument|got an unexpected keyword"
        r"|got multiple values|received an invalid combination)",
        "{1}()에 넘긴 인자의 개수나 종류가 맞지 않습니다 ({where}): 무엇을 어떤 순서로 받는 함수인지 확인하세요.",
        "{1}() gets too few, too many, or the wrong kind of arguments ({where}): check what it takes, and in which order.",
    ),
    (
        "no such attribute",
        r"AttributeError: .*'(\w[\w.]*)' (?:object )?has no attribute '(\w+)'",
        "{1}에 {2} 속성이 없습니다 ({where}): 철자와 변수의 타입을 확인하세요.",
        "{1} has nothing of the name {2} ({where}): check the spelling, and what type the variable is.",
    ),
    (
        "no such module",
        r"(?:ModuleNotFoundError|ImportError): .*'([\w.]+)'",
        "{1} 모듈을 불러올 수 없습니다 ({where}): 이 과제에는 torch와 math만 있으면 됩니다.",
        "The module {1} cannot be imported ({where}): torch and math are all that the exercises need.",
    ),
    (
        "exit",
        r"^SystemExit",
        "함수가 exit()를 호출해 프로그램을 끝내려 합니다 ({where}): 결과는 return으로 돌려주세요.",
        "The function asks Python to end, by exit() ({where}): give the result back by return.",
    ),
    (
        "interrupt",
        r"^KeyboardInterrupt",
        "함수가 KeyboardInterrupt를 일으킵니다 ({where}): 결과는 return으로 돌려주세요.",
        "The function raises KeyboardInterrupt ({where}): give the result back by return.",
    ),
    (
        "waits for the keyboard",
        r"^EOFError",
        "input()으로 키보드 입력을 기다립니다 ({where}): 필요한 값은 모두 인자로 주어집니다.",
        "input() waits for the keyboard ({where}): everything that is needed comes as an argument.",
    ),
    (
        "calls itself without end",
        r"^RecursionError",
        "함수가 자기 자신을 끝없이 호출합니다 ({where}): 다른 함수를 부르려다 같은 이름을 쓰지 않았나요?",
        "The function calls itself without end ({where}): does another function have the same name?",
    ),
    (
        "too much memory",
        r"^MemoryError|can't allocate memory|not enough memory",
        "메모리를 너무 많이 요구합니다 ({where}): 이 과제의 텐서는 모두 작으니 크기를 계산하는 부분을 확인하세요.",
        "It asks for more memory than there is ({where}): all tensors here are small, so look at how the size is computed.",
    ),
]


def error_sentence(text: str, where: str, *, by_call: bool = False) -> Mistake:
    """What an error means.

    Args:
        text: "Type: first line of the message".
        where: file and line.
        by_call: whether it was raised by the call itself, before any line of the function.
    """
    if by_call and text.startswith("TypeError"):
        return SIGNATURE.about(error=shortened(text.partition(": ")[2]))
    for name, pattern, korean, english in ERRORS:
        found = re.search(pattern, text)
        if found:
            groups = {str(number): group for number, group in enumerate(found.groups(), 1)}
            return Mistake(name, *(_filled(sentence, where=where, **groups) for sentence in (korean, english)))
    return PYTHON_ERROR.about(where=where, error=shortened(text))


def _filled(sentence: str, **values: str) -> str:
    """str.format takes {1} for a position, so the names are replaced one by one."""
    return re.sub(r"\{(\w+)\}", lambda name: values[name[1]], sentence)


def shortened(text: str) -> str:
    return text.rstrip(": ")[:200]
