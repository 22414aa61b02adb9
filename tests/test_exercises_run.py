"""The exercises as students run them: as processes, with answers that hang or crash, on every console, and the finale."""

import importlib
import os
import queue
import re
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest

import more_answers
import right_answers as right
import wrong_answers
from conftest import ROOT
from week6.exercises import catalogue, report, runner
from week6.exercises.grader import Grader
from week6.exercises.report import Console, display_width, wrapped
from week6.exercises.runner import Grading, Limits, UnreadableError
from week6.exercises.verdict import KOREAN, NOT_STARTED, SOLVED, WRONG, Mistake, Verdict

RIGHT_FILE = ROOT / "tests" / "right_answers.py"
STUBS = ROOT / "week6" / "exercises" / "exercises.py"
EXERCISES = ROOT / "week6" / "exercises"
PLAIN = Console(korean=True, colours=False)
N = len(catalogue.NAMES)


def run(*command, encoding="utf-8", cwd=ROOT, **environment):
    """Status, output and errors of a Python process on a console of that encoding."""
    environment = os.environ | {"PYTHONIOENCODING": encoding} | environment
    process = subprocess.run([sys.executable, *command], capture_output=True, cwd=cwd, env=environment, timeout=180)
    return process.returncode, *(x.decode(encoding).replace("\r\n", "\n") for x in (process.stdout, process.stderr))


def run_pytest(*flags, **options):
    return run("-m", "pytest", "-p", "no:cacheprovider", *flags, **options)


def file_with(folder, text, name="mine.py"):
    """A file of right answers, but for what `text` defines anew."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(RIGHT_FILE.read_text(encoding="utf-8") + text, encoding="utf-8")
    return folder / name


CALLS_SOFTMAX = """

def scaled_dot_product_attention(q, k, v, mask=None):
    scores = q @ k.mT / q.shape[-1] ** 0.5
    if mask is not None:
        scores = scores.masked_fill(~mask, -1e9)
    weights = softmax(scores)
    if mask is not None:
        weights = weights * mask
    return weights @ v, weights
"""
MISTAKEN = f"""{CALLS_SOFTMAX}

def softmax(x):
    e = torch.exp(x)
    return e / e.sum(-1, keepdim=True)


def causal_mask(n):
    print("크기", n)
    return nonsense


def merge_heads(x):
    raise NotImplementedError


def sinusoidal_encoding(n_positions, d_model):
    return torch.zeros(n_positions, d_model)
