"""The exercises, and for each of the classic mistakes the sentence that explains it: symptom, then likely cause.

A new mistake is one more position of a switch in `models.py`, one more entry here, and a wrong answer in
`tests/wrong_answers.py`.
"""

from __future__ import annotations

from functools import partial

from week6.exercises import models
from week6.exercises.grader import Exercise, Mistake

SOFTMAX = [
    *(
        Mistake(
            f"wrong softmax axis (dim={axis})",
            f"합이 1이 되는 축이 마지막 축이 아니라 dim={axis}입니다: softmax를 계산하는 축을 잘못 고르지 않았나요?",
            f"The entries sum to 1 along dim={axis} and not along the last axis: softmax over the wrong axis?",
            {"axis": axis},
        )
        for axis in (-2, 0, 1)
    ),
    Mistake(
        "overflow without max subtraction",
        "값이 1000이나 -1000이면 NaN이 나옵니다: exp를 취하기 전에 각 행의 최댓값을 빼지 않아 inf/inf나 0/0이 된 것 같습니다.",
        "Entries of 1000 or -1000 give NaN: inf/inf or 0/0, because the maximum of each row is not subtracted before exp?",
        {"subtract": "nothing"},
    ),
    Mistake(
        "maximum of the whole tensor",
        "다른 행보다 값이 훨씬 작은 행이 NaN이 됩니다: 각 행의 최댓값이 아니라 텐서 전체의 최댓값을 뺀 것 같습니다.",
        "A row far below the others becomes NaN: was the maximum of the whole tensor subtracted, not that of each row?",
        {"subtract": "global maximum"},
    ),
    Mistake(
        "not normalised",
        "각 행의 합이 1이 아닙니다: exp 값을 그 합으로 나누는 단계가 빠진 것 같습니다.",
        "The rows do not sum to 1: is the division by the sum of the exponentials missing?",
        {"divide": False},
    ),
    Mistake(
        "sum without keepdim",
        "정사각 행렬은 엉뚱한 행의 합으로 나누고 다른 shape에서는 오류가 납니다: sum에 keepdim=True가 빠진 것 같습니다.",
        "A square matrix is divided by the sums of the wrong rows, other shapes give an error: is keepdim=True missing in sum?",
        {"keepdim": False},
    ),
    Mistake(
        "softmax over all entries",
        "각 행이 아니라 텐서 전체의 합이 1입니다: 합을 구할 때 dim=-1을 빠뜨리지 않았나요?",
        "The whole tensor sums to 1, not each row: is dim=-1 missing in the sum?",
        {"axis": None},
    ),
]

