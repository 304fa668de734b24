"""Writes the trained network as ONNX beside its description."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

import onnx
import torch

from monitor.embed.fingerprint import FrontEnd
from monitor.training.network import DIMENSION, Network


def export(network: Network, models: Path, *, steps: int) -> str:
    """Write `fingerprint.onnx` and `fingerprint.json` into `models`; give the SHA-256 of the weights."""
    front_end = FrontEnd()
    models.mkdir(parents=True, exist_ok=True)
    weights = models / "fingerprint.onnx"
    example = torch.randn(2, front_end.frames, front_end.bands)
    torch.onnx.export(
        network.eval(),
        (example,),
        str(weights),
        input_names=["log_power"],
        output_names=["vectors"],
        dynamic_axes={"log_power": {0: "windows"}, "vectors": {0: "windows"}},
        opset_version=17,
        dynamo=False,
    )
    onnx.checker.check_model(str(weights))
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    description = {
        "name": "fingerprint",
        "weights_sha256": digest,
        "dimension": DIMENSION,
        "window_s": front_end.window_samples / front_end.sample_rate_hz,
        "hop_s": front_end.hop_samples / front_end.sample_rate_hz,
        "reference_hop_s": front_end.reference_hop_samples / front_end.sample_rate_hz,
        "front_end": asdict(front_end),
        "trained_steps": steps,
    }
    (models / "fingerprint.json").write_text(json.dumps(description, indent=2) + "\n")
    return digest
