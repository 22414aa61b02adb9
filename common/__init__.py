"""What the five labs share: attention, positional encodings, the Transformer block, figures and the run of a lab."""

from common import ending  # noqa: F401 (before anything else: from here on a script ends in order)