ATTENTION = [
    Mistake(
        "no scaling",
        "score가 sqrt(d_k)배 커서 weight가 한쪽으로 쏠립니다: q k^T를 sqrt(d_k)로 나누는 단계가 빠진 것 같습니다.",
        "The scores are too large by a factor sqrt(d_k), so the weights are too sharp: is the division by sqrt(d_k) missing?",
        {"divisor": "1"},
    ),
    Mistake(
        "scaling by d_k",
        "score가 1/sqrt(d_k)배로 줄어서 weight가 지나치게 고르게 퍼집니다: sqrt(d_k)가 아니라 d_k로 나눈 것 같습니다.",
        "The scores are too small by a factor sqrt(d_k), so the weights are too even: divided by d_k instead of sqrt(d_k)?",
        {"divisor": "d_k"},
    ),
    Mistake(
        "scaling by sqrt(d_model)",
        "head가 H개이면 score가 1/sqrt(H)배로 작아집니다: sqrt(d_k)가 아니라 sqrt(d_model) = sqrt(H * d_k)로 나눈 것 같습니다.",
        "With H heads the scores are too small by a factor sqrt(H): divided by sqrt(d_model) = sqrt(H * d_k), not sqrt(d_k)?",
        {"divisor": "sqrt(d_model)"},
    ),
    Mistake(
        "multiplied by sqrt(d_k)",
        "score가 d_k배 커서 weight가 한쪽으로 쏠립니다: sqrt(d_k)로 나누지 않고 곱한 것 같습니다.",
        "The scores are too large by a factor d_k, so the weights are too sharp: multiplied by sqrt(d_k) instead of divided?",
        {"divisor": "1/sqrt(d_k)"},
    ),
    *(
        Mistake(
            f"wrong softmax axis ({english})",
            f"weight를 key가 아니라 {korean} 방향으로 더해야 1이 됩니다: softmax의 축(dim={axis})을 잘못 고른 것 같습니다.",
            f"The weights sum to 1 along the {english}, not the keys: softmax over the wrong axis, dim={axis} and not -1?",
            {"axis": axis},
        )
        for axis, korean, english in ((-2, "query", "queries"), (1, "head", "heads"), (0, "batch", "batch"))
    ),
    Mistake(
        "inverted mask",
        "mask가 True인 key는 가려지고 False인 key가 보입니다: mask를 반대로 해석하지 않았나요? (True = 볼 수 있음)",
        "Keys with mask True are hidden and those with False are seen: mask read the wrong way round (True = may attend)?",
        {"inverted": True},
    ),
    Mistake(
        "mask applied after the softmax",
        "mask를 쓰면 각 행의 weight 합이 1보다 작아집니다: softmax를 취한 뒤에 mask를 적용한 것 같습니다.",
        "With a mask the rows of the weights sum to less than 1: was the mask applied after the softmax instead of before?",
        {"masking": "after the softmax"},
    ),
    Mistake(
        "-inf filled in after the softmax",
        "가려진 key의 weight가 0이 아니라 -inf입니다: softmax를 취한 뒤에 -inf를 채운 것 같습니다.",
        "Masked keys have the weight -inf instead of 0: was -inf filled in after the softmax instead of before?",
        {"masking": "after the softmax, -inf"},
    ),
    Mistake(
        "masked scores set to 0",
        "가려진 key도 weight를 받습니다: 가려야 할 score를 -inf가 아니라 0으로 만든 것 같습니다. (exp(0)은 0이 아니라 1)",
        "Masked keys still get weight: were their scores set to 0 instead of -inf (exp(0) is 1, not 0)?",
        {"masking": "scores set to 0"},
    ),
    Mistake(
        "mask ignored",
        "mask를 주어도 결과가 달라지지 않습니다: mask를 적용하지 않았거나 masked_fill의 결과를 받지 않은 것 같습니다.",
        "The mask changes nothing: is it not applied, or is the result of masked_fill not kept?",
        {"masking": "none"},
    ),
    Mistake(
        "NaN on a fully masked row",
        "모든 key가 가려진 query의 결과가 NaN입니다: -inf뿐인 행의 softmax는 0/0이므로 0으로 따로 처리해야 하지 않을까요?",
        "A query whose keys are all masked gets NaN: the softmax of nothing but -inf is 0/0, and such a row is not set to 0?",
        {"blocked_row": "nan"},
    ),
    Mistake(
        "uniform weights on a fully masked row",
        "모든 key가 가려진 query가 모든 key를 고르게 봅니다: -1e9 같은 값을 채운 뒤 그 weight를 0으로 만들지 않은 것 같습니다.",
        "A query whose keys are all masked sees all of them equally: filled with -1e9 or so, and its weights not set to 0?",
        {"blocked_row": "uniform"},
    ),
    Mistake(
        "overflow without max subtraction",
        "score가 10000쯤 되면 NaN이 나옵니다: softmax에서 exp를 취하기 전에 각 행의 최댓값을 빼지 않은 것 같습니다.",
        "Scores near 10000 give NaN: is the maximum of each row not subtracted before exp in the softmax?",
        {"subtract": "nothing"},
    ),
    Mistake(
        "output and weights exchanged",
        "두 반환값의 순서가 바뀌어 있습니다: (output, weights)가 아니라 (weights, output)을 반환하지 않았나요?",
        "The two results stand in each other's place: is (weights, output) returned instead of (output, weights)?",
        {"order": "weights, output"},
    ),
]

CAUSAL = [
    Mistake(
        "causal mask without the diagonal",
        "어떤 위치도 자기 자신을 볼 수 없습니다: 대각선이 빠졌으니 tril(diagonal=-1)이나 `<=` 대신 `<`를 쓰지 않았나요?",
        "No position may attend to itself: the diagonal is missing, from tril(diagonal=-1) or `<` instead of `<=`?",
        {"allowed": "0..t-1"},
    ),
    Mistake(
        "causal mask one step ahead",
        "각 위치가 바로 다음 위치, 즉 예측할 정답을 봅니다: mask가 한 칸 밀려 있으니 tril(diagonal=1)을 쓰지 않았나요?",
        "Each position may see the next one, which it is to predict: shifted by one, as by tril(diagonal=1)?",
        {"allowed": "0..t+1"},
    ),
    Mistake(
        "inverted mask",
        "과거가 가려지고 미래만 보입니다: True와 False를 반대로 쓰지 않았나요? (True = 볼 수 있음)",
        "The past is hidden and only the future visible: True and False the wrong way round (True = may attend)?",
        {"allowed": "t+1..n-1"},
    ),
    Mistake(
        "transposed causal mask",
        "각 위치가 자기 자신과 미래를 봅니다: tril 대신 triu를 썼거나 행(query)과 열(key)이 뒤바뀐 것 같습니다.",
        "Each position sees itself and the future: triu instead of tril, or rows (queries) and columns (keys) exchanged?",
        {"allowed": "t..n-1"},
    ),
]

