"""What the five labs share: attention, positional encodings, the Transformer block, figures and the run of a lab."""
