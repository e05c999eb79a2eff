"""ONNX model of a trained network: raw images in, logits out; its metadata, and its quantisation to 8 bits."""

from __future__ import annotations

import json
import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cifar_lab.data.augmentation import MEAN, STD
from cifar_lab.data.dataset import Images
from cifar_lab.errors import ExportError, UsageError, first_line, shortened
from cifar_lab.inference.network_outputs import WORDS, Member
from cifar_lab.inference.raw_image_network import PIXELS, Pixels, RawImageNetwork, as_input

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
"""Packages of the extra `onnx`."""
INPUT, OUTPUT = "images", "logits"
"""Names of the graph's input, (N, 3, side, side), and output, (N, classes)."""
EXAMPLE = 2
"""Images in the batch that the exporter traces; for a batch of one it would take the number as a constant."""
CALIBRATION_BATCH = 64


def require_onnx() -> None:
    """Check that the packages of the extra `onnx` are installed; they are not imported.

    Raises:
        UsageError: one is missing.
    """
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise UsageError(f"export needs {', '.join(missing)}: `pip install 'cifar-lab[onnx]'` installs all of it")


def export_model(member: Member, side: int, pixels: Pixels = "uint8") -> bytes:
    """Return the network of `member`, which is on the CPU, as a serialised ONNX model with metadata.

    Raises:
        ExportError: torch cannot trace the network, for example because its Python code depends on values of a tensor
            or on the number of images.
    """
    import onnx
    from onnx_ir.passes.common import ClearMetadataAndDocStringPass

    network = RawImageNetwork(member.net, member.recipe, member.tta, pixels).eval()
    example = torch.zeros(EXAMPLE, 3, side, side, dtype=torch.uint8 if pixels == "uint8" else torch.float32)
    try:
        with torch.no_grad(), _quiet():
            program = torch.onnx.export(
                network, (example,), dynamo=True, verbose=False, input_names=[INPUT], output_names=[OUTPUT],
                dynamic_shapes={"images": {0: torch.export.Dim("batch")}},
            )  # fmt: skip
            assert program is not None
            ClearMetadataAndDocStringPass()(program.model)  # it holds paths and lines of the source
            model = program.model_proto
            onnx.checker.check_model(model)
    except Exception as error:  # a network may be anything, and so may the exporter's error
        why = f"{type(error).__name__}: {shortened(_reason(error))}"
        name = member.recipe.model.name
        raise ExportError(f"{member.run.name}: torch.onnx.export cannot trace its network '{name}': {why}") from error
    model.producer_name, model.producer_version = "cifar-lab", version("cifar-lab")
    onnx.helper.set_model_props(model, onnx_metadata(member, side, pixels))
    return bytes(model.SerializeToString())


def onnx_metadata(member: Member, side: int, pixels: Pixels) -> dict[str, str]:
    """Return the metadata of a network's ONNX model; `classes`, `recipe` and `versions` are JSON."""
    cell, recipe = member.run.cell, member.recipe
    normalised = f"(x - {MEAN}) / {STD} for x from 0 to 1" if recipe.data.normalise else "x from 0 to 1"
    measured = {f"recorded/{name}": str(cell.metrics[name]) for name in ("val/acc", "test/acc") if name in cell.metrics}
    return {
        "input": f"RGB images N × 3 × {side} × {side}, {PIXELS[pixels]}",
        "normalisation": f"{normalised}, inside the graph",
        "output": f"logits N × {len(cell.classes)}, before softmax, in the order of classes",
        "classes": json.dumps(cell.classes, ensure_ascii=False),
        "run": member.run.name,
        "fingerprint": cell.fingerprint,
        "seed": str(member.run.seed),
        "recipe": json.dumps(recipe.flat(), ensure_ascii=False, default=str),
        "test_time_augmentation": WORDS[member.tta],
        "data": cell.data,
        "data_sha256": cell.data_hash,
        **measured,
        "versions": json.dumps({name: version(name) for name in ("cifar-lab", "torch", *PACKAGES)}),
    }  # fmt: skip


def with_metadata(model: bytes, entries: Mapping[str, str]) -> bytes:
    """Return a copy of a model with these entries in its metadata, too."""
    import onnx

    loaded = onnx.load_model_from_string(model)
    props = {entry.key: entry.value for entry in loaded.metadata_props}
    onnx.helper.set_model_props(loaded, {**props, **entries})
    return bytes(loaded.SerializeToString())


def quantise(model: bytes, images: Images, pixels: Pixels = "uint8") -> bytes:
    """Return a copy of a model whose weights and activations are 8-bit integers (static quantisation).

    Weights have a scale for each channel, activations one for each tensor: the range that `images` reach.

    Args:
        model: model of `export_model`.
        images: (N, side, side, 3) uint8, training images.
        pixels: type of the model's input.
    """
    import onnx
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory(prefix="cifar-lab-") as folder, _quiet():
        plain, prepared, made = (Path(folder) / f"{name}.onnx" for name in ("plain", "prepared", "made"))
        plain.write_bytes(model)
        # onnxruntime's graph optimisation folds batch norms and joins what is computed together.
        quant_pre_process(plain, prepared, skip_symbolic_shape=True)
        quantization.quantize_static(
            prepared, made, _reader(images, pixels), per_channel=True,
            quant_format=quantization.QuantFormat.QDQ, activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
        )  # fmt: skip
        quantised = onnx.load(made)
    props = {entry.key: entry.value for entry in onnx.load_model_from_string(model).metadata_props}
    props["quantisation"] = f"static, 8 bits, weights per channel, calibrated on {len(images)} training images"
    onnx.helper.set_model_props(quantised, props)
    quantised.producer_name, quantised.producer_version = "cifar-lab", version("cifar-lab")
    return bytes(quantised.SerializeToString())


def _reader(images: Images, pixels: Pixels) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        """Batches of calibration images, once."""

        def __init__(self) -> None:
            self.batches: Iterator[Mapping[str, np.ndarray]] = (
                {INPUT: as_input(images[start : start + CALIBRATION_BATCH], pixels)}
                for start in range(0, len(images), CALIBRATION_BATCH)
            )

        def get_next(self) -> Mapping[str, np.ndarray] | None:
            return next(self.batches, None)

    return Reader()


def _reason(error: BaseException) -> str:
    """Return the first line of the error at the root: the exporter wraps that of the network."""
    while error.__cause__ is not None:
        error = error.__cause__
    return first_line(error) or type(error).__name__


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what the exporter and the quantiser print about their own work."""
    root = logging.getLogger()
    before = root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
