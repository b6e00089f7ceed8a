"""Set models as the trainer writes them."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest

from itp.errors import ModelError
from itp.models import setmodel
from itp.models.load import load_model
from itp.schema import CANDIDATE_FEATURES, CONTEXT_FEATURES, STREAM_FEATURES
from set_models import forward, random_arrays

pytest.importorskip("torch", reason="training needs PyTorch: pip install itp[train]")

from itp_training.export import write_set_model


def test_a_set_model_is_written_with_its_metadata(tmp_path):
    arrays = random_arrays((48, 32, 48, 32))
    metadata = {"preferences": {"typical": 0.0, "balanced": 0.3, "bulk": 0.9}, "training": {"seed": 3}}
    path = write_set_model(arrays, metadata, tmp_path / "new" / "sets.onnx")
    beside = json.loads(path.with_suffix(".json").read_text())
    assert beside["schema"] == 2
    assert beside["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert beside["training"] == {"seed": 3}
    model = load_model(path)
    assert model.version == beside["version"]
    assert model.version.startswith("sets-")
    assert model.preferences.balanced == 0.3
    inputs = setmodel.probes(5)
    np.testing.assert_allclose(model.set_net(*inputs), forward(arrays, *inputs), rtol=1e-4, atol=1e-4)
    # The metadata inside do without the file beside.
    path.with_suffix(".json").unlink()
    assert load_model(path).version == model.version
    # The same weights, the same bytes.
    again = write_set_model(arrays, metadata, tmp_path / "again" / "sets.onnx")
    assert again.read_bytes() == path.read_bytes()


def test_what_cannot_be_served_is_not_written(tmp_path):
    path = write_set_model(random_arrays(), {}, tmp_path / "sets.onnx")
    before = path.read_bytes(), path.with_suffix(".json").read_bytes()
    with pytest.raises(ModelError, match="preferences"):
        write_set_model(random_arrays(seed=1), {"preferences": {}}, path)
    arrays = random_arrays(seed=1)
    arrays["own.weight"][0, 0] = np.inf
    with pytest.raises(ModelError, match="not finite"):
        write_set_model(arrays, {}, path)
    assert (path.read_bytes(), path.with_suffix(".json").read_bytes()) == before
    assert sorted(file.name for file in tmp_path.iterdir()) == ["sets.json", "sets.onnx"]


def test_a_torch_network_of_the_same_layers_gives_the_same_values(tmp_path):
    import torch
    from torch import nn

    torch.manual_seed(0)
    w, h, z, d = 32, 16, 32, 16
    layers = nn.ModuleDict(
        {
            "context": nn.Linear(CONTEXT_FEATURES, w + z),
            "first": nn.Linear(STREAM_FEATURES, w, bias=False),
            "second": nn.Linear(w, h),
            "pool": nn.Linear(h, z, bias=False),
            "member": nn.Linear(h, z, bias=False),
            "own": nn.Linear(CANDIDATE_FEATURES, z, bias=False),
            "hidden": nn.Linear(z, d),
            "out": nn.Linear(d + CANDIDATE_FEATURES, 1),
        }
    )
    arrays = {name: tensor.numpy() for name, tensor in layers.state_dict().items()}
    net = load_model(write_set_model(arrays, {}, tmp_path / "t.onnx")).set_net
    streams, context, candidates, members = setmodel.probes(4)
    marked = torch.from_numpy(((members[:, :, None] >> np.arange(4, dtype=np.uint32)) & 1).astype(np.float32))
    with torch.inference_mode():
        ctx = layers["context"](torch.from_numpy(context))
        f = torch.relu(layers["first"](torch.from_numpy(streams)) + ctx[:, None, :w])
        h_ = torch.relu(layers["second"](f))
        mean = torch.bmm(marked, layers["member"](h_)) / marked.sum(2, keepdim=True)
        shared = layers["pool"](h_.mean(1)) + ctx[:, w:]
        c = torch.from_numpy(candidates)
        z_ = torch.relu(layers["own"](c) + mean + shared[:, None])
        value = layers["out"](torch.cat([torch.relu(layers["hidden"](z_)), c], -1))[:, :, 0]
    np.testing.assert_allclose(
        net(streams, context, candidates, members), value.numpy(), rtol=1e-4, atol=1e-4
    )
