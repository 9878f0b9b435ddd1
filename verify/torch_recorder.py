"""Every tensor that a PyTorch module makes in one forward pass, by name, whatever overwrites it later.

    layer1.0.conv1      a module called once             layer1.0.relu#2     the second call of a module
    layer1.0:add        a function called in the forward of module layer1.0; `:view` in that of the outermost one
    layer1.0:add#2      the second call of that function there

What a layer of torch.nn calls inside itself is not recorded: `bn1` has a name, its `batch_norm` needs none. Tensors are
cloned as they are made, because `relu(inplace=True)` and `x += y` overwrite what a layer before has put out.
"""

from __future__ import annotations

import contextlib
from typing import Any, Collection, Dict, Iterator, List, NamedTuple, Tuple

FUNCTIONS = {
    # what PyTorch calls a function inside, without underscores around it -> what its users write
    "iadd": "add", "radd": "add", "isub": "sub", "rsub": "sub", "subtract": "sub", "imul": "mul", "rmul": "mul",
    "multiply": "mul", "truediv": "div", "itruediv": "div", "rtruediv": "div", "divide": "div", "true_divide": "div",
    "rdiv": "div", "idiv": "div", "concat": "cat", "concatenate": "cat", "rmatmul": "matmul",
    "max_pool2d_with_indices": "max_pool2d",
}  # fmt: skip


class Key(NamedTuple):
    """One tensor: the module's path or function, the number of the call from 1, and which of several outputs."""

    name: str
    call: int
    part: str


class Recorder:
    """Records one forward pass.

    Args:
        module: a torch.nn.Module in eval mode.
        wanted: the tensors to keep; the others are only listed.

    Attributes:
        made: every tensor, in order.
        kept: clones of the wanted ones.
        shapes: of every tensor.
    """

    def __init__(self, module: Any, wanted: Collection[Key] = ()) -> None:
        self._module, self._wanted = module, wanted
        self._inside: List[Tuple[str, Any]] = []
        self._calls: Dict[str, int] = {}
        self._paused = False
        self.made: List[Key] = []
        self.kept: Dict[Key, Any] = {}
        self.shapes: Dict[Key, Tuple[int, ...]] = {}

    def run(self, *inputs: Any) -> None:
        """The forward pass, without gradients; the module's hooks are then as they were."""
        import torch

        with contextlib.ExitStack() as stack:
            for path, module in self._module.named_modules():
                for handle in self._hooks(path, module):
                    stack.callback(handle.remove)
            stack.enter_context(torch.no_grad())
            stack.enter_context(self._functions())
            self._module(*inputs)

    def names(self) -> Dict[str, Key]:
        """Key by full name; the number of the call is said where there are several."""
        return {f"{key.name}#{key.call}{key.part}" if self._calls[key.name] > 1 else key.name + key.part: key
                for key in self.made}  # fmt: skip

    def _hooks(self, path: str, module: Any) -> Iterator[Any]:
        yield module.register_forward_pre_hook(lambda *_: self._inside.append((path, module)))
        yield module.register_forward_hook(lambda _, __, output: self._leave(path, output))

    def _leave(self, path: str, output: Any) -> None:
        self._inside.pop()
        if path:
            self._record(path, output)

    def _functions(self) -> Any:
        """A mode under which PyTorch shows every function called on tensors, but none that such a function calls."""
        from torch.overrides import TorchFunctionMode

        called = self._called

        class Functions(TorchFunctionMode):
            def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
                output = function(*args, **(kwargs or {}))
                called(function, output)
                return output

        return Functions()

    def _called(self, function: Any, output: Any) -> None:
        path, module = self._inside[-1] if self._inside else ("", self._module)
        if not self._paused and not type(module).__module__.startswith("torch.nn."):
            self._record(f"{path}:{_function_name(function)}", output)

    def _record(self, name: str, output: Any) -> None:
        parts = list(_tensors(output))
        if not parts:
            return
        call = self._calls[name] = self._calls.get(name, 0) + 1
        self._paused = True  # cloning is a function on tensors too
        for part, tensor in parts:
            key = Key(name, call, part)
            self.made.append(key)
            self.shapes[key] = tuple(tensor.shape)
            if key in self._wanted:
                self.kept[key] = tensor.detach().clone()
        self._paused = False


def _function_name(function: Any) -> str:
    """`add` for add, add_, __add__, __iadd__ and __radd__; the attribute's name for x.T."""
    name = function.__name__
    if name == "__get__":
        name = function.__self__.__name__
    return FUNCTIONS.get(name.strip("_"), name.strip("_"))


def _tensors(output: Any) -> Iterator[Tuple[str, Any]]:
    """The tensors of what a module or function returns: one, several (`:1`, `:2` behind the first), or by key."""
    import torch

    if isinstance(output, dict):  # transformers' outputs are dicts
        parts = [(f":{key}", value) for key, value in output.items()]
    elif isinstance(output, (tuple, list)):
        parts = [(f":{number}" if number else "", value) for number, value in enumerate(output)]
    else:
        parts = [("", output)]
    return ((part, value) for part, value in parts if isinstance(value, torch.Tensor))
