"""The flags of `generate`, in the dataclass that holds their defaults, and which of them determine the codes.

Read next: generate.py; chosen_system.py, which follows them.
"""

import dataclasses
from dataclasses import dataclass

from minscl.cli import flag, flag_name, positional
from minscl.config import DEMO, HEADS, WEIGHTS
from minscl.data.calibration import NONE, PASSAGE, SETTING, Calibration, passage_length, threshold
from minscl.data.icd import CodeBook
from minscl.data.resuming import code_set_settings
from minscl.edition_flags import date_flag, edition_flag
from minscl.errors import InputError
from minscl.hardware import choose_device
from minscl.heads.flags import ATTRIBUTIONS, HeadChoice, check_head_flags
from minscl.infer import BATCH_SIZE
from minscl.infer.endpoint_address import check_address
from minscl.infer.processes import Process
from minscl.infer.systems import DIALOGUES, SYSTEMS, Sampling
from minscl.infer.systems.cot import COT_SC, check_sampling_flags
from minscl.infer.systems.lookup import LOOKUP
from minscl.infer.systems.lookup_notes import check_lookup_flags
from minscl.pretrained import load_calibration


@dataclass(frozen=True)
class GenerateConfig:
    """Settings of `generate`; each is a flag."""

    notes: tuple[str, ...] = positional(
        "text files, one note each, or .jsonl files of notes or coded documents", "NOTES", role="input"
    )
    model: str = flag(
        str(DEMO), "model folder; the embedded model is a demonstration, not for clinical use", role="input"
    )
    adapter: str = flag("", "LoRA adapter folder (the embedded model has its own); none: the model alone", role="input")
    evidence: str = flag(
        "",
        "human evidence instead of the model's: for one note a text file with one quotation per line, in document "
        "order; for several a JSONL of coded documents with the notes' ids",
        role="input",
    )
    free: bool = flag(
        False,
        "the paper's plain generation; without it, SCL quotes only from the note and assigns only billable codes with "
        "evidence (grounded decoding)",
    )
    grounded: bool = flag(  # the local decoder's default since 0.3.0; scripts may still say it
        False, "with --endpoint: the server's grammar, where it has one, holds codes to billable ones"
    )
    min_score: float | None = flag(
        None,
        "drop codes with a lower score (a warning lists them); default: the threshold in the model's "
        "calibration.json, and no code where it has none",
        minimum=0,
        maximum=1,
    )
    no_calibration: bool = flag(
        False, "ignore calibration.json: raw scores, no threshold; evaluate --calibrate needs predictions made so"
    )
    passage: int | None = flag(
        None,
        "code a longer note in passages of at most this many tokens; 0: all of it at once; none: as the model's "
        "calibration.json says, 0 without one",
        minimum=0,
    )
    system: str = flag("scl", "SCL, or a baseline (infer/systems)", choices=(*SYSTEMS, *DIALOGUES, LOOKUP, *HEADS))
    verify: bool = flag(
        False, "then expand each code to its siblings and have the model choose, and say yes or no (systems/verify.py)"
    )
    endpoint: str = flag(
        "",
        "an OpenAI-compatible server that answers in the local model's place, as http://127.0.0.1:8000/v1; --model is "
        "the folder that it serves (clh, mac: left out); key: variable MINSCL_API_KEY",
    )
    served_model: str = flag("", "what the server of --endpoint calls its model", metavar="NAME")
    allow_remote: bool = flag(False, "allow notes to leave this machine for the endpoint")
    heads: str = flag(
        "", "plm-icd, plm-ca, gki-icd: folder that train --system has written", metavar="DIR", role="input"
    )
    attribution: str = flag(
        "",
        "plm-icd, plm-ca, gki-icd: where evidence comes from; without it, attingrad for plm-ca, else attention",
        choices=("", *ATTRIBUTIONS),
    )
    documents: str = flag(
        "", "lookup: coded documents, JSONL, whose evidence phrases are looked up", metavar="FILE", role="input"
    )
    spans: tuple[str, ...] = flag(
        (),
        "lookup: span pairs, JSONL, for phrases that the documents lack; repeat the flag for several",
        metavar="FILE",
        role="input",
    )
    chains: int = flag(
        Sampling.chains, "cot-sc: answers sampled per note; a code is assigned if at least half of them have it"
    )
    temperature: float = flag(Sampling.temperature, "cot-sc: sampling temperature")
    top_p: float = flag(Sampling.top_p, "cot-sc: sample from the most probable tokens that reach this probability")
    seed: int = flag(Sampling.seed, "cot-sc: seed of the samples")
    batch_size: int = flag(BATCH_SIZE, "answers decoded together, at most", minimum=1)
    memory: float = flag(
        0.0,
        "GB for the KV cache; may limit how many answers are decoded together; 0: three quarters of free memory",
        minimum=0,
        maximum=1e6,
    )
    compile: str = flag(
        "auto",
        "compile decoding passes: on a CPU with torch's compiler, once, kept in the cache folder; on a GPU as CUDA "
        "graphs, instead of draft tokens; auto: where it saves time, and what was kept is used",
        choices=("auto", "on", "off"),
    )
    weights: str = flag(
        "",
        "int8: a byte for each weight of the projections, quantised as they are read; none: as the folder has them",
        choices=WEIGHTS,
    )
    dtype: str = flag("auto", "float32, bfloat16 or float16; auto: bfloat16 on a GPU, float32 on a CPU")
    device: str = flag("auto", "cpu, cuda, cuda:1 ...; auto: the GPU where there is one")
    json: bool = flag(False, "print one coded document per line, as JSON")
    out: str = flag(
        "", "append one coded document per line to this file; notes already in it are not coded again", role="output"
    )
    edition: str = edition_flag()
    date: str = date_flag()
    strict: bool = flag(False, "exit with status 1 where a document breaks an Excludes1 note or has an invalid code")
    html: str = flag("", "write one self-contained page with the evidence highlighted in the notes", role="output")

    def __post_init__(self):
        changed = {
            flag_name(item.name) for item in dataclasses.fields(self) if getattr(self, item.name) != item.default
        }
        check_lookup_flags(self.system, changed)
        check_head_flags(self.system, changed)
        check_sampling_flags(self.system, changed)
        if self.grounded and (self.free or self.system != "scl"):
            other = "--free" if self.free else f"--system {self.system}"
            raise InputError(f"{other} --grounded: exclude each other; leave out --grounded, which is SCL's default")
        if self.passage and (self.evidence or self.system != "scl"):
            other = "--evidence" if self.evidence else f"--system {self.system}"
            raise InputError(f"--passage {self.passage}: needs SCL's own evidence; leave out --passage or {other}")
        if self.system == "sft" and self.model == str(DEMO) and not self.adapter and not self.endpoint:
            raise InputError(
                "--system sft: the embedded model's adapter is trained on evidence; give --adapter DIR, made by "
                "python -m minscl.train --no-evidence, or --adapter none"
            )
        self._check_dialogue()
        self.sampling()  # its ranges are those of Sampling, and are checked before any work

    def _check_dialogue(self) -> None:
        """Raises InputError for flags that do not go with --endpoint or with a system of several questions."""
        if self.system in DIALOGUES:
            refused = (("--evidence", self.evidence), ("--free", self.free), ("--compile", self.compile != "auto"))
            for name, value in refused:
                if value:
                    raise InputError(f"--system {self.system} {name}: it has no such choice; leave {name} out")
        if not self.endpoint:
            if self.served_model:
                raise InputError(f"--served-model {self.served_model}: only with --endpoint URL; leave it out")
            return
        check_address(self.endpoint, self.allow_remote)
        if self.system in (*HEADS, COT_SC) or self.system == LOOKUP and not self.verify:
            raise InputError(
                f"--endpoint {self.endpoint}: --system {self.system} needs a local model, or none; leave --endpoint out"
            )
        if not self.served_model:
            raise InputError(
                f"--endpoint {self.endpoint}: --served-model is missing; give the server's name of its model"
            )
        if self.is_served and self.model == str(DEMO):
            raise InputError(f"--endpoint {self.endpoint}: --model is missing; give the folder that the server serves")
        if not self.is_served and self.model != str(DEMO):
            raise InputError(
                f"--endpoint {self.endpoint} --model: the server answers --system {self.system}; leave it out"
            )
        own = (("--adapter", self.adapter), ("--compile", self.compile != "auto"), ("--weights", self.weights))
        for name, value in own:
            if value:
                raise InputError(f"--endpoint {self.endpoint} {name}: the server has its own; leave {name} out")

    @property
    def is_served(self) -> bool:
        """Whether a server codes the notes, with the prompts of the local decoder."""
        return bool(self.endpoint) and self.system in SYSTEMS

    def for_process(self, process: Process) -> "GenerateConfig":
        """These settings with the device and memory of `process`.

        Raises InputError for what several processes cannot do together.
        """
        if process.size == 1:
            return self
        if not self.out or self.json or self.html or not all(name.lower().endswith(".jsonl") for name in self.notes):
            raise InputError(
                f"WORLD_SIZE {process.size}: several processes write one file of notes in .jsonl files; give --out "
                "FILE, without --json and --html, or start without torchrun"
            )
        device, memory = process.choose_device(self.device, self.memory)
        return dataclasses.replace(self, device=device, memory=memory)

    @property
    def is_grounded(self) -> bool:
        """Whether decoding is grounded: SCL without --free, by the local decoder."""
        return self.system == "scl" and not self.free and not self.endpoint

    def head_choice(self) -> HeadChoice:
        """The flags that decide how a head codes."""
        return HeadChoice(self.heads, self.model, self.system, self.attribution, self.min_score)

    def calibration(self) -> Calibration | None:
        """The calibration of the model's scores. Raises InputError for a damaged file.

        None for codes from human evidence, since it was fitted on codes from the model's own, without a model, and for
        answers under a server's grammar, on which none is fitted.
        """
        if self.no_calibration or self.evidence or self.system in (LOOKUP, *HEADS):
            return None
        if self.endpoint and (not self.is_served or self.grounded):
            return None
        return load_calibration(self.model, self.adapter, system=self.system, grounded=self.is_grounded)

    def sampling(self) -> Sampling:
        """The settings of cot-sc. Raises InputError for one out of its range."""
        return Sampling(self.chains, self.temperature, self.top_p, self.seed)


def settings_of(
    config: GenerateConfig,
    weights: dict[str, str],
    codebook: CodeBook,
    calibration: Calibration | None,
    grounded: str = "",
) -> dict[str, str]:
    """What determines the codes, but for the note and human evidence: CodedDocument.coded_with.

    `weights`: describe_weights of the model; `grounded`: what a server can do (served.py), "" for the local decoder.
    Without --batch-size, --memory, --compile and --device, which change no more than the last digits of scores.
    """
    names = ["system", "grounded", SETTING, "min_score", "dtype"]
    names += ["weights"] if config.weights else []  # "": as in documents of before int8
    names += ["chains", "temperature", "top_p", "seed"] if config.system == COT_SC else []
    _, dtype = choose_device(config.device, config.dtype)
    dtype_name = "the server's" if config.endpoint else str(dtype).removeprefix("torch.")
    values = dataclasses.asdict(config) | {"dtype": dtype_name, "grounded": grounded or config.is_grounded}
    values |= {SETTING: calibration or NONE, "min_score": threshold(calibration, config.min_score)}
    passage = passage_length(calibration, config.passage)
    passages = {PASSAGE: str(passage)} if passage else {}
    return weights | {name: str(values[name]) for name in names} | passages | code_set_settings(codebook)
