"""What a method costs: multiply-accumulates, time and memory of separating one scene at a time.

`measure_cost` gives, of the following, what could be measured here; what could not is left out.

macs_per_s            multiply-accumulates per second of audio, of one scene, by torch's own counter (FlopCounterMode)
macs_not_counted      why there is no macs_per_s: what the method did that the counter cannot see into
real_time_factor      seconds of computing per second of audio, median; below 1 is faster than real time
rtf_scenes            how many scenes are separated at a time, for all figures of this table: 1
peak_memory_mb        10^6 bytes; see PeakMemory
peak_memory_added_mb  by how much that is more than what was held before, the weights included
peak_memory_of        whose memory that is: "GPU", "process" or "process since its start"

As with the counters of the field, a multiply-accumulate is one of a product of matrices or vectors, a convolution,
attention or a recurrent layer. FFTs, resampling, decompositions of matrices and arithmetic element by element (masks,
activations, norms) are not among them, and a complex product counts as one. What a method computes in threads or
processes of its own is not seen.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import re
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from sepbench.devices import device
from sepbench.method import Method
from sepbench.scene import Mixture, Scene

MEASURED = (
    "macs_per_s", "macs_not_counted", "real_time_factor", "rtf_scenes",
    "peak_memory_mb", "peak_memory_added_mb", "peak_memory_of",
)  # fmt: skip
BUDGET_S = 3.0  # of timing; no more repeats are begun then
REPEATS = (3, 20)  # at least, whatever they take, and at most

Shape = Sequence[int]


def measure_cost(method: Method, given: Sequence[Any], sample_rate_hz: int) -> dict[str, Any]:
    """The figures of the table above. `given` are real scenes of the run, as `separate` takes them; none: no figure.

    Takes as long as separating 6 scenes one by one, and for a fast method as separating 23, up to some 3 s. What the
    first call alone costs (plans, kernels, caches) is in no figure. Raises what the method raises.
    """
    if not given:
        return {}
    method.separate([given[0]])
    return (
        _macs(method, given[0], _seconds(given[0], sample_rate_hz))
        | {"real_time_factor": _real_time_factor(method, given, sample_rate_hz), "rtf_scenes": 1}
        | _peak_memory(method, given[0])
    )


def _seconds(given: Mixture | Scene, sample_rate_hz: int) -> float:
    mixture = given.mixture if isinstance(given, Scene) else given
    return mixture.audio.shape[-1] / sample_rate_hz


# multiply-accumulates


def _macs(method: Method, given: Any, seconds: float) -> dict[str, Any]:
    counter = FlopCounterMode(display=False, custom_mapping=FORMULAS)
    leaving, leaves = _LeavesTorch(), _Leaves(counter.flop_registry)
    try:
        with leaving, leaves, counter:
            method.separate([given])
    except Exception as error:  # it has answered this scene before: what fails is the counting, and no run shall end by it
        return {"macs_not_counted": [f"{type(error).__name__}: {error}".splitlines()[0]]}
    outside = getattr(method, "macs_per_s_outside_torch", None)
    unseen = leaves.uncounted | (leaving.by if outside is None else set())
    if unseen:
        return {"macs_not_counted": sorted(unseen)}
    return {"macs_per_s": counter.get_total_flops() / 2 / seconds + (outside or 0.0)}


class _Leaves(TorchDispatchMode):
    """Stands below the counter, which takes composite operations apart: notes what may multiply and has no formula."""

    def __init__(self, formulas: dict[Any, Any]) -> None:
        super().__init__()
        self.formulas, self.uncounted = formulas, set[str]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func._overloadpacket not in self.formulas and _may_multiply(func.namespace, func._overloadpacket.__name__):
            self.uncounted.add(str(func._overloadpacket))
        return func(*args, **(kwargs or {}))


class _LeavesTorch(TorchFunctionMode):
    """Notes by which door numbers went where torch does not see them: 0 products there would be a guess.

    Beside that it has inference mode be no_grad: in inference mode composite operations reach the counter whole and
    without autocast, and fail there on operands of two precisions.
    """

    DOORS = ("numpy", "__array__", "__dlpack__", "tolist")

    def __init__(self) -> None:
        super().__init__()
        self.by: set[str] = set()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        door = getattr(func, "__name__", "")
        if door in self.DOORS and args[0].numel() > 1 and (args[0].is_floating_point() or args[0].is_complex()):
            self.by.add(f"Tensor.{door}")
        if not torch.is_inference_mode_enabled():
            return func(*args, **(kwargs or {}))
        with torch.inference_mode(False), torch.no_grad():
            return func(*args, **(kwargs or {}))


PRODUCT = re.compile(
    r"\w*m[mv]|v?dot|matmul|(bi|tri)?linear|conv(olution|\dd)?|attention|transformer|rnn|lstm|gru|cdist|euclidean|addr"
)
NONE_IN_IT = ("_thnn_fused_", "_cudnn_rnn_flatten_weight", "mkldnn_reorder_")  # in spite of their names
LOOKED_AT = ("aten", "prim", "prims", "profiler")  # what others (quantized, triton, own kernels) do is not known


def _may_multiply(namespace: str, name: str) -> bool:
    parts = name.strip("_").split("_")
    return namespace not in LOOKED_AT or (
        not name.startswith(NONE_IN_IT) and any(PRODUCT.fullmatch(part) for part in parts)
    )


# Formulas that torch 2.11 lacks: shapes of the arguments to floating-point operations, two for each multiply-accumulate


def _recurrent(x: Shape, weights: Sequence[Shape], *_: Any, **__: Any) -> int:
    """All layers and directions, as cuDNN runs them: each matrix once per step. x (step, batch, feature) or packed."""
    return 2 * prod(x[:-1]) * sum(prod(weight) for weight in weights if len(weight) == 2)


def _recurrent_layer(x: Shape, over_input: Shape, over_hidden: Shape, *_: Any, **__: Any) -> int:
    """One layer in one direction, as oneDNN runs it."""
    return 2 * prod(x[:-1]) * (prod(over_input) + prod(over_hidden))


def _attention(query: Shape, key: Shape, value: Shape, *_: Any, **__: Any) -> int:
    """query (batch, head, row, feature), key and value (batch, head, column, feature); a causal mask saves nothing."""
    return 2 * prod(query[:-1]) * key[-2] * (query[-1] + value[-1])


def _product(a: Shape, b: Shape, *_: Any, **__: Any) -> int:
    """(..., row, feature), (..., feature, column); b may be a vector (feature,)."""
    return 2 * prod(a) * prod(b[-1:] if len(b) > 1 else ())


def _product_added(_: Shape, a: Shape, b: Shape, *__: Any, **___: Any) -> int:
    return _product(a, b)


aten = torch.ops.aten
FORMULAS: dict[Any, Callable[..., int]] = {
    aten._cudnn_rnn: _recurrent,
    aten.mkldnn_rnn_layer: _recurrent_layer,
    aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    **{each: _product for each in (aten.dot, aten.vdot, aten.mv, aten._int_mm)},
    **{each: _product_added for each in (aten.addmv, aten.addmv_, aten.addmm_, aten._addmm_activation)},
    **{each: _product_added for each in (aten.addbmm, aten.addbmm_, aten.baddbmm_)},
}


# time


def _real_time_factor(method: Method, given: Sequence[Any], sample_rate_hz: int) -> float:
    """The median over repeats that go round the scenes, one at a time."""
    factors: list[float] = []
    end_s = _now_s() + BUDGET_S
    while len(factors) < REPEATS[0] or (len(factors) < REPEATS[1] and _now_s() < end_s):
        scene = given[len(factors) % len(given)]
        began_s = _now_s()
        method.separate([scene])
        factors.append((_now_s() - began_s) / _seconds(scene, sample_rate_hz))
    return statistics.median(factors)


def _now_s() -> float:
    """The clock, once a GPU has done what it was asked to."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter()