SPLIT = [
    Mistake(
        "heads split without the transpose",
        "한 head 안에 여러 토큰의 값이 섞입니다: (B, T, H, d_head)로 나눈 뒤의 transpose(1, 2)가 빠진 것 같습니다.",
        "A head mixes several tokens: reshaped at once to (B, H, T, d_head), without (B, T, H, d_head) and transpose(1, 2)?",
        {"how": "reshape only"},
    ),
    Mistake(
        "transpose forgotten",
        "결과의 shape이 (B, H, T, d_head)가 아니라 (B, T, H, d_head)입니다: 마지막 단계인 transpose(1, 2)가 빠진 것 같습니다.",
        "The result is (B, T, H, d_head) instead of (B, H, T, d_head): is the last step, transpose(1, 2), missing?",
        {"how": "no transpose"},
    ),
    Mistake(
        "every H-th feature",
        "각 head가 H칸씩 건너뛴 feature를 받습니다: (B, T, H, d_head)가 아니라 (B, T, d_head, H)로 나눈 것 같습니다.",
        "Each head gets every H-th feature, not a slice: cut into (B, T, d_head, H) instead of (B, T, H, d_head)?",
        {"how": "every n_heads-th feature"},
    ),
]

MERGE = [
    Mistake(
        "heads merged without the transpose",
        "한 토큰의 결과에 다른 토큰의 값이 섞입니다: 합치기 전에 transpose(1, 2)를 빠뜨리지 않았나요?",
        "A token's row holds values of other tokens: is transpose(1, 2) missing before the heads are merged?",
        {"how": "reshape only"},
    ),
    Mistake(
        "heads interleaved",
        "head들이 차례로 이어지지 않고 번갈아 놓입니다: (B, T, H, d_head)가 아니라 (B, T, d_head, H)에서 합친 것 같습니다.",
        "The heads alternate instead of standing side by side: merged from (B, T, d_head, H) instead of (B, T, H, d_head)?",
        {"how": "interleaved"},
    ),
]

SINUSOIDAL = [
    Mistake(
        "sine and cosine swapped",
        "위치 0의 값이 0, 1, 0, 1, ...이 아니라 1, 0, 1, 0, ...입니다: sin과 cos의 자리가 바뀐 것 같습니다. (짝수 열이 sin)",
        "Position 0 reads 1, 0, 1, 0, ... instead of 0, 1, 0, 1, ...: sine and cosine swapped (even columns are sines)?",
        {"layout": "cos, sin"},
    ),
    Mistake(
        "sines and cosines in two halves",
        "앞쪽 절반의 열이 모두 sin이고 뒤쪽 절반이 모두 cos입니다: 번갈아 놓지 않고 cat으로 이어 붙인 것 같습니다.",
        "The first half of the columns are sines and the second half cosines: joined by cat instead of alternating?",
        {"layout": "halves"},
    ),
    Mistake(
        "exponent counted twice",
        "뒤쪽 열로 갈수록 주파수가 너무 빨리 줄어듭니다: 지수가 4i/d_model이니 arange(0, d_model, 2)에 2를 또 곱하지 않았나요?",
        "The frequencies fall too fast from column to column: the exponent is 4i/d_model, from 2 * arange(0, d_model, 2)?",
        {"exponent": "4i"},
    ),
    Mistake(
        "factor 2 missing in the exponent",
        "뒤쪽 열로 갈수록 주파수가 너무 천천히 줄어듭니다: 지수 2i/d_model에서 2가 빠진 것 같습니다.",
        "The frequencies fall too slowly from column to column: is the 2 of the exponent 2i/d_model missing?",
        {"exponent": "i"},
    ),
    Mistake(
        "a frequency for each column",
        "cos 열의 주파수가 짝인 sin 열의 주파수와 다릅니다: cos의 지수에 2i가 아니라 열 번호 2i+1을 쓴 것 같습니다.",
        "Each cosine has another frequency than its sine: the column number 2i+1 in the exponent instead of 2i?",
        {"exponent": "column"},
    ),
    Mistake(
        "positions from 1",
        "첫 행이 위치 0이 아니라 위치 1의 값입니다: 위치를 1부터 센 것 같습니다.",
        "The first row is that of position 1, not 0: are the positions counted from 1?",
        {"first": 1},
    ),
]

