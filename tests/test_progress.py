"""The sign of life of long work."""

from common.progress import progress


def test_progress_yields_everything_and_is_silent_when_quick(capsys):
    assert list(progress(range(5), "working")) == [0, 1, 2, 3, 4]
    assert capsys.readouterr().out == ""


def test_progress_in_a_log_is_a_line_every_ten_seconds(capsys, monkeypatch):
    clock = iter(range(0, 1000, 4))
    monkeypatch.setattr("common.progress.time.perf_counter", lambda: float(next(clock)))
    list(progress(range(10), "working"))
    assert capsys.readouterr().out.splitlines()[0] == "  working: 30 % after 12 s"


def test_progress_on_a_terminal_stays_on_one_line(capsys, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    clock = iter(range(1000))
    monkeypatch.setattr("common.progress.time.perf_counter", lambda: float(next(clock)))
    list(progress(range(4), "working"))
    out = capsys.readouterr().out
    assert "\n" not in out and "50 %" in out and out.endswith("\r")
