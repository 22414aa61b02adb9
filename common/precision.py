"""Float64 and one thread, for everything in these labs: so every machine gets the same digits.

In float32 two processors that round a sum in another order soon differ in every digit that a training shows. One thread,
because several add up in an order of their own, and at these sizes are slower.

This stays for the session: what one cell makes, the next one uses. A lab sets it again when it starts and with each section.
"""

import torch


def settle() -> None:
    """Float64, one thread, and gradients, whatever the session had set meanwhile."""
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    torch.set_grad_enabled(True)


settle()