"""


# --- by pytest ------------------------------------------------------------------------------------------------------


def test_untouched_stubs_end_clearly_and_do_not_fail():
    status, output, errors = run_pytest("exercises", encoding="cp1252", cwd=ROOT / "week6")
    assert status == 0 and errors == "" and output.isascii()
    assert f"0 solved, 0 wrong, {N} not started" in output and f"{N} skipped" in output
    assert output.count("not started\n") == N and "SKIPPED" not in output
    assert "Next: softmax (exercises.py, line " in output


@pytest.mark.parametrize("encoding", ["cp949", "ascii"])
def test_the_report_is_the_message_and_a_summary(encoding, tmp_path):
    file = file_with(tmp_path / "과제 1", MISTAKEN, "김철수.py")
    status, output, errors = run_pytest("week6/exercises", "--solutions", str(file), encoding=encoding)
    assert status == 1 and errors == "" and f"{N - 6} solved, 5 wrong, 1 not started" in output
    assert "Traceback" not in output and "test_exercises.py:" not in output and "FAILED" not in output
    assert "Entries of 1000 or -1000 give NaN: inf/inf or 0/0, because the maximum of each\nrow is not" in output
    assert "It calls softmax(), which is still wrong: put that right first.\n" in output
    assert "The name nonsense is not defined (" in output and "\n  causal_mask(n)\n    n                = 1\n" in output
    assert "    expected         = [[0, 1]]\n    got              = [[0, 0]]\n" in output
    summary = output[output.index(f"{N - 6} solved, 5 wrong") :]
    for name in catalogue.NAMES:
        assert f"{name:<30} week6/{catalogue.LAB_OF[name]}" in summary
    assert "크기 1\n".encode(encoding, "backslashreplace").decode(encoding) in output  # what the student printed
    assert "크기 2".encode(encoding, "backslashreplace").decode(encoding) not in output  # but of the failing case only
    if encoding == "cp949":
        assert (
            "이 함수가 호출하는 softmax()가 아직 올바르지 않습니다: softmax()부터 고치세요.\n" in output and "(정답)" in summary
        )
        assert "강의 노트:\nweek6/README.md#1-attention은-부드러운-조회-attention-is-a-soft-look-up\n" in output
    else:
        assert not any("가" <= letter <= "힣" for letter in output)
        assert "Lesson: week6/README.en.md#1-attention-is-a-soft-look-up\n" in output


def test_one_exercise_alone():
    status, output, _ = run_pytest("week6/exercises", "-k", "layer_norm", "--solutions", str(RIGHT_FILE))
    assert status == 0 and "1 solved, 0 wrong, 0 not started" in output and "softmax" not in output


def test_a_file_that_cannot_be_read_is_said_once_by_pytest(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("def softmax(x):\n    return (x\n", encoding="utf-8")
    status, output, errors = run_pytest("week6/exercises", "--solutions", str(file))
    assert status == pytest.ExitCode.USAGE_ERROR and "Traceback" not in output + errors
    korean, english = errors.strip().splitlines()
    assert korean.startswith("ERROR: 파일을 읽을 수 없어 채점하지 못했습니다 (mine.py, line 2): SyntaxError:")
    assert english.startswith("The file cannot be read, so nothing is graded (mine.py, line 2): SyntaxError:")


# --- by python -m week6.exercises -----------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["cp949", "ascii"])
def test_the_command_shows_a_bar_and_what_comes_next(encoding, tmp_path):
    file = file_with(tmp_path / "과제 1", MISTAKEN, "김철수.py")
    status, output, errors = run(str(EXERCISES), "--solutions", str(file), encoding=encoding, cwd=tmp_path)
    assert status == 1 and errors == "" and "\033" not in output
    filled = report.BAR * (N - 6) // N
    assert f"[{'#' * filled}{'.' * (report.BAR - filled)}] {N - 6} of {N} solved, 5 wrong, 1 not started\n" in output
    assert "Put right: softmax (" in output and "shown in week6/01_attention_basics.py" in output.replace("\n", " ")
    assert max(map(display_width, output.splitlines())) <= 80
    for name in catalogue.NAMES:
        assert f"\n{output}".count(f"\n  {name:<30} ") == 1
        assert (f"--- {name} ---" in output) == (f"  {name:<30} wrong" in output)
    assert any("가" <= letter <= "힣" for letter in output) == (encoding == "cp949")


def test_the_command_in_the_top_folder_names_the_first_stub():
    status, output, errors = run("-m", "week6.exercises", "softmax", "layer_norm")
    assert status == 0 and errors == "" and "0 of 2 solved" in output and "다음 함수: softmax\nNext: softmax (" in output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--solutions", "."], "is a folder: name the .py file in it."),
        (["--solutions", "notebook.ipynb"], "notebook.ipynb is a notebook: save it as a .py file"),
        (["--solutions", "no.py"], "There is no file no.py."),
        (["--solutions", "exit.py"], "nothing is graded (exit.py, line 1): SystemExit: 3"),
        (["--watch", "--solutions", "no.py"], "there is no file"),
        (["softmux"], "there is no exercise 'softmux'; there are softmax,"),
        (["--sol", "no.py"], "unrecognized arguments: --sol"),
    ],
)
def test_what_cannot_be_graded_gets_one_line(arguments, said, tmp_path):
    (tmp_path / "notebook.ipynb").write_text("{}")
    (tmp_path / "exit.py").write_text("raise SystemExit(3)")
    status, output, errors = run(str(EXERCISES), *arguments, encoding="ascii", cwd=tmp_path)
    assert status == 2 and output == "" and said in errors and len(errors.splitlines()) == 1


# --- answers that harm ----------------------------------------------------------------------------------------------

HARMFUL = f"""
import ctypes, os, sys


def softmax(x):
    while True:
        pass

{CALLS_SOFTMAX}

def causal_mask(n):
    os._exit(0)


def padding_mask(lengths, n):
    exit()