# memory


def _peak_memory(method: Method, given: Any) -> dict[str, Any]:
    with PeakMemory() as memory:
        method.separate([given])
    return memory.figures


class PeakMemory:
    """The most memory held at a time in a `with` block; afterwards `figures` has the three peak_memory entries above.

    "GPU": the tensors on it, weights included, where the block took memory there. Not in it: what the driver and
    cuDNN set up for themselves, some hundred MB.

    "process" (Linux): the memory of the whole process, weights, Python and torch (these two alone some 300 MB) and all,
    but not the files that it maps (libraries, the sounds of a corpus), which the system takes back when it runs short.
    What was freed before is given back first, so that answering costs the same after a training as without one. Of a
    training, the mapped files are those at its end.

    "process since its start": elsewhere, or where Linux does not let the peak be reset. Everything is in it, training
    too, and there is no peak_memory_added_mb. Where the system tells nothing, `figures` is empty.

    One after the other, not one within another: each forgets the peak before it.
    """

    def __init__(self) -> None:
        self.figures: dict[str, Any] = {}
        self._held_mb: float | None = None
        self._held_gpu_mb: float | None = None

    def __enter__(self) -> PeakMemory:
        gc.collect()
        _give_back_freed()
        if device().type == "cuda":
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            self._held_gpu_mb = torch.cuda.memory_allocated() / 1e6
        if _forget_peak():
            self._held_mb = _own_mb("VmRSS")
        return self

    def __exit__(self, *error: object) -> None:
        if self._held_gpu_mb is not None:
            peak_mb = torch.cuda.max_memory_allocated() / 1e6
            if peak_mb > self._held_gpu_mb:  # else it is not the GPU that did the work
                self.figures = _figures("GPU", peak_mb, self._held_gpu_mb)
                return
        if self._held_mb is not None:
            self.figures = _figures("process", _own_mb("VmHWM"), self._held_mb)
        elif (largest_mb := _largest_ever_mb()) is not None:
            self.figures = _figures("process since its start", largest_mb, None)


def _figures(of: str, peak_mb: float, held_mb: float | None) -> dict[str, Any]:
    added = {} if held_mb is None else {"peak_memory_added_mb": round(max(0.0, peak_mb - held_mb), 1)}
    return {"peak_memory_mb": round(peak_mb, 1), **added, "peak_memory_of": of}


def _give_back_freed() -> None:
    """Hand freed pages to the system; `machine.tune_allocator` has glibc keep them."""
    with contextlib.suppress(OSError, AttributeError, TypeError):  # no glibc
        ctypes.CDLL(None).malloc_trim(0)


def _forget_peak() -> bool:
    """Set VmHWM back to what is resident now (proc(5), clear_refs); whether that can be done here."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
        return {"VmRSS", "VmHWM", "RssFile"} <= _status_mb().keys()
    except OSError:
        return False


def _own_mb(what: str) -> float:
    status = _status_mb()
    return status[what] - status["RssFile"]


def _status_mb() -> dict[str, float]:
    sizes = re.findall(r"^(\w+):\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    return {name: int(size) * 1024 / 1e6 for name, size in sizes}


def _largest_ever_mb() -> float | None:
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, kB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
