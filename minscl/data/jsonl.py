"""JSON Lines files of the records in types.py: UTF-8, one record a line, unknown keys refused, written whole or not at all.

Read next: prompts.py.
"""

import json
from pathlib import Path

from minscl.data.types import Sample, TextSample
from minscl.errors import InputError, replace_file


def read_jsonl(path, cls) -> list:
    """All records of `path` as `cls`, in order. Blank lines are skipped.

    Raises InputError naming file and line for anything that is not such a record, and for an id that comes twice.
    """
    records = list(_records(path, cls.from_dict))
    seen: dict[str, int] = {}
    for number, record in enumerate(records, 1):
        id = getattr(record, "id", None)
        if id is not None and seen.setdefault(id, number) != number:
            raise InputError(f"{path}: id {id!r} comes twice; give each record its own")
    return records


def read_samples(path) -> list:
    """Samples as text or as tokens, told apart by their keys (one file holds one kind)."""
    return list(_records(path, lambda record: (Sample if isinstance(record, dict) and "prompt_ids" in record else TextSample).from_dict(record)))


def _records(path, build):
    try:
        with open(path, encoding="utf-8", newline="\n") as handle:
            for number, line in enumerate(handle, 1):
                if line.strip():
                    try:
                        yield build(json.loads(line))
                    except (ValueError, TypeError) as error:
                        raise InputError(f"{path}:{number}: {error}; mend the line") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 ({error.reason} at byte {error.start}); convert the file to UTF-8") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); name a JSON Lines file") from error


def write_jsonl(path, records) -> int:
    """Write the records, atomically; gives their number."""
    count = 0
    with replace_file(Path(path)) as handle:
        for one in records:
            handle.write(json.dumps(one.to_dict(), ensure_ascii=False) + "\n")
            count += 1
    return count
