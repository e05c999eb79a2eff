"""Record steady steps with torch's profiler: kernels, busy time, and waits of the host."""

from __future__ import annotations

from collections import Counter, defaultdict

from torch import profiler

from on_gpu import ways
from on_gpu.machine import host_milliseconds, milliseconds, synchronise
from on_gpu.pack import Pack
from on_gpu.ways import Way

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
"""Groups of kernels, by parts of their names."""


def run(pack: Pack) -> None:
    """Profile the eager step, the graph, and the best way, at each width."""
    for width in pack.widths:
        for way in (ways.GRAPH, ways.LAB, ways.BEST):
            pack.attempt(f"profile, width {width}, {way.title}", _profile, pack, way, width)


def _profile(pack: Pack, way: Way, width: int) -> None:
    pack.needs(8, "a profile")
    steps = ways.begin(pack, way if pack.is_cuda else ways.LAB, width)
    steps.prepare(4 * STEPS + 20)
    activities = [profiler.ProfilerActivity.CPU] + ([profiler.ProfilerActivity.CUDA] if pack.is_cuda else [])
    with steps.around():
        wall = milliseconds(pack.device, steps, pack.size(20, 1))
        host = host_milliseconds(pack.device, steps, pack.size(10, 1))
        with profiler.profile(activities=activities) as recorded:
            ways.repeat(steps, 2)
            synchronise(pack.device)
            with profiler.record_function(MARK):
                ways.repeat(steps, STEPS)
            synchronise(pack.device)
    steps.close()
    events = list(recorded.events() or [])
    mark = next(event for event in events if event.name == MARK and "CPU" in str(event.device_type)).time_range
    during = [event for event in events if event.time_range.start >= mark.start]
    waits = Counter(each.name for each in during if each.name in WAITS and each.time_range.start < mark.end)
    kernels = [
        event for event in during
        if "CUDA" in str(event.device_type)
        and not (getattr(event, "is_user_annotation", False) or event.name.startswith(RANGES))
    ]  # fmt: skip
    to_host, busy = sum("DtoH" in event.name for event in kernels), defaultdict[str, float](float)
    for event in kernels:
        busy[kind_of(event.name)] += event.time_range.elapsed_us() / 1000 / STEPS
    pack.row(
        "profile", width=width, way=way.title, kernels=len(kernels) / STEPS, busy_ms=sum(busy.values()), wall_ms=wall,
        host_ms=host, waits=sum(waits.values()), copies_to_host=to_host, which=dict(waits),
        by_kind={name: round(ms, 4) for name, ms in sorted(busy.items(), key=lambda item: -item[1])},
        remark=steps.remark,
    )  # fmt: skip
    if pack.is_cuda:
        check = f"no wait in the trace of {STEPS} steps: width {width}, {way.title}"
        pack.check(check, not waits and not to_host, f"{dict(waits) or 'no wait'}, {to_host} copies to the host")


def kind_of(name: str) -> str:
    """Return the group of a kernel by its name."""
    small = name.lower()
    return next((kind for kind, parts in KINDS.items() if any(part in small for part in parts)), "elementwise")
