"""Float64 and one thread, for everything in these labs: so every machine gets the same digits.

In float32 two processors that round a sum in another order soon differ in every digit that a training shows. One thread,
because several add up in an order of their own, and at these sizes are slower.
"""

import torch

torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)
