"""The exercises, one module each, named like the function: its model, cases, mistakes and sentences side by side.

The first example to read is `softmax.py`. The order below is the order of the course.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from week6.exercises.definition import Exercise

LABS = {  # the script that shows the idea: the functions to write
    "01_attention_basics.py": ("softmax", "scaled_dot_product_attention", "causal_mask", "padding_mask"),
    "02_self_attention.py": ("split_heads", "merge_heads", "multi_head_attention"),
    "03_positional_encoding.py": ("sinusoidal_encoding",),
    "04_transformer_block.py": ("layer_norm", "feed_forward", "post_norm_block", "pre_norm_block"),
    "05_sequence_modeling.py": ("training_step",),
}
NAMES = tuple(name for names in LABS.values() for name in names)
LAB_OF = {name: lab for lab, names in LABS.items() for name in names}


def load() -> list[Exercise]:
    """All exercises. Not at import, because this loads torch."""
    return [importlib.import_module(f"{__name__}.{name}").EXERCISE for name in NAMES]