def split_heads(x, n_heads):
    return ctypes.string_at(0)


def merge_heads(x):
    for _ in range(1000):
        print("flood" * 1000)
    os.write(1, b"flood")
    return x


def sinusoidal_encoding(n_positions, d_model):
    # memory that a large machine has, but that no exercise needs; only on Linux can it be limited
    return torch.zeros(3 << 30 if sys.platform == "linux" else 10**12, dtype=torch.uint8)


def layer_norm(x, gamma, beta, eps=1e-5):
    raise KeyboardInterrupt


def feed_forward(x, w_1, b_1, w_2, b_2):
    return float(input("x? "))
"""


def graded(file, names=catalogue.NAMES, **limits):
    with Grading() as grading:
        return dict(grading.verdicts(file, names, Limits(**limits)))


def test_an_answer_that_harms_costs_its_own_verdict_and_nothing_else(tmp_path):
    file = file_with(tmp_path, HARMFUL)
    verdicts = graded(file, grading=1.5)
    assert list(verdicts) == list(catalogue.NAMES)
    found = {name: [mistake.name for mistake in verdict.mistakes] for name, verdict in verdicts.items()}
    assert found == {
        "softmax": ["does not end"],
        "scaled_dot_product_attention": ["calls a wrong function"],
        "causal_mask": ["ends the interpreter"],
        "padding_mask": ["exit"],
        "split_heads": ["ends the interpreter"],
        "merge_heads": ["wrong shape"],
        "multi_head_attention": ["calls a wrong function"],
        "sinusoidal_encoding": ["too much memory"],
        "layer_norm": ["interrupt"],
        "feed_forward": ["waits for the keyboard"],
        "post_norm_block": [],
        "pre_norm_block": [],
        "training_step": [],
    }
    lines = file.read_text(encoding="utf-8").splitlines()
    where = {name: re.search(r"mine.py, line (\d+)", verdict.message(korean=False)) for name, verdict in verdicts.items()}
    at = {name: lines[int(found[1]) - 1] for name, found in where.items() if found}
    assert at["softmax"].strip() in ("while True:", "pass")
    assert "string_at" in at["split_heads"] and "exit()" in at["padding_mask"]
    assert verdicts["softmax"].section and lines[verdicts["softmax"].line - 1] == "def softmax(x):"
    assert len(verdicts["merge_heads"].example) < 2000


def test_a_loop_in_a_function_that_is_called_is_blamed_on_that_function(tmp_path):
    """Also where only the caller is graded."""
    verdicts = graded(file_with(tmp_path, HARMFUL), ["scaled_dot_product_attention"], grading=1.5)
    assert verdicts["scaled_dot_product_attention"].mistakes[0].name == "calls a wrong function"


def test_a_file_that_does_not_end_being_read(tmp_path):
    with pytest.raises(UnreadableError) as caught:
        graded(file_with(tmp_path, "\nwhile True:\n    pass\n"), reading=1.0)
    assert "nothing is graded. It had not ended after 1 s and was stopped (mine.py, line " in caught.value.english
    with pytest.raises(UnreadableError, match="Python itself ends while it runs"):
        graded(file_with(tmp_path, "\nimport os\nos._exit(0)\n"))


def test_a_file_may_import_its_neighbour_and_leave_threads_behind(tmp_path):
    (tmp_path / "neighbour.py").write_text("def double(x):\n    return 2 * x\n")
    text = "\nimport threading, time, neighbour\nthreading.Thread(target=time.sleep, args=(1000,)).start()\n"
    assert graded(file_with(tmp_path, text), ["causal_mask"])["causal_mask"].outcome == SOLVED


def test_the_worker_ends_when_the_runner_is_killed(tmp_path):
    code = (
        "import sys, time; sys.path.insert(0, sys.argv[1])\n"
        "from week6.exercises.runner import Worker\n"
        "worker = Worker(); worker.next_line(120)\n"
        "worker.ask({'file': sys.argv[2], 'names': ['softmax'], 'unsafe': [], 'solved': [], 'limits': [100, 100, 0]})\n"
        "print(worker.process.pid, flush=True); time.sleep(1); import os; os._exit(0)\n"
    )
    file = file_with(tmp_path, HARMFUL)
    process = subprocess.run([sys.executable, "-c", code, str(ROOT), str(file)], capture_output=True, timeout=120)
    pid = int(process.stdout)
    for _ in range(100):
        if not alive(pid):
            return
        time.sleep(0.1)
    pytest.fail("the worker outlives the runner")


def alive(pid):
    if sys.platform == "win32":
        return str(pid) in subprocess.run(["tasklist", "/FI", f"PID eq {pid}"], capture_output=True, text=True).stdout
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    stat = f"/proc/{pid}/stat"
    return not (os.path.exists(stat) and open(stat).read().split(")")[-1].split()[0] == "Z")


# --- while one writes -----------------------------------------------------------------------------------------------


def test_watch_grades_again_when_the_file_is_saved(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(STUBS.read_text(encoding="utf-8"), encoding="utf-8")
    command = [sys.executable, str(EXERCISES), "--watch", "--solutions", str(file)]
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment, text=True)
    lines = queue.Queue()
    threading.Thread(target=lambda: [lines.put(line) for line in process.stdout], daemon=True).start()

    def until(text):
        seen = ""
        while text not in seen:
            seen += lines.get(timeout=60)
        return seen

    try:
        assert f"0 of {N} solved" in until("Waiting for the next save")
        file.write_text(RIGHT_FILE.read_text(encoding="utf-8").replace("return gamma * ", "return "), encoding="utf-8")
        assert f"{N - 1} of {N} solved, 1 wrong" in until("Waiting for the next save")
        file.write_text("def softmax(x:\n", encoding="utf-8")
        assert "The file cannot be read" in until("Waiting for the next save")
        file.write_text(file_with(tmp_path / "2", HARMFUL).read_text(encoding="utf-8"), encoding="utf-8")
        until("mine.py")
        time.sleep(0.5)  # it now runs an endless loop
        saved = file.with_name("new.py")
        saved.write_text(STUBS.read_text(encoding="utf-8"), encoding="utf-8")
        os.replace(saved, file)  # as many editors save
        assert f"0 of {N} solved" in until("Waiting for the next save")
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


# --- the finale -----------------------------------------------------------------------------------------------------


def test_the_functions_of_the_student_learn_to_fill_gaps():
    status, output, errors = run("-m", "week6.exercises", "--solutions", str(RIGHT_FILE))
    assert status == 0 and errors == "" and f"{N} of {N} solved" in output and "All solved!" in output
    assert max(map(display_width, output.splitlines())) <= 80
    text = " ".join(output.split())
    shares = text[text.index("Right on unseen sentences:") :].split("%")[:4]
    assert all(int(share.split()[-1]) >= 80 for share in shares), shares
    assert text.endswith("All of this is what you wrote. It works.")


def test_the_finale_uses_every_function_and_says_when_it_is_slow(monkeypatch):
    finale = importlib.import_module("week6.exercises.finale")
    used, lines = set(), []

    def noted(name):
        def function(*arguments):
            used.add(name)
            return getattr(right, name)(*arguments)

        return function

    answers = SimpleNamespace(**{name: noted(name) for name in catalogue.NAMES})
    monkeypatch.setattr(finale, "BUDGET", 0.05)
    finale.run(answers, lambda english, korean: lines.append(english))
    inside = {"split_heads", "merge_heads", "scaled_dot_product_attention"}  # which the student's own functions call
    assert used == set(catalogue.NAMES) - inside
    assert any("fewer steps than usual" in line for line in lines)


def test_an_error_in_the_finale_is_one_line(tmp_path):
    text = "\n\ndef wrapped(step):\n    def training_step(model, *rest):\n        if hasattr(model, 'blocks'):\n            "
    text += "raise ValueError('too big')\n        return step(model, *rest)\n    return training_step\n\n\n"
    file = file_with(tmp_path, text + "training_step = wrapped(training_step)\n")
    status, output, errors = run("-m", "week6.exercises", "--solutions", str(file))
    assert status == 0 and errors == "" and "ValueError: too big" in output.splitlines()[-1]


def test_a_slow_or_crashing_finale_ends_in_a_sentence(tmp_path):
    text = (
        "\n\ndef padding_mask(lengths, n, right=padding_mask):\n    while n > 7:\n        pass\n    return right(lengths, n)\n"
    )
    verdicts = []
    with Grading() as grading:
        for name, said in grading.verdicts(file_with(tmp_path, text), limits=Limits(finale=1.5)):
            verdicts.append((name, said))
    assert [name for name, _ in verdicts[:N]] == list(catalogue.NAMES)
    assert all(said.outcome == SOLVED for _, said in verdicts[:N])
    assert verdicts[-1][0] == runner.FINALE and "had not ended after 1.5 s" in verdicts[-1][1][0]


# --- how it looks ---------------------------------------------------------------------------------------------------


def test_every_message_fits_into_80_columns():
    exercises, consoles = catalogue.load(), [Console(korean=korean, colours=False) for korean in (True, False)]
    answers = [(name, f) for group in (wrong_answers.WRONG,) for name, wrong in group.items() for f in wrong.values()]
    answers += [(name, f) for name, wrong in more_answers.WRONG.items() for f, _ in wrong.values()]
    for name, function in answers:
        verdict = Grader(exercises, SimpleNamespace(**{name: function})).verdict(name)
        for console in consoles:
            shown = [
                console.explanation(verdict),
                console.next_step({name: verdict}, "exercises.py"),
                console.line(name, verdict),
            ]
            for line in "\n".join(shown).splitlines():
                assert display_width(line) <= 80, line
            assert console.korean or "".join(shown).isascii()


@pytest.mark.parametrize("lesson", ["README.md", "README.en.md"])
def test_the_example_in_the_lesson_is_what_students_see(lesson):
    name = "scaled_dot_product_attention"
    answers = SimpleNamespace(**{name: wrong_answers.WRONG[name]["wrong softmax axis (queries)"]})
    shown = PLAIN.explanation(Grader(catalogue.load(), answers).verdict(name))
    assert f"--- {name} ---" in (text := (ROOT / "week6" / lesson).read_text(encoding="utf-8")) and f"\n{shown}\n```" in text


def test_wrapping_counts_korean_letters_twice_and_keeps_the_indentation():
    assert display_width("한a") == 3
    assert wrapped("가나 다라 마바", 9) == "가나 다라\n마바"
    assert wrapped("  1) aa bb cc", 10) == "  1) aa bb\n     cc"
    assert wrapped("    x                = [1, 2, 3]", 29) == "    x                = [1, 2,\n" + " " * 23 + "3]"
    assert wrapped("a-word-that-is-too-long b", 10) == "a-word-that-is-too-long\nb"


def test_colours_stand_beside_words_and_only_where_they_are_wanted(monkeypatch):
    coloured = Console(korean=False, colours=True)
    for outcome in KOREAN:
        line = coloured.line("softmax", Verdict(outcome))
        assert line.startswith("  softmax ") and f"\033[{report.COLOURS[outcome]}m{outcome}\033[0m" in line
        assert PLAIN.line("softmax", Verdict(outcome)).isascii() is False
    terminal = SimpleNamespace(isatty=lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert report.console_has_colours(terminal)
    monkeypatch.setenv("NO_COLOR", "1")
    assert not report.console_has_colours(terminal)
    monkeypatch.delenv("NO_COLOR")
    assert not report.console_has_colours(SimpleNamespace(isatty=lambda: False))


def test_what_comes_next():
    verdicts = dict.fromkeys(catalogue.NAMES, Verdict(SOLVED))
    assert PLAIN.next_step(verdicts, "mine.py").endswith("All solved!")
    verdicts["causal_mask"] = Verdict(NOT_STARTED, line=7)
    assert "Next: causal_mask (mine.py, line 7)" in PLAIN.next_step(verdicts, "mine.py")
    verdicts["softmax"] = Verdict(WRONG, (Mistake("a", "b", "c"),))
    assert PLAIN.next_step(verdicts, "mine.py").splitlines()[0] == "고칠 함수: softmax"
    assert "11 of 13 solved, 1 wrong, 1 not started" in PLAIN.bar(verdicts)
    alone = PLAIN.next_step({"softmax": Verdict(SOLVED)}, "mine.py")
    assert alone.endswith("Next: scaled_dot_product_attention, shown in week6/01_attention_basics.py")
