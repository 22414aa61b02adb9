"""The sections of the lesson (`week6/README.md`, `week6/README.en.md`) that the exercises point at, by their headings."""

from week6.exercises.verdict import Section

FOUR_STEPS = Section("1. Attention은 부드러운 조회 (Attention is a soft look-up)", "1. Attention is a soft look-up")
SCALING = Section("2. 왜 sqrt(d_k)로 나누는가 (Why divide by sqrt(d_k))", "2. Why divide by sqrt(d_k)")
MASKS = Section("4. Mask: 보지 말아야 할 것을 가리기 (Masks)", "4. Masks")
SEVERAL_HEADS = Section("왜 head를 여러 개 두는가", "Why several heads")
SINES = Section("Sinusoidal encoding: 왜 하필 sine인가", "The sinusoidal encoding, and why sines")
DATA_FLOW = Section("데이터의 흐름", "The flow of the data")
RESIDUALS = Section("Residual: 무엇을 지켜 주는가", "Residuals: what do they protect?")
LAYER_NORM = Section("LayerNorm과 BatchNorm", "LayerNorm and BatchNorm")
FEED_FORWARD = Section("Feed-forward network, GELU와 ReLU", "The feed-forward network, GELU and ReLU")
PRE_AND_POST = Section("Pre-norm과 post-norm, 그리고 warm-up", "Pre-norm, post-norm, and warm-up")
TRAINING = Section("학습 요령", "Training")
TROUBLE = Section("막혔을 때", "Troubleshooting")
