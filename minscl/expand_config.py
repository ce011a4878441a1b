"""The flags of `expand`: one frozen dataclass per sub-command, and the only place where a default is set.

Read next: expand.py.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from minscl.cli import check_ranges, flag, path_flag, positional
from minscl.data.corpora import codiesp
from minscl.data.corpora.counts import SPLITS
from minscl.data.corpora.mdace import CATEGORIES, LEAKS, SETS
from minscl.data.icd.index_tables import TABLES
from minscl.data.spans import silver, synthetic
from minscl.edition_flags import date_flag, edition_flag
from minscl.errors import InputError
from minscl.files import same_file
from minscl.infer import BATCH_SIZE
from minscl.infer.endpoint_address import check_address


@dataclass(frozen=True)
class GoldConfig:
    """`expand gold`."""

    out: str = path_flag("span pairs to write, JSON Lines", role="output")
    tables: str = flag("", f"tables to read besides the Index, comma-separated: {', '.join(TABLES)}")
    edition: str = edition_flag()
    date: str = date_flag()


@dataclass(frozen=True)
class ShowEditionConfig:
    """`expand edition`."""

    edition: str = edition_flag()
    date: str = date_flag()


@dataclass(frozen=True)
class LookupConfig:
    """`expand lookup`."""

    words: tuple[str, ...] = positional("a code, section or chapter, or words to search for", "TERM|CODE")
    json: bool = flag(False, "print one JSON object")
    edition: str = edition_flag()
    date: str = date_flag()


@dataclass(frozen=True)
class OfficialConfig:
    """`expand official`."""

    files: tuple[str, ...] = positional(
        "archives of CDC or CMS as downloaded: tables and index, code descriptions; or files out of them",
        "FILE",
        "input",
    )
    out: str = path_flag("edition folder to write, for --edition", role="output folder")


@dataclass(frozen=True)
class LLMConfig:
    """The LLM of `silver` and `synthetic`: a server where --endpoint names one, else a local model."""

    model: str = flag(
        "",
        "local model folder (default: the embedded model, too small to be of use), or the name of the endpoint's model",
        role="input",
    )
    adapter: str = flag("", "LoRA adapter folder of a local model", role="input")
    dtype: str = flag("auto", "of a local model: float32, bfloat16 or float16")
    device: str = flag("auto", "of a local model: cpu, cuda, cuda:1 ...")
    together: int = flag(BATCH_SIZE, "prompts answered concurrently", minimum=1, maximum=1024)
    endpoint: str = flag("", "OpenAI-compatible server, as http://127.0.0.1:8000/v1; key: variable MINSCL_API_KEY")
    timeout: float = flag(
        120.0, "seconds without an answer from the endpoint before a request is repeated", above=0, maximum=86_400
    )
    retries: int = flag(
        5, "times that a failed request to the endpoint is repeated, with growing pauses", minimum=0, maximum=1000
    )
    allow_remote: bool = flag(False, "allow notes to leave this machine for the endpoint")
    edition: str = edition_flag()
    date: str = date_flag()

    def __post_init__(self):
        if self.endpoint:
            check_address(self.endpoint, self.allow_remote)
            if not self.model:
                raise InputError(f"--endpoint {self.endpoint}: --model is missing; give the name of the server's model")
            if self.adapter:
                raise InputError(f"--endpoint {self.endpoint} --adapter: the server has its own; leave --adapter out")
        check_ranges(self)


@dataclass(frozen=True)
class SilverConfig(LLMConfig):
    """`expand silver`."""

    notes: str = path_flag("coded documents without evidence, JSON Lines (expand documents mimic-iv)", role="input")
    out: str = path_flag(
        "span pairs to write, JSON Lines; the answer logs of both stages are written beside it", role="output"
    )

    def __post_init__(self):
        super().__post_init__()
        check_answer_logs(self.out, silver.answer_log_paths(self.out), [self.notes])


@dataclass(frozen=True)
class SyntheticConfig(LLMConfig):
    """`expand synthetic`."""

    pairs: str = path_flag("gold and silver pairs, JSON Lines; several files comma-separated", role="input")
    out: str = path_flag("span pairs to write, JSON Lines; the answer log is written beside it", role="output")
    template: bool = flag(False, "no LLM: one phrase per code by rule")

    def __post_init__(self):
        super().__post_init__()
        check_answer_logs(self.out, [synthetic.answer_log_path(self.out)], self.pairs.split(","))


def check_answer_logs(out: str, logs: Iterable[str], inputs: list[str]) -> None:
    """Raises InputError where an answer log beside `out` is one of the input files, to which it would be appended."""
    for log in logs:
        if any(same_file(log, path.strip()) for path in inputs):
            raise InputError(f"--out {out}: its answer log {log} is an input; name another --out")


@dataclass(frozen=True)
class CoverageConfig:
    """`expand coverage`."""

    files: tuple[str, ...] = positional("span pairs, JSON Lines; counted together", "FILE", role="input")
    json: bool = flag(False, "print the counts as one JSON object")
    plot: str = flag("", "write a bar chart of the chapters (.png, .svg, .pdf)", role="output")
    edition: str = edition_flag()
    date: str = date_flag()


@dataclass(frozen=True)
class MdaceConfig:
    """`expand documents mdace`."""

    mdace: str = path_flag("folder of github.com/3mcloud/MDACE, with data/ and splits/", role="input")
    noteevents: str = path_flag("MIMIC-III's NOTEEVENTS.csv or NOTEEVENTS.csv.gz", role="input")
    out: str = path_flag("coded documents to write, JSON Lines", role="output")
    split: str = flag("train", "shipped split", choices=SPLITS)
    set: str = flag("inpatient", "annotation set", choices=SETS)
    unit: str = flag("admission", "what one document is; note: each note with a code", choices=("admission", "note"))
    categories: str = flag("discharge", "notes read; codeable: discharge, radiology and physician", choices=CATEGORIES)
    leak: str = flag("refuse", "Profee charts that Inpatient has in another split", choices=LEAKS)
    edition: str = edition_flag()
    date: str = date_flag()


@dataclass(frozen=True)
class MimicIVConfig:
    """`expand documents mimic-iv`."""

    discharge: str = path_flag("MIMIC-IV-Note's discharge.csv.gz", role="input")
    diagnoses: str = path_flag("MIMIC-IV's hosp/diagnoses_icd.csv.gz", role="input")
    out: str = path_flag("coded documents without evidence to write, JSON Lines", role="output")
    split: str = flag("train", "split, by patient", choices=SPLITS)
    edition: str = edition_flag()
    date: str = date_flag()


@dataclass(frozen=True)
class AciNotesConfig:
    """`expand notes aci-bench`."""

    notes: str = path_flag("ACI-Bench's .csv, or .jsonl with id and note or text; MedCodER's text.csv", role="input")
    out: str = path_flag("JSON Lines to write", role="output")


@dataclass(frozen=True)
class AciDocumentsConfig(AciNotesConfig):
    """`expand documents aci-bench`."""

    codes: str = path_flag(
        "one code per row: id and code separated by a tab, or CSV with the columns id,code[,evidence]; as published: "
        "code_*.csv of Yuan et al.; diagnosis.csv,supporting_evidence.csv of MedCodER, with its text.csv as --notes",
        role="input",
    )
    edition: str = edition_flag()
    date: str = date_flag()


@dataclass(frozen=True)
class CodiespNotesConfig:
    """`expand notes codiesp`."""

    corpus: tuple[str, ...] = positional(
        "CodiEsp as published: its ZIP archive, or a folder with train/, dev/, test/, background/ or codiesp_*.tar.gz",
        "FOLDER|ZIP",
        "input",
    )
    out: str = path_flag("JSON Lines to write", role="output")
    split: str = flag("train", "split", choices=codiesp.SPLITS)
    language: str = flag("es", "the case reports, or their machine translations", choices=codiesp.TEXT_FOLDERS)

    def __post_init__(self):
        if len(self.corpus) != 1:
            raise InputError(f"FOLDER|ZIP: {len(self.corpus)} are named; name one")


@dataclass(frozen=True)
class CodiespDocumentsConfig(CodiespNotesConfig):
    """`expand documents codiesp`."""

    split: str = flag("train", "split", choices=codiesp.CODED_SPLITS)
    evidence: str = flag(
        "",
        "en: the evidence in the translations, JSON Lines (default: study/resources/codiesp_en.jsonl.gz of a clone)",
        role="input",
    )
    edition: str = edition_flag()
    date: str = date_flag()

    def __post_init__(self):
        super().__post_init__()
        if self.evidence and self.language == "es":
            raise InputError(f"--evidence {self.evidence}: is for --language en; the corpus has that of es itself")


@dataclass(frozen=True)
class DocumentNotesConfig:
    """`expand notes documents`."""

    documents: str = path_flag("coded documents, JSON Lines; their codes are left out", role="input")
    out: str = path_flag("notes to write, JSON Lines", role="output")


@dataclass(frozen=True)
class FolderConfig:
    """`expand notes folder`."""

    folder: str = path_flag("folder whose .txt files, at any depth, are one note each", role="input")
    out: str = path_flag("notes to write, JSON Lines", role="output")
