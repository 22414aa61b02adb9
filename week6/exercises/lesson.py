"""The sections of the lesson (`week6/README.md`, `week6/README.en.md`) that the exercises point at, by their headings."""

from week6.exercises.verdict import Section

FOUR_STEPS = Section("1. Attention은 부드러운 조회 (Attention is a soft look-up)", "1. Attention is a soft look-up")
SCALING = Section("2. 왜 sqrt(d_k)로 나누는가 (Why divide by sqrt(d_k))", "2. Why divide by sqrt(d_k)")
MASKS = Section("4. Mask: 보지 말아야 할 것을 가리기 (Masks)", "4. Masks")
SEVERAL_HEADS = Section(
    "2. Head는 정말 전문가가 되는가 (Do heads specialise?)",
    "2. Do heads specialise? Attention proposes, ablation decides",
)
SINES = Section("2. Sine은 어떻게 생겼는가 (What do the sines look like?)", "2. What do the sines look like?")
RESIDUALS = Section("3. Residual은 무엇을 위한 것인가 (What residuals are for)", "3. What residuals are for")
LAYER_NORM = FEED_FORWARD = Section(
    "4. 정규화와 feed-forward network (Normalisation)",
    "4. Normalisation and the feed-forward network",
)
PRE_AND_POST = Section("5. Pre-norm과 post-norm (Pre-norm against post-norm)", "5. Pre-norm against post-norm")
TRAINING = Section("학습 요령", "Training")
TROUBLE = Section("막혔을 때", "Troubleshooting")
