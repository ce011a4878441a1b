"""The shapes that the benchmarks measure, and models of them with random weights: nothing is downloaded.

minscl and transformers are imported inside the functions, so that neither counts in the peak memory of the other's
process (train.py).

Read next: training_runs.py, decoding_runs.py.
"""

import torch

LLAMA_125M = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 768,
    "intermediate_size": 2048,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "num_key_value_heads": 4,
    "vocab_size": 32000,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500000.0,
    "tie_word_embeddings": False,
    "hidden_act": "silu",
    "torch_dtype": "float32",
}
QWEN_500M = {  # Qwen2.5-0.5B
    "model_type": "qwen2",
    "hidden_size": 896,
    "intermediate_size": 4864,
    "num_hidden_layers": 24,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
    "vocab_size": 151936,
    "max_position_embeddings": 32768,
    "rope_theta": 1e6,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": True,
}
LLAMA_1B = {  # Llama-3.2-1B
    "model_type": "llama",
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "max_position_embeddings": 8192,
    "rope_theta": 5e5,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": True,
}
LLAMA_8B = {  # Llama-3.1-8B
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500000.0,
    "rope_scaling": {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    },
    "torch_dtype": "bfloat16",
}
# For gpu.py --toy. The vocabulary size is the demo tokenizer's, so that grounded decoding runs on it.
TOY = LLAMA_8B | {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 4096,
    "torch_dtype": "float32",
}
# For the checks on a GPU that need no larger model.
SMALL = TOY | {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 4, "head_dim": 64}


def random_model(shape: dict, *, device="cpu", dtype: torch.dtype = torch.float32, std: float = 0.02):
    """minscl's Decoder of the config.json `shape`: matrices normal with `std`, vectors normal around 1.

    Drawn on `device` from seed 0, so the weights are the same every time.
    """
    from minscl.model import Decoder, ModelConfig

    torch.manual_seed(0)
    with torch.device("meta"):
        model = Decoder(ModelConfig.from_dict(shape))
    model = model.to(dtype).to_empty(device=device)
    if model.config.tie_word_embeddings:
        model.lm_head.weight = model.model.embed_tokens.weight
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, mean=float(parameter.dim() == 1), std=std)
    return model


def transformers_model(config, weights: dict, device: torch.device, dtype: torch.dtype):
    """transformers' model of a minscl ModelConfig, in eval mode and frozen. It uses `weights` themselves, no copy."""
    import transformers

    transformers.utils.logging.set_verbosity_error()
    settings = transformers.AutoConfig.for_model(**config.to_dict())
    with torch.device(device):  # for RoPE's buffers
        model = transformers.AutoModelForCausalLM.from_config(settings, dtype=dtype, attn_implementation="sdpa")
    model.load_state_dict(weights, assign=True)
    return model.requires_grad_(False).eval()


def add_peft_lora(model):
    """transformers' model under PEFT's LoRA, with minscl's rank, alpha and target layers."""
    import peft

    from minscl.lora import TARGETS

    settings = peft.LoraConfig(r=8, lora_alpha=16, target_modules=list(TARGETS), task_type="CAUSAL_LM")
    return peft.get_peft_model(model, settings)
