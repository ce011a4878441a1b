"""The flags of `generate`, in the dataclass that holds their defaults.

Read next: generate.py.
"""

import argparse
import dataclasses
from dataclasses import dataclass

from minscl.cli import flag, flag_name, positional
from minscl.config import DEMO, HEADS
from minscl.data.calibration import Calibration
from minscl.edition_flags import date_flag, edition_flag
from minscl.errors import InputError
from minscl.heads.flags import ATTRIBUTIONS, check_head_flags
from minscl.infer import BATCH_SIZE
from minscl.infer.systems import SYSTEMS, Sampling
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
    grounded: bool = flag(False, argparse.SUPPRESS)  # the default since 0.3.0; scripts may still say it
    min_score: float | None = flag(
        None,
        "drop codes with a lower score (a warning lists them); none: below the threshold in the model's "
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
    system: str = flag("scl", "SCL, or a baseline (infer/systems)", choices=(*SYSTEMS, LOOKUP, *HEADS))
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
    compile: bool = flag(False, "replay decoding steps as CUDA graphs, instead of speculative decoding; GPU only")
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
        if self.grounded and not self.is_grounded:
            other = "--free" if self.free else f"--system {self.system}"
            raise InputError(f"{other} --grounded: exclude each other; leave out --grounded, which is SCL's default")
        if self.passage and (self.evidence or self.system != "scl"):
            other = "--evidence" if self.evidence else f"--system {self.system}"
            raise InputError(f"--passage {self.passage}: needs SCL's own evidence; leave out --passage or {other}")
        self.sampling()  # its ranges are those of Sampling, and are checked before any work

    @property
    def is_grounded(self) -> bool:
        """Whether decoding is grounded: SCL without --free."""
        return self.system == "scl" and not self.free

    def calibration(self) -> Calibration | None:
        """The calibration of the model's scores. Raises InputError for a damaged file.

        None for codes from human evidence, since it was fitted on codes from the model's own, and without a model.
        """
        if self.no_calibration or self.evidence or self.system in (LOOKUP, *HEADS):
            return None
        return load_calibration(self.model, self.adapter, system=self.system, grounded=self.is_grounded)

    def sampling(self) -> Sampling:
        """The settings of cot-sc. Raises InputError for one out of its range."""
        return Sampling(self.chains, self.temperature, self.top_p, self.seed)
