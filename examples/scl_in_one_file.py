"""Span-Centric Learning (arXiv 2603.15270) in one file, to be read from the top: the model, training, coding a note.

    python examples/scl_in_one_file.py    # trains the embedded toy model for a few steps, then codes examples/note.txt

One sample and one token at a time, nothing checked, not for clinical use. The tests compare minscl with this file.
B batch, T new tokens, S cached keys, C hidden, H query and K kv heads, D head_dim, F intermediate, V vocabulary, R rank
"""

import gzip
import json
import math
import re
from pathlib import Path
from xml.etree import ElementTree

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from tokenizers import Tokenizer

ROOT = Path(__file__).resolve().parent.parent
DEMO = ROOT / "minscl/demo"  # the embedded model, its adapter, a few training samples
TABULAR_LIST = ROOT / "minscl/data/icd/resources/icd10cm_tabular_2026.xml.gz"

def apply_rope(x, past, config):
    """x (B, T, heads, D), after `past` tokens: at position p, features i and i + D/2 turn by the angle p θ^(-2i/D)."""
    frequencies = 1 / config.get("rope_theta", 1e4) ** (torch.arange(0, x.shape[-1], 2).float() / x.shape[-1])  # (D/2,)
    if scaling := config.get("rope_scaling"):  # Llama 3.1's, for long contexts: slow pairs turn slower still
        turns = scaling["original_max_position_embeddings"] / (2 * math.pi / frequencies)
        low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
        fast = ((turns - low) / (high - low)).clamp(0, 1)
        frequencies = (1 - fast) * frequencies / scaling["factor"] + fast * frequencies
    angles = torch.outer(torch.arange(past, past + x.shape[1]).float(), frequencies).repeat(1, 2)[:, None]  # (T, 1, D)
    first, second = x.chunk(2, dim=-1)
    return x * angles.cos().to(x) + torch.cat((-second, first), dim=-1) * angles.sin().to(x)

class Decoder:
    """Llama, Qwen2, Qwen3: `config` is config.json, `weights` the tensors by Hugging Face's names, `lora` by PEFT's."""

    def __init__(self, config, weights):
        self.config, self.weights, self.lora, self.lora_scaling = config, weights, {}, 0.0

    def norm(self, name, x):  # RMSNorm
        return self.weights[f"{name}.weight"] * x / (x.square().mean(-1, True) + self.config["rms_norm_eps"]).sqrt()

    def linear(self, name, x):  # W x + b; with LoRA W x + b + alpha/R · B A x, where A is (R, in) and B (out, R)
        y = F.linear(x, self.weights[f"{name}.weight"], self.weights.get(f"{name}.bias"))
        if f"{name}.lora_A.weight" in self.lora:
            A, B = self.lora[f"{name}.lora_A.weight"], self.lora[f"{name}.lora_B.weight"]
            y = y + self.lora_scaling * F.linear(F.linear(x, A), B)
        return y

    def attention(self, name, x, cache):  # grouped-query: H/K query heads share a key/value head
        D = self.config.get("head_dim") or self.config["hidden_size"] // self.config["num_attention_heads"]
        query, key, value = (self.linear(f"{name}.{part}_proj", x).unflatten(-1, (-1, D)) for part in "qkv")
        if f"{name}.q_norm.weight" in self.weights:  # Qwen3
            query, key = self.norm(f"{name}.q_norm", query), self.norm(f"{name}.k_norm", key)
        past_key, past_value = cache.get(name, (key[:, :0], value[:, :0]))  # (B, S - T, K, D)
        past = past_key.shape[1]
        query, key = apply_rope(query, past, self.config), apply_rope(key, past, self.config)  # (B, T, H or K, D)
        cache[name] = key, value = torch.cat((past_key, key), 1), torch.cat((past_value, value), 1)  # (B, S, K, D)
        query = query.unflatten(2, (key.shape[2], -1))  # (B, T, K, H/K, D)
        scores = torch.einsum("btkhd, bskd -> bkhts", query, key) / math.sqrt(D)
        later = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(past + 1)  # (T, S): True where the key comes later
        attended = scores.masked_fill(later, -math.inf).softmax(-1)  # (B, K, H/K, T, S)
        return self.linear(f"{name}.o_proj", torch.einsum("bkhts, bskd -> btkhd", attended, value).flatten(2))

    def __call__(self, input_ids, cache=None):
        """input_ids (B, T) → logits (B, T, V); `cache`, a dict, keeps keys and values from call to call."""
        cache = {} if cache is None else cache
        x = self.weights["model.embed_tokens.weight"][input_ids]  # (B, T, C)
        for layer in (f"model.layers.{number}" for number in range(self.config["num_hidden_layers"])):
            x = x + self.attention(f"{layer}.self_attn", self.norm(f"{layer}.input_layernorm", x), cache)
            normed = self.norm(f"{layer}.post_attention_layernorm", x)
            gate, up = (self.linear(f"{layer}.mlp.{part}_proj", normed) for part in ("gate", "up"))  # (B, T, F)
            x = x + self.linear(f"{layer}.mlp.down_proj", F.silu(gate) * up)  # SwiGLU
        head = "lm_head" if "lm_head.weight" in self.weights else "model.embed_tokens"  # the same where tied
        return self.linear(head, self.norm("model.norm", x))

