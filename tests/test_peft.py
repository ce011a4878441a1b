"""LoRA against PEFT, live (the `teacher` extra): outputs, gradients, and adapters exchanged both ways.

PEFT wraps a transformers model. minscl's LoRA wraps a copy of the same model, so that LoRA alone is compared, or
minscl's decoder with the same weights, as in use.
"""

import copy
import json
import warnings

import pytest
import torch

from minscl.errors import InputError
from minscl.lora import TARGETS, add_lora, load_adapter, lora_parameters, merge_lora, save_adapter
from minscl.model import Decoder, ModelConfig

peft = pytest.importorskip("peft", reason="the teacher extra is not installed")
transformers = pytest.importorskip("transformers", reason="the teacher extra is not installed")

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::peft.utils.warning.PeftWarning")

SIZE = dict(
    vocab_size=97,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=64,
    pad_token_id=None,
    bos_token_id=None,
    eos_token_id=None,
)
FAMILIES = {
    "llama": lambda: transformers.LlamaForCausalLM(transformers.LlamaConfig(**SIZE)),
    # with biases on q, k, v
    "qwen2": lambda: transformers.Qwen2ForCausalLM(transformers.Qwen2Config(**SIZE, tie_word_embeddings=True)),
    "qwen3": lambda: transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**SIZE, head_dim=16)),
}
SUBSETS = {
    "all": list(TARGETS),
    "attention": ["q_proj", "v_proj"],
    "single layer": ["layers.1.mlp.down_proj"],
    "pattern": r".*\.(k|up)_proj",
}


@pytest.fixture(params=FAMILIES)
def base(request):
    """A tiny random model with weights large enough that every layer matters."""
    torch.manual_seed(11)
    model = FAMILIES[request.param]().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def minscl_decoder(base):
    """minscl's decoder with the weights of `base`."""
    model = Decoder(ModelConfig.from_dict(base.config.to_dict())).eval()
    model.load_state_dict(base.state_dict())
    return model


def with_peft(base, targets, **settings):
    """PEFT's model over a copy of `base`, its A and B random."""
    config = peft.LoraConfig(
        r=4, lora_alpha=6, target_modules=targets, task_type="CAUSAL_LM", init_lora_weights=False, **settings
    )
    torch.manual_seed(5)
    return peft.get_peft_model(copy.deepcopy(base), config).eval()


def peft_parameters(model):
    """PEFT's A and B under minscl's names."""
    return {
        name.removeprefix("base_model.model.").removesuffix(".default.weight"): parameter
        for name, parameter in model.named_parameters()
        if "lora_" in name
    }


def masked_backward(model):
    """Logits of a fixed batch, after the backward of a loss on a third of its positions."""
    generator = torch.Generator().manual_seed(2)
    ids = torch.randint(97, (2, 12), generator=generator)
    labels = torch.where(torch.rand(2, 12, generator=generator) < 0.33, ids, -100)
    output = model(ids)
    logits = getattr(output, "logits", output).float()
    torch.nn.functional.cross_entropy(
        logits[:, :-1].reshape(-1, 97), labels[:, 1:].reshape(-1), ignore_index=-100
    ).backward()
    return logits.detach()


@pytest.mark.parametrize("subset", SUBSETS)
def test_outputs_and_gradients_equal_peft(base, subset):
    """Guards: scaling, the place of the casts, a layer that only PEFT wraps, a base weight that trains."""
    teacher = with_peft(base, SUBSETS[subset])
    ours = copy.deepcopy(base) if subset != "all" else minscl_decoder(base)
    add_lora(ours, rank=4, alpha=6, targets=SUBSETS[subset])
    theirs, own = peft_parameters(teacher), dict(lora_parameters(ours))
    assert theirs.keys() == own.keys()
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(theirs[name])
    torch.testing.assert_close(masked_backward(ours), masked_backward(teacher), atol=1e-5, rtol=0)
    for name, parameter in own.items():
        assert parameter.grad.abs().max() > 1e-6  # there is a gradient to compare
        torch.testing.assert_close(parameter.grad, theirs[name].grad, atol=1e-5, rtol=1e-5)
    assert all(parameter.grad is None for name, parameter in ours.named_parameters() if "lora_" not in name)


def test_dropout_equals_peft(base, tmp_path):
    """Guards: dropout at another place or rate. From the same global seed the dropout masks are the same."""
    teacher = with_peft(base, list(TARGETS), lora_dropout=0.4)
    teacher.save_pretrained(tmp_path)
    ours = copy.deepcopy(base)
    load_adapter(ours, tmp_path)
    logits = []
    for model in (ours.train(), teacher.train()):
        torch.manual_seed(9)
        logits.append(masked_backward(model))
    torch.testing.assert_close(*logits, atol=1e-5, rtol=0)


