"""Fixtures that several test files share, built once a session: the embedded model, commands called in this process so
that torch starts once, a tiny training folder, a finished run, the gold pairs.

They import what they need inside, so that tests without torch do not wait two seconds for it.
"""

import contextlib
import fcntl
import functools
import gc
import io
import os
import pickle
import subprocess
import warnings

import pytest

from minscl.command import run_command

SLOW_FIXTURES = {"gold", "finished_run", "coded", "browser"}


def pytest_collection_modifyitems(items):
    """Mark the tests that need what takes seconds to build, and put files with slow tests first: begun last, they would
    keep one xdist worker busy while the other has nothing left."""
    for item in items:
        if SLOW_FIXTURES & set(item.fixturenames):
            item.add_marker(pytest.mark.slow)
    slow_files = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow_files)


def pytest_collection_finish():
    """Exclude the imported modules' objects from garbage collection, which would scan them again and again."""
    gc.freeze()


def call_command(main, *arguments, cwd=None) -> subprocess.CompletedProcess:
    """A command's `main`, called as `python -m` calls it; exit status, stdout and stderr as subprocess.run gives
    them."""
    argv, before = [str(argument) for argument in arguments], os.getcwd()
    stdout, stderr = io.StringIO(), io.StringIO()
    os.chdir(cwd or before)
    try:
        with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
            run_command(lambda: main(argv))
    except SystemExit as end:
        return subprocess.CompletedProcess(argv, end.code, stdout.getvalue(), stderr.getvalue())
    finally:
        os.chdir(before)
    raise AssertionError("run_command always exits")


@pytest.fixture(scope="session")
def embedded():
    """(model, tokenizer) of the embedded model with its adapter merged in. Loaded once: tests must not change it."""
    from minscl.config import DEMO
    from minscl.pretrained import load_pretrained

    return load_pretrained(str(DEMO))


@pytest.fixture(scope="session")
def generate(packed_code_set):
    """generate(*arguments, cwd=None): `minscl.generate` in this process; the models that it loads are kept."""
    from minscl import chosen_system
    from minscl import generate as command

    with pytest.MonkeyPatch.context() as patch:
        load = functools.lru_cache(maxsize=2)(chosen_system.load_pretrained)
        patch.setattr(chosen_system, "load_pretrained", load)
        yield functools.partial(call_command, command.main)


@pytest.fixture(scope="session")
def training_folder(tmp_path_factory):
    """A tiny random Llama with a tokenizer of its own, and 40 token samples (samples.jsonl). Read only."""
    from tests.tiny_training import write_training_folder

    return write_training_folder(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="session")
def finished_run(training_folder, fast_measurement, tmp_path_factory):
    """A run of 21 steps with dropout that nothing interrupted; its checkpoints are steps 20 and 21. Copy it to change
    it.
    """
    from minscl.training.run import train_adapter
    from tests.tiny_training import run_config

    out = tmp_path_factory.mktemp("run") / "finished"
    return train_adapter(run_config(training_folder, out, dropout=0.1, save_every=4))


@pytest.fixture(scope="session")
def fast_measurement():
    """Measure the machine's matmul rate once, not at the start of each of dozens of runs."""
    from minscl import hardware

    original = hardware.measure_matmul_rate

    @functools.cache
    def measure(device, dtype, rows, columns, mode):
        return original(device, dtype, rows, columns)

    def cached(device, dtype, rows=1024, columns=1024):
        return measure(device, dtype, rows, columns, hardware.float32_matmul_mode())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hardware, "measure_matmul_rate", cached)
        yield


@pytest.fixture(scope="session")
def gold(tmp_path_factory):
    """(pairs, counts) of the Alphabetic Index and the inclusion terms; five seconds, for the first worker only."""
    from minscl.data.icd import CodeBook
    from minscl.data.spans.gold import read_gold

    return build_once(tmp_path_factory, "gold", lambda: read_gold(CodeBook.load()))


