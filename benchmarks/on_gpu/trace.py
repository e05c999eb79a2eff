"""Record steady steps with torch's profiler: kernels, busy time, and waits of the host."""

from __future__ import annotations

from collections import Counter, defaultdict
from statistics import median

from torch.profiler import ProfilerActivity, profile, record_function

from on_gpu import ways
from on_gpu.pack import Pack
from on_gpu.speed import widths
from on_gpu.timing import host_milliseconds, milliseconds, synchronise
from on_gpu.ways import Lab, Way

STEPS = 5
MARK = "steady steps"
RANGES = (MARK, "Optimizer.", "ProfilerStep", "Torch-Compiled", "CompiledFunction", "## ")
"""Prefixes of ranges that the device's timeline shows beside their kernels."""
WAITS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize", "cudaMemcpy", "cuStreamSynchronize",
         "cuCtxSynchronize")  # fmt: skip
"""Calls of the runtime in which the host waits; `cudaMemcpyAsync` is another one, and its copies to the host count."""
KINDS = {
    "layout": ("nchwtonhwc", "nhwctonchw", "nchw2nhwc", "nhwc2nchw"), "convolutions, weights": ("wgrad",),
    "convolutions, data": ("dgrad",), "convolutions, forward": ("fprop", "implicit_convolve"),
    "convolutions and products": ("conv", "gemm", "cutlass", "xmma", "nvjet"), "batch norm": ("batch_norm", "bn_"),
    "optimizer": ("multi_tensor", "fused_sgd", "fusedoptimizer"), "compiled": ("triton",), "reductions": ("reduce",),
    "copies": ("memcpy", "memset", "copy"),
}  # fmt: skip


def profiled(pack: Pack) -> None:
    """Profile the eager step, the graph, and the best way, at each width."""
    for width in widths(pack):
        for way in (ways.GRAPH, ways.LAB, ways.BEST):
            pack.attempt(f"profile, width {width}, {way.title}", lambda w=way, n=width: _profile(pack, w, n))


def _profile(pack: Pack, way: Way, width: int) -> None:
    pack.needs(8, "a profile")
    steps, _ = ways.begin(pack, way if pack.is_cuda else ways.LAB, width)
    assert isinstance(steps, Lab)
    steps.prepare(4 * STEPS + 20)
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if pack.is_cuda else [])
    with steps.around():
        wall = milliseconds(pack.device, steps, pack.size(20, 1))
        host = median(host_milliseconds(pack.device, steps, pack.size(10, 1)))
        with profile(activities=activities) as recorded:
            ways.repeat(steps, 2)
            synchronise(pack.device)
            with record_function(MARK):
                ways.repeat(steps, STEPS)
            synchronise(pack.device)
    steps.stepper.close()
    events = list(recorded.events() or [])
    mark = next(event for event in events if event.name == MARK and "CPU" in str(event.device_type))
    waits = Counter(
        event.name for event in events
        if event.name in WAITS and mark.time_range.start <= event.time_range.start < mark.time_range.end
    )  # fmt: skip
    kernels, busy = 0, defaultdict[str, float](float)
    to_host = 0
    for event in events:
        if "CUDA" not in str(event.device_type) or event.time_range.start < mark.time_range.start:
            continue
        if getattr(event, "is_user_annotation", False) or event.name.startswith(RANGES):
            continue
        kernels += 1
        to_host += "DtoH" in event.name
        busy[kind_of(event.name)] += event.time_range.elapsed_us() / 1000 / STEPS
    pack.row(
        "profile", width=width, way=way.title, kernels=kernels / STEPS, busy_ms=sum(busy.values()), wall_ms=wall,
        host_ms=host, waits=sum(waits.values()), copies_to_host=to_host, which=dict(waits),
        by_kind={name: round(ms, 4) for name, ms in sorted(busy.items(), key=lambda item: -item[1])},
        remark=steps.remark,
    )  # fmt: skip
    if pack.is_cuda:
        pack.row(
            "correctness", check=f"no wait in the trace of {STEPS} steps: width {width}, {way.title}",
            passed=not waits and not to_host, detail=f"{dict(waits) or 'no wait'}, {to_host} copies to the host",
        )  # fmt: skip


def kind_of(name: str) -> str:
    """Return the group of a kernel by its name."""
    small = name.lower()
    return next((kind for kind, parts in KINDS.items() if any(part in small for part in parts)), "elementwise")