LAYER_NORM = [
    Mistake(
        "unbiased variance",
        "정규화한 값이 sqrt((d-1)/d)배로 작아집니다: 분산을 d-1로 나눈 것 같으니 unbiased=False가 빠지지 않았나요?",
        "The normalised values are too small by sqrt((d-1)/d): variance divided by d - 1, so is unbiased=False missing?",
        {"unbiased": True},
    ),
    Mistake(
        "missing epsilon",
        "feature가 모두 같은 토큰에서 NaN이 나옵니다: 분산이 0일 때를 위해 sqrt 안에 더하는 eps가 빠진 것 같습니다.",
        "A token whose features are all equal gives NaN: is eps, which prevents the division by 0, missing in the root?",
        {"epsilon": "missing"},
    ),
    Mistake(
        "epsilon outside the root",
        "eps가 크면 결과가 어긋납니다: sqrt(var + eps)가 아니라 sqrt(var) + eps로 나눈 것 같습니다.",
        "The result is off when eps is large: divided by sqrt(var) + eps instead of sqrt(var + eps)?",
        {"epsilon": "after the root"},
    ),
    Mistake(
        "epsilon fixed",
        "eps를 바꾸어도 결과가 그대로입니다: 인자 eps를 쓰지 않고 1e-5를 코드에 직접 써 넣은 것 같습니다.",
        "Another eps changes nothing: is 1e-5 written into the code instead of the argument eps?",
        {"epsilon": "fixed"},
    ),
    Mistake(
        "normalised over the tokens",
        "평균이 0이 되는 방향이 feature 축이 아니라 토큰 축입니다: 평균과 분산을 dim=-1이 아니라 dim=1로 구한 것 같습니다.",
        "The mean is 0 over the tokens, not over the features: mean and variance over dim=1 instead of dim=-1?",
        {"axes": (1,)},
    ),
    Mistake(
        "normalised over the batch",
        "결과가 batch 안의 다른 문장에 따라 달라집니다: batch norm처럼 dim=0으로 평균과 분산을 구한 것 같습니다.",
        "The result depends on the other sequences of the batch: mean and variance over dim=0, as in batch norm?",
        {"axes": (0,)},
    ),
    Mistake(
        "normalised over tokens and features",
        "토큰마다가 아니라 문장 하나를 통째로 정규화합니다: 평균과 분산을 구하는 축이 dim=(1, 2)인 것 같습니다.",
        "A whole sequence is normalised at once, not each token: mean and variance over dim=(1, 2)?",
        {"axes": (1, 2)},
    ),
    Mistake(
        "normalised over everything",
        "토큰마다가 아니라 텐서 전체를 통째로 정규화합니다: mean과 var에 dim=-1을 빠뜨린 것 같습니다.",
        "The whole tensor is normalised at once, not each token: is dim=-1 missing in mean and var?",
        {"axes": (0, 1, 2)},
    ),
    Mistake(
        "mean not subtracted",
        "정규화한 뒤에도 평균이 0이 아닙니다: x에서 평균을 빼는 단계가 빠진 것 같습니다.",
        "The mean is not 0 after normalising: is the subtraction of the mean missing?",
        {"centre": False},
    ),
    Mistake(
        "variance without the root",
        "정규화한 뒤의 분산이 1이 아닙니다: 표준편차가 아니라 분산으로 나누었으니 sqrt가 빠진 것 같습니다.",
        "The variance is not 1 after normalising: divided by the variance, with the square root missing?",
        {"root": False},
    ),
    Mistake(
        "gamma and beta missing",
        "gamma와 beta를 바꾸어도 결과가 그대로입니다: gamma를 곱하고 beta를 더하는 마지막 단계가 빠진 것 같습니다.",
        "gamma and beta change nothing: is the last step missing, gamma times the result plus beta?",
        {"affine": "none"},
    ),
    Mistake(
        "gamma and beta exchanged",
        "beta를 곱하고 gamma를 더합니다: gamma와 beta의 역할이 서로 바뀐 것 같습니다.",
        "beta multiplies and gamma is added: are the two exchanged?",
        {"affine": "beta, gamma"},
    ),
    Mistake(
        "mean and variance without keepdim",
        "다른 토큰의 평균과 분산을 쓰거나 shape 오류가 납니다: mean과 var에 keepdim=True가 빠진 것 같습니다.",
        "Means and variances meet the wrong tokens, or the shapes do not fit: is keepdim=True missing in mean and var?",
        {"keepdim": False},
    ),
]