def add_lora(model, rank=8, alpha=16):  # A Kaiming-uniform and B zero, so that the model starts as it was
    model.lora, model.lora_scaling = {}, alpha / rank
    for name in (name.removesuffix(".weight") for name in model.weights if name.endswith("_proj.weight")):
        W = model.weights[f"{name}.weight"]  # (out, in), frozen
        A, B = torch.nn.init.kaiming_uniform_(W.new_empty(rank, W.shape[1]), a=5**0.5), W.new_zeros(W.shape[0], rank)
        model.lora |= {f"{name}.lora_A.weight": A.requires_grad_(), f"{name}.lora_B.weight": B.requires_grad_()}

def load_adapter(model, folder):  # as PEFT saves it
    settings = json.loads((folder / "adapter_config.json").read_text())
    tensors = load_file(folder / "adapter_model.safetensors")
    model.lora = {name.removeprefix("base_model.model."): tensor for name, tensor in tensors.items()}
    model.lora_scaling = settings["lora_alpha"] / settings["r"]

DOCUMENT_INSTRUCTION = ('Code this note in ICD-10-CM. Under "Evidence:" quote each finding word for word, numbered, in '
                        'note order. Under "Codes:" write a line per code: evidence numbers in brackets, code, '
                        'description. Write "none" if nothing can be coded.')
SPAN_INSTRUCTION = "Give the ICD-10-CM code and description for this evidence:"

def document_sample(document):
    """Eq. 1 and 4, x → E → C: (prompt, target). Each quotation once, in note order; codes by their first quotation."""
    numbers, references = {}, {}  # of each quotation its number, of each code the numbers of its quotations
    pairs = [(evidence, code) for code in document["codes"] for evidence in code["evidence"]]
    for evidence, code in sorted(pairs, key=lambda pair: (pair[0]["start"], pair[0]["end"])):
        number = numbers.setdefault(" ".join(evidence["text"].split()), len(numbers) + 1)
        references.setdefault(f"{code['code']} {code['description']}", set()).add(number)
    quotations = [f"{number}. {text}" for text, number in numbers.items()]
    codes = [f"{sorted(own)} {code}" for code, own in sorted(references.items(), key=lambda item: min(item[1]))]
    target = "\n".join(["Evidence:", *(quotations or ["none"]), "Codes:", *(codes or ["none"])])
    return f"{DOCUMENT_INSTRUCTION}\n\n{document['text']}", target

def span_sample(span, tabular_list):  # Eq. 5, e → c: (prompt, target)
    return f"{SPAN_INSTRUCTION}\n{span['evidence']}", f"{span['code']} {tabular_list[span['code']][0]}"

def encode(tokenizer, prompt, target=None):
    """ids and loss mask (T,), born together: 1 on the target and its end token, 0 on the prompt."""
    tokenizer.encode_special_tokens = True  # a note that says "<|end|>" is text
    bos, user, end, assistant = map(tokenizer.token_to_id, ("<|bos|>", "<|user|>", "<|end|>", "<|assistant|>"))
    ids = [bos, user, *tokenizer.encode(prompt.strip()).ids, end, assistant]
    answer = [*tokenizer.encode(target).ids, end] if target is not None else []
    return torch.tensor(ids + answer), torch.tensor([0] * len(ids) + [1] * len(answer))

def mixed_loss(model, samples):
    """Eq. 3 and 6 of a step, documents and spans alike: the mean of -log p(y_t | x, y_<t) over its target tokens."""
    total = 0.0
    for ids, mask in samples:
        logits = model(ids[None, :-1])[0]  # (T-1, V): row t predicts token t + 1
        total = total + (F.cross_entropy(logits, ids[1:], reduction="none") * mask[1:]).sum()
    return total / sum(mask.sum() for _, mask in samples)

def learning_rate_factor(step, total_steps, warmup_steps):  # Appendix C: linear from 0 to 1, then a cosine to 0
    if step < warmup_steps:
        return step / warmup_steps
    return 0.5 + 0.5 * math.cos(math.pi * (step - warmup_steps) / (total_steps - warmup_steps))

@torch.no_grad()
def generate(model, prompt_ids, stop_ids, max_new_tokens=1024):
    """Greedy: the most probable token, again and again. prompt_ids (T,) → the new ids, without the stop token."""
    cache, answer, token_ids = {}, [], prompt_ids
    for _ in range(max_new_tokens):
        token_ids = model(token_ids[None], cache)[0, -1:].argmax(-1)  # (1,)
        if token_ids.item() in stop_ids:
            break
        answer.append(token_ids.item())
    return answer

