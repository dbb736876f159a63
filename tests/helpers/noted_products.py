"""Notes how matrix products are computed."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class NotedProducts(TorchDispatchMode):
    """What the factors of each product may be rounded to, and the type that they have."""

    def __init__(self):
        super().__init__()
        self.precisions = []
        self.types = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if "mm" in str(function):
            self.precisions.append(torch.get_float32_matmul_precision())
            self.types.append(args[0].dtype)
        return function(*args, **(kwargs or {}))