def build_once(tmp_path_factory, name, build):
    """`build()`, called by one xdist worker; the others read its result from a file that this test run shares."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return build()
    folder = tmp_path_factory.getbasetemp().parent  # each worker has its own folder below the run's
    with open(folder / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        path = folder / f"{name}.pickle"
        if path.exists():
            return pickle.loads(path.read_bytes())
        result = build()
        path.write_bytes(pickle.dumps(result))
        return result


@pytest.fixture(scope="session")
def index_entries(tmp_path_factory):
    """The lines of the default edition's Index and its tables; seconds, for the first worker only."""
    return read_entries_once(tmp_path_factory)


def read_entries_once(tmp_path_factory):
    from minscl.data.icd import CodeBook
    from minscl.data.icd.lookup import read_entries

    return build_once(tmp_path_factory, "index_entries", lambda: read_entries(CodeBook.load()))


@pytest.fixture(scope="session")
def packed_code_set(tmp_path_factory):
    """The default code set as pages carry it, packed by this code and put where commands look for it: what the user's
    cache folder had may be older."""
    from minscl.data.icd import CodeBook
    from minscl.data.icd.cache import write_cache
    from minscl.page import code_set

    book = CodeBook.load()

    def pack() -> str:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(code_set, "read_entries", lambda book: read_entries_once(tmp_path_factory))
            packed = code_set.pack(book)
        if path := code_set.cache_file(book):
            write_cache(path, packed)
        return packed

    return build_once(tmp_path_factory, "packed_code_set", pack)


@pytest.fixture(scope="module")
def browser():
    """Headless Chromium, driven by Playwright; one a file, for Playwright's event loop would disturb other tests."""
    from tests import browser as settings

    if missing := settings.missing():
        reason = f"NOT TESTED: the coder's page in a browser, for want of {missing}"
        warnings.warn(reason, stacklevel=1)
        pytest.skip(reason)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=settings.CHROMIUM, args=settings.FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def coders(browser):
    """The same as `coder`, for pages that several tests share."""
    with coder_pages(browser) as open_page:
        yield open_page


@pytest.fixture
def coder(browser):
    """coder(address, has_codes=True, **options of the browser's context) → CoderPage. `has_codes` False: its code set
    does not come, which spares seconds. No test may leave a request to anyone but the page's own server, or an error of
    the browser; pages from the disk have no network at all."""
    with coder_pages(browser) as open_page:
        yield open_page


@pytest.fixture(scope="session")
def examples_page(packed_code_set, tmp_path_factory):
    """(documents, address): a page with browser.example_documents, on the disk."""
    from minscl.data.icd import CodeBook
    from minscl.page import page_html
    from tests.browser import example_documents

    documents = example_documents(CodeBook.load())
    path = tmp_path_factory.mktemp("page") / "page.html"
    path.write_text(page_html(documents, CodeBook.load(), about="ICD-10-CM FY2027"))
    return documents, path.as_uri()


@pytest.fixture(scope="module")
def opened_page(coders, examples_page):
    """The page with the examples, open for all tests of a file, with a reviewer's name given."""
    page = coders(examples_page[1])
    page.set_reviewer()
    return page


@pytest.fixture
def page(opened_page):
    """`opened_page` as it was opened: nothing is decided."""
    opened_page.start_again()
    return opened_page


@contextlib.contextmanager
def coder_pages(browser):
    """The function of the fixture `coder`."""
    from tests.browser import NO_CODE_SET, CoderPage

    contexts, pages = [], []

    def open_page(address: str, has_codes=True, **options) -> CoderPage:
        context = browser.new_context(offline=address.startswith("file:"), **options)
        if not has_codes:
            context.add_init_script(NO_CODE_SET)
        context.set_default_timeout(15_000)
        contexts.append(context)
        pages.append(CoderPage(context, address))
        return pages[-1]

    yield open_page
    for context in contexts:
        context.close()
    for page in pages:
        assert page.outside_requests() == []
        assert page.forgives or page.complaints == []