def locate(note, quotation, used):
    """(start, end) of a quotation in the note: as written, else in any case and white space; whole words first."""
    exact, loose = re.escape(quotation), r"(?i:" + r"\s+".join(map(re.escape, quotation.split())) + ")"
    patterns = (rf"(?<!\w){exact}(?!\w)", exact, rf"(?<!\w){loose}(?!\w)", loose)
    places = [match.span() for pattern in patterns for match in re.finditer(pattern, note)]
    return next((place for place in places if place not in used), places[0] if places else None)

def code_note(model, tokenizer, note):
    """Eq. 1, evidence and then codes in one generation: {code: places of its evidence, None if not in the note}."""
    prompt_ids, _ = encode(tokenizer, f"{DOCUMENT_INSTRUCTION}\n\n{note}")
    answer = generate(model, prompt_ids, [tokenizer.token_to_id("<|end|>")])
    evidence, _, lines = tokenizer.decode(answer).partition("Codes:\n")
    places, codes = {}, {}
    for number, quotation in re.findall(r"^(\d+)\. (.+)$", evidence, re.MULTILINE):
        places[number] = locate(note, quotation, places.values())
    for first, code, last in re.findall(r"^(?:\[([\d, ]+)\] )?(\S+) .+?(?: \[([\d, ]+)\])?$", lines, re.MULTILINE):
        codes.setdefault(code, []).extend(places.get(number) for number in (first or last).split(", "))
    return codes

def read_tabular_list():
    """ICD-10-CM: {code or heading: (description, path to the root)}; 7th characters written out, as in T07.XXXA."""
    tabular_list = {}
    def walk(element, above, seventh):
        name, description = element.findtext("name") or f"section {element.get('id')}", element.findtext("desc")
        tabular_list[name] = description, (name, *above)
        seventh = element.findall("sevenChrDef/extension") or seventh  # they hold for every leaf below
        children = element.findall("section") + element.findall("diag")
        for child in children:
            walk(child, (name, *above), seventh)
        for extension in [] if children else seventh:
            code = f"{name if '.' in name else name + '.':X<7}{extension.get('char')}"
            if not re.match(r"S06\...[78][DS]", code):  # excepted in the List's prose
                tabular_list[code] = f"{description}, {extension.text}", (code, name, *above)
    for chapter in ElementTree.fromstring(gzip.decompress(TABULAR_LIST.read_bytes())).iter("chapter"):
        walk(chapter, ("ICD-10-CM",), [])
    return tabular_list

def nearest(tabular_list, code, among):
    """Eq. 9's c*: the code of `among` at the fewest steps from `code` in the tree; ties to the lower ancestor."""
    def steps(other):
        path, other_path = tabular_list[code][1], tabular_list[other][1]
        common = next(node for node in path if node in other_path)
        return path.index(common) + other_path.index(common), path.index(common), other
    return min((other for other in among if other != code), key=steps)

def main(steps=6, learning_rate=2e-3):  # the paper's 1e-4 is for thousands of steps
    torch.manual_seed(0)
    tabular_list, tokenizer = read_tabular_list(), Tokenizer.from_file(str(DEMO / "tokenizer.json"))
    weights = {name: tensor.float() for name, tensor in load_file(DEMO / "model.safetensors").items()}
    model = Decoder(json.loads((DEMO / "config.json").read_text()), weights)
    documents = [json.loads(line) for line in (DEMO / "documents.jsonl").read_text().splitlines()]
    spans = [json.loads(line) for line in (DEMO / "spans.jsonl").read_text().splitlines()]
    texts = [document_sample(documents[2]), *(span_sample(span, tabular_list) for span in spans[:15])]
    samples = [encode(tokenizer, prompt, target) for prompt, target in texts]
    add_lora(model)
    optimizer = torch.optim.AdamW(model.lora.values(), weight_decay=0.0)
    for step in range(steps):  # on the same 16 samples, to see their loss fall, after a first step at learning rate 0
        optimizer.param_groups[0]["lr"] = learning_rate * learning_rate_factor(step, steps, warmup_steps=1)
        loss = mixed_loss(model, samples)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        print(f"step {step + 1}: loss {loss:.3f}")

    load_adapter(model, DEMO / "adapter")  # trained like this one, for longer
    note = (ROOT / "examples/note.txt").read_text()
    for code, places in code_note(model, tokenizer, note).items():
        print(code, tabular_list.get(code, ["is not in the Tabular List"])[0])
        for start, end in filter(None, dict.fromkeys(places)):
            line, column = note.count("\n", 0, start) + 1, start - note.rfind("\n", 0, start)
            print(f"    “{note[start:end]}” {line}:{column}")
    code = nearest(tabular_list, "I69.354", {span["code"] for span in spans})
    print(f"I69.354 has no span here; the nearest code that has one is {code} {tabular_list[code][0]}")

if __name__ == "__main__":
    main()
