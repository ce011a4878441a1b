"""llama.cpp and OpenVINO on the prompts of benchmarks/decode.py, in an environment of their own.

    python benchmarks/decode_peers.py llama.cpp MODEL.gguf PROMPTS.json        needs llama-cpp-python, built natively
    python benchmarks/decode_peers.py openvino FOLDER PROMPTS.json             needs optimum-intel[openvino], nncf

PROMPTS.json: {"prompts": [[ids]], "new_tokens": N, "threads": N, "rounds": N, "weights": "float32", "bfloat16" or
"int8"}. Prints one line of JSON: {"prefill_seconds": [...], "seconds": [...], "answers": [[ids]], "version": "..."};
the first round is not counted. Imports nothing of minscl, because the peers' packages require other versions of its
own.

Read next: decoding_runs.py, run_peers, which calls it.
"""

import json
import sys
import time
from collections.abc import Callable


def measure(run: Callable[[list[int], int], list[int]], job: dict, version: str) -> dict:
    """Time `run(prompt, new tokens)` on each prompt in turn, with one new token and with all."""
    prefill, whole, answers = [], [], []
    for round_number in range(job["rounds"] + 1):
        began = time.perf_counter()
        for prompt in job["prompts"]:
            run(prompt, 1)
        middle = time.perf_counter()
        answers = [run(prompt, job["new_tokens"]) for prompt in job["prompts"]]
        if round_number:
            prefill.append(middle - began)
            whole.append(time.perf_counter() - middle)
    return {"prefill_seconds": prefill, "seconds": whole, "answers": answers, "version": version}


def llama_cpp(model: str, job: dict) -> dict:
    """llama-cpp-python's low-level greedy loop; its batch holds the whole prompt (n_ubatch 512, its default)."""
    import llama_cpp

    if job["weights"] == "int8":
        model = quantise(llama_cpp, model)
    longest = max(map(len, job["prompts"])) + job["new_tokens"]
    llm = llama_cpp.Llama(
        model,
        n_ctx=longest + 8,
        n_threads=job["threads"],
        n_threads_batch=job["threads"],
        n_batch=2048,
        flash_attn=True,
        verbose=False,
    )

    def run(prompt: list[int], new_tokens: int) -> list[int]:
        llm.reset()
        answer: list[int] = []
        for token in llm.generate(prompt, temp=0.0, repeat_penalty=1.0, reset=True):
            answer.append(int(token))
            if len(answer) == new_tokens:
                return answer
        return answer

    return measure(run, job, f"llama-cpp-python {llama_cpp.__version__}")


def quantise(llama_cpp, path: str) -> str:
    """The file with q8_0 weights, by llama.cpp's own function."""
    settings = llama_cpp.llama_model_quantize_default_params()
    settings.ftype = llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0
    target = f"{path}.q8_0"
    if llama_cpp.llama_model_quantize(path.encode(), target.encode(), settings):
        raise RuntimeError(f"{path}: llama.cpp could not quantise it")
    return target


def openvino(folder: str, job: dict) -> dict:
    """optimum-intel's generate on a stateful model; weights as stored, or compressed by NNCF at export."""
    import openvino as ov
    import torch
    from optimum.intel import OVModelForCausalLM, OVWeightQuantizationConfig

    int8 = job["weights"] == "int8"
    compression = OVWeightQuantizationConfig(bits=8, sym=True) if int8 else None
    model = OVModelForCausalLM.from_pretrained(
        folder,
        export=True,
        load_in_8bit=None if int8 else False,
        quantization_config=compression,
        ov_config={
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": str(job["threads"]),
            "INFERENCE_PRECISION_HINT": "f32" if job["weights"] == "float32" else "bf16",
            "CACHE_DIR": "",
        },
    )

    def run(prompt: list[int], new_tokens: int) -> list[int]:
        ids = torch.tensor([prompt])
        output = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=new_tokens,
            min_new_tokens=new_tokens,
            do_sample=False,
            pad_token_id=0,
        )
        return output[0, len(prompt) :].tolist()

    return measure(run, job, f"openvino {ov.__version__.split('-')[0]}")


def main() -> None:
    """Run the side that the command line names."""
    side, model, path = sys.argv[1:]
    with open(path, encoding="utf-8") as file:
        job = json.load(file)
    print(json.dumps({"llama.cpp": llama_cpp, "openvino": openvino}[side](model, job)))


if __name__ == "__main__":
    main()
