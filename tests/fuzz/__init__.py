"""Damaged and hostile files for every reader: `make fuzz`, or python -m tests.fuzz --inputs 20000 --seed 0.

    a kind: a folder of small valid files, and a function that reads it
    input N of a kind: some of the files changed (mutations.py, containers.py), or a value drawn by hypothesis; a pure
    function of the seed
    the reader may return or raise InputError, within 5 seconds of CPU time and 1 GB; anything else is a failure

kinds.py has what every kind is made of; model_files.py, records.py, corpora.py, editions.py and answers.py the kinds.
harness.py runs one kind in a process of its own, __main__.py all of them. A failure becomes a small test beside the
reader's other tests. Kept beside this: tests that go through all types of all settings (test_tokenizer_files.py,
test_adapter.py), and the hypothesis tests of what a function computes.
"""
