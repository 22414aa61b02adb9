"""The suite in two processes, on a small one: every test runs once, and what happens in either process is reported."""

import os
import subprocess
import sys

import pytest

from conftest import ROOT

CONFTEST = f"""
import sys
sys.path.insert(0, {str(ROOT / "tests")!r})
import two_processes
two_processes.WORTH_IT = 0
def pytest_runtestloop(session):
    return two_processes.run_tests(session)
"""
SUITE = """
import os, time
import pytest
import two_processes

def who_ran():
    with open("ran") as file:
        return {line.split()[1] for line in file}

@pytest.mark.parametrize("i", range(20))
def test_one(i):
    with open("ran", "a") as file:
        file.write(f"{i} {os.getpid()}\\n")
    while len(who_ran()) < 2:
        time.sleep(0.01)
    SECOND
    assert i not in (0, 19), "unlucky"
    if i == 7:
        pytest.skip("no seventh")
    if i == 13:
        pytest.skip("no thirteenth")
"""


@pytest.fixture
def suite(tmp_path):
    """Runs the small suite: suite("--flag", second="what the second process does") -> the finished process."""

    def run(*flags, second="pass"):
        (tmp_path / "conftest.py").write_text(CONFTEST)
        (tmp_path / "test_small.py").write_text(SUITE.replace("SECOND", f"if two_processes.SHARED: {second}"))
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *flags]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100)

    return run


pytestmark = pytest.mark.skipif(os.cpu_count() == 1, reason="two processes need two cores")


def test_each_test_runs_once_and_both_processes_are_heard(suite, tmp_path):
    process = suite("-ra")
    ran = [line.split() for line in (tmp_path / "ran").read_text().splitlines()]
    assert sorted(int(number) for number, _ in ran) == list(range(20)) and len({pid for _, pid in ran}) == 2
    assert process.returncode == 1 and "2 failed, 16 passed, 2 skipped" in process.stdout
    assert "no seventh" in process.stdout and "no thirteenth" in process.stdout
    assert process.stdout.count("AssertionError: unlucky") >= 2


def test_a_second_process_that_crashes_is_no_success(suite):
    process = suite("-k", "not 0 and not 19", second="os._exit(7)")
    assert process.returncode == 1 and "the second process ended without" in process.stdout and "status 7" in process.stdout


def test_the_first_failure_ends_both(suite, tmp_path):
    process = suite("-x")
    assert process.returncode == 1 and "stopping after" in process.stdout
    assert len((tmp_path / "ran").read_text().splitlines()) < 20
