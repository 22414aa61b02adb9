"""Week 6: attention and the Transformer. `python -m week6` runs the labs in this folder."""