def test_bfloat16_base_is_as_exact_as_peft_under_autocast(base):
    """Guards: an update or a gradient rounded more often than in the usual mixed-precision training.

    Errors are measured against PEFT in float64 with the same bfloat16 weights; minscl's may be a tenth larger than
    PEFT's under autocast. A and B, and their gradients, stay float32.
    """
    bfloat16 = base.to(torch.bfloat16)
    teacher, exact = with_peft(bfloat16, list(TARGETS)), with_peft(bfloat16, list(TARGETS)).double()
    ours = copy.deepcopy(bfloat16)
    add_lora(ours, rank=4, alpha=6)
    theirs, own, truth = peft_parameters(teacher), dict(lora_parameters(ours)), peft_parameters(exact)
    with torch.no_grad():
        for name, parameter in own.items():
            assert parameter.dtype == theirs[name].dtype == torch.float32
            parameter.copy_(theirs[name])
            truth[name].copy_(theirs[name])
    logits, exact_logits = masked_backward(ours), masked_backward(exact)
    with torch.autocast("cpu", torch.bfloat16):
        teacher_logits = masked_backward(teacher)
    assert (logits - exact_logits).norm() <= 1.1 * (teacher_logits - exact_logits).norm()
    assert all(parameter.grad.dtype == torch.float32 for parameter in own.values())

    def error(parameters):
        return sum((parameter.grad - truth[name].grad).square().sum() for name, parameter in parameters.items()).sqrt()

    assert error(own) <= 1.1 * error(theirs)


@pytest.mark.parametrize("subset", SUBSETS)
def test_peft_loads_our_adapter(base, subset, tmp_path):
    """Guards: a key without PEFT's prefix (it only warns and keeps its own values), a setting PEFT reads otherwise."""
    ours = minscl_decoder(base)
    add_lora(ours, rank=4, alpha=6, targets=SUBSETS[subset], seed=3)
    with torch.no_grad():
        for _, parameter in lora_parameters(ours):
            parameter.normal_(std=0.2)
    save_adapter(ours, tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # "Found missing adapter keys", "Found unexpected keys"
        warnings.simplefilter("error", RuntimeWarning)
        teacher = peft.PeftModel.from_pretrained(copy.deepcopy(base), tmp_path).eval()
    ids = torch.arange(24).reshape(2, 12)
    with torch.no_grad():
        assert (ours(ids) - base(ids).logits).abs().max() > 1e-2
        torch.testing.assert_close(teacher(ids).logits, ours(ids), atol=1e-5, rtol=0)


@pytest.mark.parametrize("subset", [*SUBSETS, "all-linear"])
def test_an_adapter_from_peft_loads_and_merges(base, subset, tmp_path):
    """Guards: PEFT's list, pattern and "all-linear" targets; a merge that differs from PEFT's."""
    teacher = with_peft(base, SUBSETS.get(subset, subset))
    teacher.save_pretrained(tmp_path)
    ours = copy.deepcopy(base)
    load_adapter(ours, tmp_path)
    decoder = minscl_decoder(base)
    load_adapter(decoder, tmp_path)
    ids = torch.arange(24).reshape(2, 12)
    with torch.no_grad():
        expected = teacher(ids).logits
        torch.testing.assert_close(decoder(ids), expected, atol=1e-5, rtol=0)
        torch.testing.assert_close(ours(ids).logits, expected, atol=1e-5, rtol=0)
        merge_lora(ours)
        torch.testing.assert_close(ours(ids).logits, expected, atol=1e-5, rtol=0)
        merged = teacher.merge_and_unload().state_dict()
    assert ours.state_dict().keys() == merged.keys()
    for name, weight in ours.state_dict().items():
        torch.testing.assert_close(weight, merged[name], atol=1e-6, rtol=0)


PEFT_KINDS = {
    "use_dora": dict(use_dora=True),
    "use_rslora": dict(use_rslora=True),
    "rank_pattern": dict(rank_pattern={"q_proj": 2}),
    "alpha_pattern": dict(alpha_pattern={"q_proj": 2}),
    "modules_to_save": dict(modules_to_save=["norm"]),
    "bias": dict(bias="all"),
    "lora_bias": dict(lora_bias=True),
    "layers_to_transform": dict(layers_to_transform=[1]),
    "exclude_modules": dict(exclude_modules=["v_proj"]),
    "trainable_token_indices": dict(trainable_token_indices=[1, 2]),
    "target_parameters": dict(target_parameters=["self_attn.o_proj.weight"]),
}


@pytest.mark.parametrize("field", PEFT_KINDS)
def test_other_kinds_of_peft_adapters_are_refused(field, tmp_path):
    """Guards: a setting in adapter_config.ACCEPTED that PEFT spells otherwise."""
    torch.manual_seed(0)
    targets = ["k_proj"] if field == "lora_bias" else ["q_proj", "v_proj"]
    family = "qwen2" if field == "lora_bias" else "llama"  # a LoRA bias needs a base bias
    model = FAMILIES[family]()
    peft.get_peft_model(
        copy.deepcopy(model), peft.LoraConfig(r=4, target_modules=targets, task_type="CAUSAL_LM", **PEFT_KINDS[field])
    ).save_pretrained(tmp_path)
    with pytest.raises(InputError, match=f"adapter_config.json: {field} = "):
        load_adapter(model, tmp_path)


def test_a_plain_peft_adapter_of_this_release_is_accepted(tmp_path):
    """Guards: a default that this release of PEFT writes and adapter_config refuses."""
    config = peft.LoraConfig(r=4, target_modules=["q_proj"], task_type="CAUSAL_LM")
    model = FAMILIES["llama"]()
    peft.get_peft_model(copy.deepcopy(model), config).save_pretrained(tmp_path)
    written = json.loads((tmp_path / "adapter_config.json").read_text())
    load_adapter(model, tmp_path)
    layer = model.model.layers[0].self_attn.q_proj
    assert (layer.rank, layer.alpha, layer.dropout) == (written["r"], written["lora_alpha"], written["lora_dropout"])
