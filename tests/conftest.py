"""Hypothesis profiles, the option --slow, and tiny models."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadFileScheduling

pytest.register_assert_rewrite("tests.crash", "tests.growing")

if TYPE_CHECKING:
    from engine.model.encode import Encoder

settings.register_profile("dev", max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", max_examples=50, deadline=None, derandomize=True)
settings.register_profile("nightly", max_examples=1000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="also run the tests marked slow")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadFileScheduling | None:
    """Give a file of tests to one process, and to the same one the two that share a study with an explorer."""
    if config.getvalue("dist") != "loadfile":
        return None

    class Scheduling(LoadFileScheduling):  # type: ignore[misc]  # xdist ships no types
        def _split_scope(self, nodeid: str) -> str:
            return nodeid.split("::")[0].replace("test_explorer_page.py", "test_explorer.py")

    return Scheduling(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--slow"):
        for item in items:
            if "slow" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="slow; run with --slow"))


@pytest.fixture(scope="session", autouse=True)
def _server() -> None:
    """Start what commands and workers are forked from, where a test has commands that are killed."""
    if (crash := sys.modules.get("tests.crash")) is not None:
        crash.serve()


@pytest.fixture
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal in which no line of a command is cut: temporary paths are long."""
    from jobs import progress  # noqa: PLC0415  (torch, only for tests of commands)

    for console in (progress.out, progress.err):
        monkeypatch.setattr(console, "_width", 250)
        monkeypatch.setattr(console, "_height", 50)


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder of a tiny random BERT: 3 blocks, 24 numbers a vector, at most 24 sub-words."""
    from tests.oracles.vectors import save_bert  # noqa: PLC0415  (torch, only for tests that read models)

    return save_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="session")
def xlmr(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder of a tiny random XLM-R: 2 blocks, 16 numbers a vector, at most 24 sub-words."""
    from tests.oracles.vectors import save_xlmr  # noqa: PLC0415

    return save_xlmr(tmp_path_factory.mktemp("xlmr"))


@pytest.fixture(scope="session")
def mt5(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder of a tiny random mT5: 2 encoder and 3 decoder blocks, 16 numbers a vector."""
    from tests.oracles.vectors import save_mt5  # noqa: PLC0415

    return save_mt5(tmp_path_factory.mktemp("mt5"))


@pytest.fixture(scope="session")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder of a tiny random GPT-2: 2 blocks, 16 numbers a vector, at most 64 sub-words, no start token."""
    from tests.oracles.vectors import save_gpt2  # noqa: PLC0415

    return save_gpt2(tmp_path_factory.mktemp("gpt2"))


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder of a tiny random Llama: 3 blocks, 16 numbers a vector, at most 64 sub-words, a start token."""
    from tests.oracles.vectors import save_llama  # noqa: PLC0415

    return save_llama(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="session")
def roberta(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder of a tiny random RoBERTa: 2 blocks, 16 numbers a vector, at most 64 sub-words."""
    from tests.oracles.vectors import save_roberta  # noqa: PLC0415

    return save_roberta(tmp_path_factory.mktemp("roberta"))


@pytest.fixture(scope="session")
def models(bert: str, xlmr: str, mt5: str, gpt2: str, llama: str, roberta: str) -> dict[str, str]:
    """Folder of each tiny model."""
    return {"bert": bert, "xlmr": xlmr, "mt5": mt5, "gpt2": gpt2, "llama": llama, "roberta": roberta}


@pytest.fixture(scope="module")
def encoders(models: dict[str, str]) -> Iterator[dict[str, Encoder]]:
    """Encoder of each tiny model."""
    import torch  # noqa: PLC0415

    from engine.model.encode import Encoder  # noqa: PLC0415

    threads = torch.get_num_threads()
    yield {name: Encoder(path) for name, path in models.items()}
    torch.set_num_threads(threads)
