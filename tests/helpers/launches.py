"""How many kernels a GPU would be told to run, counted on a CPU."""

from collections import Counter

from torch.utils._python_dispatch import TorchDispatchMode

WITHOUT_KERNEL = {  # operations that give a view, or memory as it is
    *("view", "_unsafe_view", "reshape", "_reshape_alias", "alias", "as_strided", "detach", "expand", "permute"),
    *("select", "slice", "split", "split_with_sizes", "squeeze", "unsqueeze", "t", "transpose", "unbind", "unfold"),
    *("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"),
}


class Launches(TorchDispatchMode):
    """Counts the operations that start a kernel, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        if name not in WITHOUT_KERNEL:
            self.calls[name] += 1
        return function(*args, **(kwargs or {}))
