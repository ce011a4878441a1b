"""A model made ready for inference: fused projections and widened weights compute the plain model's numbers."""

import copy

import pytest
import torch

from minscl.infer import linear as linear_module
from minscl.lora import add_lora
from tests.tiny_models import V, decoder


@pytest.mark.parametrize("family", ["llama3.1", "qwen2"])  # without and with biases
def test_widened_weights_compute_the_same(family, monkeypatch):
    """Guards: a bias left out, an output in another dtype, an embedding replaced with the head that it is tied to;
    bfloat16, whose rounding differs (2e-2)."""
    monkeypatch.setattr(linear_module, "float32_is_faster", lambda: True)
    plain = decoder(family, torch.bfloat16)
    model = copy.deepcopy(plain)
    linear_module.prepare_for_inference(model)
    assert not any(isinstance(module, torch.nn.Linear) for module in model.modules())
    with torch.inference_mode():
        for tokens in (1, 3, 40):
            ids = torch.randint(V, (2, tokens), generator=torch.Generator().manual_seed(tokens))
            widened, logits = model(ids).float(), plain(ids).float()
            assert (widened - logits).norm() <= 2e-2 * logits.norm()


@pytest.mark.parametrize("family", ["llama3.1", "qwen2"])  # without and with biases
def test_few_rows_compute_the_same(family, monkeypatch):
    """Guards: a bias left out, the doubled row returned, rows and outputs exchanged, more rows in the wrong form; 1e-5
    in float32."""
    monkeypatch.setattr(linear_module, "few_rows_are_faster", lambda: True)
    plain = decoder(family)
    model = copy.deepcopy(plain)
    linear_module.prepare_for_inference(model)
    assert not any(isinstance(module, torch.nn.Linear) for module in model.modules())
    with torch.inference_mode():
        for tokens in (1, 2, 4, 5):  # of two sequences: 2 to 8 rows are few
            ids = torch.randint(V, (2, tokens), generator=torch.Generator().manual_seed(tokens))
            torch.testing.assert_close(model(ids), plain(ids), atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(model(ids[:1]), plain(ids[:1]), atol=1e-5, rtol=1e-5)


def test_few_rows_take_the_form_that_the_processor_asks_for(monkeypatch):
    """Guards: a form measured at each start, which changes a score's last digits from one run to the next."""
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: True)
    for vendor, expected in (("vendor_id : AuthenticAMD", True), ("vendor_id : GenuineIntel", False), ("", False)):
        monkeypatch.setattr(linear_module, "processor", lambda vendor=vendor: vendor)
        model = decoder()
        linear_module.prepare_for_inference(model)
        assert isinstance(model.lm_head, linear_module.FewRowsLinear) is expected
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: False)
    monkeypatch.setattr(linear_module, "processor", lambda: "vendor_id : AuthenticAMD")
    assert not linear_module.few_rows_are_faster()


def test_weights_are_widened_only_where_it_is_faster(monkeypatch):
    """Guards: float32 products on a CPU with bfloat16 instructions, and a measurement for other dtypes."""
    monkeypatch.setattr(linear_module, "measure_matmul_rate", lambda device, dtype, rows: 1.0)
    assert not linear_module.float32_is_faster()
    monkeypatch.setattr(linear_module, "measure_matmul_rate", lambda device, dtype, rows: dtype.itemsize)
    assert linear_module.float32_is_faster()
    model = decoder("llama3.1", torch.float32)
    linear_module.prepare_for_inference(model)
    assert not any(isinstance(module, linear_module.WideningLinear) for module in model.modules())


@pytest.mark.parametrize("family", ["llama3.1", "qwen2", "qwen3"])  # without biases, with, with norms of each head
def test_fused_projections_compute_the_same(family):
    """Guards: projections split at the wrong sizes, a bias left out; float64 1e-12."""
    plain, ids = decoder(family, torch.float64), torch.arange(20)[None]
    fused = copy.deepcopy(plain)
    for block in fused.model.layers:
        block.self_attn.fuse_projections()
        block.mlp.fuse_projections()
        assert not hasattr(block.self_attn, "q_proj") and not hasattr(block.mlp, "up_proj")
    torch.testing.assert_close(fused(ids), plain(ids), atol=1e-12, rtol=0)


def test_projections_with_lora_are_not_fused():
    """Guards: an adapter's update lost where LoRA is not merged."""
    model, ids = decoder(), torch.arange(20)[None]
    add_lora(model, rank=2, targets=["q_proj", "gate_proj"])
    expected = model(ids)
    for block in model.model.layers:
        block.self_attn.fuse_projections()
        block.mlp.fuse_projections()
    assert torch.equal(model(ids), expected) and hasattr(model.model.layers[0].self_attn, "q_proj")