BLOCK = [
    Mistake(
        "missing residual around the attention",
        "attention의 결과에 그 이전 값을 더하지 않습니다: 첫 번째 residual 연결이 빠진 것 같습니다.",
        "Nothing is added to the result of the attention: is the first residual connection missing?",
        {"first_residual": "none"},
    ),
    Mistake(
        "missing residual around the feed-forward network",
        "feed_forward의 결과에 그 이전 값 h를 더하지 않습니다: 두 번째 residual 연결이 빠진 것 같습니다.",
        "Nothing is added to the result of the feed-forward network: is the second residual connection missing?",
        {"second_residual": "none"},
    ),
    Mistake(
        "second residual from the input",
        "feed_forward의 결과에 h가 아니라 block의 처음 입력 x를 더합니다: 두 번째 residual에서 변수를 잘못 쓴 것 같습니다.",
        "The block's input x is added to the result of the feed-forward network: x instead of h in the second residual?",
        {"second_residual": "x"},
    ),
    Mistake(
        "one norm used twice",
        "두 번 모두 norm1로 정규화합니다: 두 번째에는 norm2를 써야 하지 않을까요?",
        "Both normalisations are norm1: should the second be norm2?",
        {"same_norm": True},
    ),
    Mistake(
        "feed-forward before attention",
        "feed_forward가 attention보다 먼저 적용됩니다: 두 sub-layer의 순서가 바뀐 것 같습니다.",
        "The feed-forward network comes before the attention: are the two sub-layers exchanged?",
        {"feed_forward_first": True},
    ),
]

POST = [
    Mistake(
        "pre and post swapped",
        "residual을 더한 다음이 아니라 sub-layer에 들어가기 전에 정규화합니다: post-norm 대신 pre-norm을 작성한 것 같습니다.",
        "The input of each sub-layer is normalised, not the sum with the residual: pre-norm written instead of post-norm?",
        {"norm": "pre"},
    ),
    *BLOCK,
]

PRE = [
    Mistake(
        "pre and post swapped",
        "sub-layer에 들어가기 전이 아니라 residual을 더한 다음에 정규화합니다: pre-norm 대신 post-norm을 작성한 것 같습니다.",
        "The sum with the residual is normalised, not the input of each sub-layer: post-norm written instead of pre-norm?",
        {"norm": "post"},
    ),
    *BLOCK,
    Mistake(
        "residual from the normalised input",
        "residual로 원래 값이 아니라 정규화한 값을 더합니다: `x = norm1(x)`처럼 변수를 덮어쓰지 않았나요?",
        "The normalised value instead of the original one is added as the residual: overwritten, as by `x = norm1(x)`?",
        {"first_residual": "normed", "second_residual": "normed"},
    ),
]

LAB_1, LAB_2 = "01_attention_basics.py", "02_self_attention.py"
LAB_3, LAB_4 = "03_positional_encoding.py", "04_transformer_block.py"
ATTENTION_MODEL, PAIR = models.scaled_dot_product_attention, ("output", "weights")

EXERCISES = [
    Exercise("softmax", LAB_1, models.softmax, models.softmax_cases(), SOFTMAX),
    Exercise("scaled_dot_product_attention", LAB_1, ATTENTION_MODEL, models.attention_cases(), ATTENTION, PAIR),
    Exercise("causal_mask", LAB_1, models.causal_mask, models.causal_cases(), CAUSAL),
    Exercise("split_heads", LAB_2, models.split_heads, models.split_cases(), SPLIT),
    Exercise("merge_heads", LAB_2, models.merge_heads, models.merge_cases(), MERGE),
    Exercise("sinusoidal_encoding", LAB_3, models.sinusoidal_encoding, models.sinusoidal_cases(), SINUSOIDAL),
    Exercise("layer_norm", LAB_4, models.layer_norm, models.layer_norm_cases(), LAYER_NORM),
    Exercise("post_norm_block", LAB_4, models.block, models.block_cases(), POST),
    Exercise("pre_norm_block", LAB_4, partial(models.block, norm="pre"), models.block_cases(), PRE),
]
