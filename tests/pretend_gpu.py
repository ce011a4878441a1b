"""A pretended GPU: CPU tensors that report the device `cuda:0`, and an error where one meets a tensor on the CPU.

torch has no public device for this: tensors on `meta` are not on `cuda` and hold no values, and FakeTensorMode is not
public and does not know `cuda` in a torch that was built for CPUs. So this uses the public hooks of torch.overrides:
what is made with device="cuda", or moved there, becomes a PretendTensor, and so does all that is computed from it. The
values are real, so results can be compared with the CPU's.

What CUDA allows is allowed: CPU tensors without dimensions, CPU indices into a GPU tensor, copies between the two.
Anything else raises DeviceMismatch. Not checked: the inside of a backward pass, whose gradients torch gives as plain
tensors; and the kernels, which are the CPU's (benchmarks/gpu_checks.py checks CUDA's).
"""

import torch
from torch.overrides import TorchFunctionMode

GPU = torch.device("cuda", 0)
COPIES = (torch.Tensor.copy_, torch.Tensor.to, torch.Tensor.cpu)
BACKWARD = (torch.Tensor.backward, torch.autograd.grad)


class DeviceMismatch(AssertionError):
    """An operation on tensors of the GPU and of the CPU."""


class PretendTensor(torch.Tensor):
    """A CPU tensor that reports the device cuda:0."""

    device = property(lambda self: GPU)
    is_cuda = property(lambda self: True)
    is_cpu = property(lambda self: False)
    checking = True

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        if PretendTensor.checking:
            check(func, args, kwargs or {})
        return super().__torch_function__(func, types, args, kwargs or {})


class PretendGPU(TorchFunctionMode):
    """Within this mode `cuda` is the pretended GPU."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func in BACKWARD:
            PretendTensor.checking = False
            try:
                return func(*args, **kwargs)
            finally:
                PretendTensor.checking = True
        if func is torch.Tensor.cpu:
            args, kwargs, func = args[:1], {"device": "cpu"}, torch.Tensor.to
        position = next((index for index, value in enumerate(args) if isinstance(value, (str, torch.device))), None)
        moves = func is torch.Tensor.to and position is not None
        target = args[position] if moves else kwargs.get("device")
        if not isinstance(target, (str, torch.device)):  # the call names no device
            return func(*args, **kwargs)
        if moves:
            args = (*args[:position], "cpu", *args[position + 1 :])
        else:
            kwargs["device"] = "cpu"
        source = [value.as_subclass(torch.Tensor) if isinstance(value, PretendTensor) else value for value in args]
        result = func(*source, **kwargs)
        return result.as_subclass(PretendTensor) if torch.device(target).type == "cuda" else result


def check(func, args, kwargs) -> None:
    """Raise DeviceMismatch where CUDA would refuse `func` because of its tensors' devices."""
    if func in COPIES or func is torch.Tensor.__getitem__ and isinstance(args[0], PretendTensor):
        return
    operands = [args[0], args[2]] if func is torch.Tensor.__setitem__ else [args, kwargs]
    for tensor in tensors_in(operands):
        if type(tensor) in (torch.Tensor, torch.nn.Parameter) and tensor.dim():
            name = getattr(func, "__name__", func)
            raise DeviceMismatch(f"{name}: a tensor of shape {tuple(tensor.shape)} was left on the CPU")


def tensors_in(value):
    """Every tensor in nested lists, tuples and dicts."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        yield from tensors_in(list(value.values()))
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from tensors_in(item)
