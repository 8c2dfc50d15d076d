"""Jobs as processes of this machine; here the processes are short scripts."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

import lt_bench.sweep.watch as watch_module
from lt_bench.engine.locks import exclusive
from lt_bench.errors import LTBenchError
from lt_bench.sweep import attempt
from lt_bench.sweep.job import Spec, SweepJob
from lt_bench.sweep.local import run_fitting, run_here
from lt_bench.sweep.room import FixedPlaces
from lt_bench.sweep.signals import held_back, interrupting
from lt_bench.sweep.sweep import sweep
from lt_bench.sweep.watch import Watch


@pytest.fixture()
def scripts(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[int, str]]:
    """What the job of each seed runs in place of ``lt-bench run``."""
    by_seed: dict[int, str] = {}

    def command(spec: Spec, device: str) -> list[str]:
        return [sys.executable, "-c", by_seed[spec.seed]]

    monkeypatch.setattr(attempt, "command", command)
    yield by_seed


@pytest.fixture()
def recorded(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """Seeds whose records count as written."""
    seeds: set[int] = set()
    monkeypatch.setattr(Spec, "recorded", lambda self: self.seed in seeds)
    monkeypatch.setattr(Spec, "found", lambda self: [])
    return seeds


def here(*jobs: SweepJob, at_once: int = 2) -> str:
    written = StringIO()
    console = Console(file=written, width=200)
    with Watch(jobs, at_once, console) as watch:
        run_here(FixedPlaces(at_once, [], at_once), "cpu", jobs, watch)
    return written.getvalue()


def test_the_words_of_a_process(spec: Callable) -> None:
    words = attempt.command(spec(configs=("a/b", "c.py"), seed=7, options=("x=1", "y=2")), "cpu")
    said = " ".join(words)
    assert "run a/b c.py --seeds 7" in said and said.endswith("--device cpu --resume --cfg-options x=1 y=2")
    assert "--cfg-options" not in attempt.command(spec(), "cpu")


def test_no_more_at_once_than_asked(
    job: Callable, scripts: dict[int, str], recorded: set[int], tmp_path: Path
) -> None:
    """Every script notes how many run while it does."""
    running = tmp_path / "running"
    running.mkdir()
    body = (
        "import os, sys, time, pathlib\n"
        f"folder = pathlib.Path({str(running)!r}); mine = folder / str(os.getpid()); mine.touch()\n"
        "time.sleep(0.6); print('beside', len(list(folder.iterdir()))); mine.unlink()\n"
        "print('threads', os.environ['OMP_NUM_THREADS'])\n"
    )
    jobs = [job(seed=seed) for seed in range(5)]
    scripts.update(dict.fromkeys(range(5), body))
    recorded.update(range(5))
    told = here(*jobs)
    assert all(one.state() == "done" for one in jobs)
    beside = [int(re.findall(r"beside (\d)", one.log.read_text())[0]) for one in jobs]
    assert max(beside) == 2
    assert "threads 1" in jobs[0].log.read_text()
    assert told.count("running") >= 5 and "5 of 5 done; nothing left" in told


def test_as_many_as_fit_or_one_where_memory_cannot_be_read(
    job: Callable, scripts: dict[int, str], recorded: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three jobs that each wait for another to have begun, but for one that has no other beside it."""
    told = StringIO()
    jobs = [job(seed=seed) for seed in range(3)]
    scripts.update(dict.fromkeys(range(3), "import time; time.sleep(0.5)"))
    recorded.update(range(3))
    most = []

    def sweep_with(free: Callable[[int], int] | None) -> int:
        monkeypatch.setattr("lt_bench.sweep.local.memory_reader", lambda gpus: free)
        monkeypatch.setattr("lt_bench.sweep.local.processors", lambda: 2)
        for name in ("SETTLE_SECONDS", "SAMPLE_SECONDS"):
            monkeypatch.setattr(f"lt_bench.sweep.room.{name}", 0)
        for one in jobs:
            one.forget("done")
        with Watch(jobs, None, Console(file=told, width=200)) as watch:
            watch.refresh = lambda: most.append(list(watch.states.values()).count("running"))
            run_fitting([], "cpu", jobs, watch)
        return max(most)

    assert sweep_with(None) == 1
    assert "free memory cannot be read here: one job at once; --jobs gives another number" in told.getvalue()
    most.clear()
    assert sweep_with(lambda index: 1000) == 2, "as many as there are cores"


def test_ends(job: Callable, scripts: dict[int, str], recorded: set[int]) -> None:
    """Only an own fault is a failure; what was stopped, or wrote no record, goes on the next time."""
    say = "import sys; print('lt-bench: expected more, got less; give more', file=sys.stderr); sys.exit(2)"
    scripts.update({0: say, 1: "raise ValueError('a bug')", 2: "pass", 3: "import sys; sys.exit(143)"})
    scripts[4] = "import os; os.kill(os.getpid(), 9)"
    jobs = [job(seed=seed) for seed in range(5)]
    told = here(*jobs)
    assert [one.state() for one in jobs] == ["failed", "failed", *["interrupted"] * 3]
    assert jobs[0].failure() == "expected more, got less; give more"
    assert jobs[1].failure() == "exit code 1: ValueError: a bug"
    assert "expected more, got less" in told


def test_a_log_keeps_every_attempt_and_a_sentence_is_the_last_ones(
    job: Callable, scripts: dict[int, str], recorded: set[int]
) -> None:
    one = job()
    scripts[0] = "import sys; print('lt-bench: first'); sys.exit(2)"
    here(one)
    one.forget("failed")
    scripts[0] = "import sys; sys.exit(2)"
    here(one)
    assert one.failure() == "exit code 2: nothing was printed"
    assert one.log.read_text() == "lt-bench: first\n"


def test_interrupted_ends_its_processes(
    job: Callable, scripts: dict[int, str], recorded: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    scripts[0] = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: (print('saved', flush=True), sys.exit(143)))\n"
        "print('began', flush=True); time.sleep(60)\n"
    )
    scripts[1] = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print('began', flush=True); time.sleep(60)"
    )
    jobs = [job(), job(seed=1)]
    monkeypatch.setattr(attempt.stop_all, "__defaults__", (1.0,))

    def interrupt(seconds: float) -> None:
        if all(one.log.exists() and "began" in one.log.read_text() for one in jobs):
            raise KeyboardInterrupt

    monkeypatch.setattr("lt_bench.sweep.local.time", SimpleNamespace(sleep=interrupt))
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        here(*jobs)
    assert time.monotonic() - started < 40
    assert "saved" in jobs[0].log.read_text()
    assert [one.state() for one in jobs] == ["interrupted", "interrupted"], "and nothing holds the folders"


def test_a_job_outlives_a_killed_sweep_and_is_waited_for(
    job: Callable, scripts: dict[int, str], recorded: set[int], tmp_path: Path
) -> None:
    one = job()
    go = tmp_path / "go"
    body = f"import pathlib, time\nwhile not pathlib.Path({str(go)!r}).exists(): time.sleep(0.05)"
    killed = (
        "import os, sys, pathlib\nfrom lt_bench.sweep import attempt, job\n"
        f"attempt.command = lambda spec, device: [sys.executable, '-c', {body!r}]\n"
        f"attempt.start(job.open_job(pathlib.Path({str(one.folder)!r})), 'cpu', {{}})\n"
        "os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", killed], check=False, timeout=120)
    assert one.state() == "running"
    scripts[0] = "print('second')"
    recorded.add(0)
    polls = []

    def told(*_: Any) -> None:
        polls.append(one.state())
        go.touch()

    watch = Watch([one], 1, Console(quiet=True))
    watch.refresh = told  # type: ignore[method-assign]
    run_here(FixedPlaces(1, [], 1), "cpu", [one], watch)
    assert polls[0] == "running" and one.state() == "done" and one.log.read_text() == "second\n"


def test_what_a_killed_sweep_left_has_a_place(
    job: Callable, scripts: dict[int, str], recorded: set[int]
) -> None:
    """With one place, nothing starts beside a job that still runs."""
    first, left = job(), job(seed=1)
    scripts.update({0: "print('first')", 1: "print('left')"})
    recorded.update((0, 1))
    begun: list[bool] = []
    with ExitStack() as stack:
        stack.enter_context(exclusive(left.folder, "the job of a killed sweep"))

        def told(*_: Any) -> None:
            begun.append(first.log.exists())
            if len(begun) == 3:
                stack.close()

        watch = Watch([first, left], 1, Console(quiet=True))
        watch.refresh = told  # type: ignore[method-assign]
        run_here(FixedPlaces(1, [], 1), "cpu", [first, left], watch)
    assert begun[:3] == [False] * 3
    assert first.state() == left.state() == "done"


def test_a_job_whose_stage_another_call_holds_is_no_failure(
    job: Callable, scripts: dict[int, str], recorded: set[int]
) -> None:
    """By what its process says, which was held then; another call may have ended meanwhile."""
    one = job()
    (stage,) = one.spec.folders()
    scripts[0] = (
        "import pathlib, sys\nfrom lt_bench.engine.locks import Held, exclusive\ntry:\n"
        f"    with exclusive(pathlib.Path({str(stage)!r}), 'stage 1'): print('lt-bench: no disk is left')\n"
        "except Held as error: print(f'lt-bench: 1 run failed: (1) {error}')\nsys.exit(2)"
    )
    with exclusive(stage, "another call"):
        here(one)
    assert one.state() == "interrupted"
    here(one)
    assert one.state() == "failed" and one.failure() == "no disk is left"


def test_a_second_signal_does_not_cut_the_end_of_jobs_short(
    job: Callable, scripts: dict[int, str], recorded: set[int]
) -> None:
    one = job()
    scripts[0] = (
        "import os, signal, sys, time\n"
        "def end(*_):\n"
        "    os.kill(os.getppid(), signal.SIGTERM); time.sleep(0.5)\n"
        "    print('saved', flush=True); sys.exit(143)\n"
        "signal.signal(signal.SIGTERM, end)\n"
        "os.kill(os.getppid(), signal.SIGTERM); time.sleep(60)"
    )
    with pytest.raises(KeyboardInterrupt), interrupting():
        here(one)
    assert one.log.read_text() == "saved\n" and one.state() == "interrupted"


def test_a_signal_while_a_job_is_started_ends_that_job(
    job: Callable, scripts: dict[int, str], recorded: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes between the process's start and its being known."""
    one = job()
    scripts[0] = "import time; time.sleep(60)"
    started: list[subprocess.Popen] = []
    begin = subprocess.Popen

    def signalled(*args: Any, **kwargs: Any) -> subprocess.Popen:
        started.append(begin(*args, **kwargs))
        os.kill(os.getpid(), signal.SIGTERM)
        return started[-1]

    monkeypatch.setattr(attempt.subprocess, "Popen", signalled)
    with pytest.raises(KeyboardInterrupt), interrupting():
        here(one)
    assert started[0].poll() is not None and not one.running()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_what_is_ignored_stays_ignored() -> None:
    """``nohup`` and a shell's ``&``: a process inherits what is ignored, but no handler."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    # A shell that runs the tests in its background has it ignored, too.
    ctrl_c = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with interrupting(), held_back():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        with pytest.raises(KeyboardInterrupt), held_back():
            os.kill(os.getpid(), signal.SIGINT)
            passed = True
        assert passed and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        # A signal is not lost where the block fails.
        with pytest.raises(KeyboardInterrupt), held_back():
            os.kill(os.getpid(), signal.SIGINT)
            raise ValueError
    finally:
        signal.signal(signal.SIGHUP, before)
        signal.signal(signal.SIGINT, ctrl_c)


def test_failures_are_told_and_retried(
    spec: Callable, scripts: dict[int, str], recorded: set[int], tmp_path: Path
) -> None:
    specs = [spec(), spec(seed=1)]
    scripts.update({0: "import sys; print('lt-bench: no luck'); sys.exit(2)", 1: "print('well')"})
    recorded.add(1)
    written = StringIO()

    def go(retry: bool) -> None:
        console = Console(file=written, width=200)
        launch = lambda jobs, watch: run_here(FixedPlaces(2, [], 2), "cpu", jobs, watch)  # noqa: E731
        sweep(specs, tmp_path / "s", launch, 2, retry, console)

    recorded.clear()
    scripts[1] = "import sys; sys.exit(130)"
    with pytest.raises(LTBenchError, match=r"1 of 2 jobs failed and 1 were interrupted.*--retry"):
        go(retry=False)
    recorded.add(1)
    with pytest.raises(LTBenchError, match=r"1 of 2 jobs failed; their logs are in .*jobs, and --retry"):
        go(retry=False)
    log = tmp_path / "s" / "jobs" / specs[0].id / "log.txt"
    assert f"failed: no luck (log: {log})" in written.getvalue()
    assert log.read_text().count("no luck") == 1, "a failed job is not run again unasked"
    scripts[0] = "print('better')"
    recorded.add(0)
    go(retry=True)
    assert "2 of 2 done" in written.getvalue()
    recorded.clear()
    with pytest.raises(LTBenchError, match="2 of 2 jobs were ended from outside"):
        go(retry=False)


def test_a_terminal_has_a_bar(job: Callable) -> None:
    jobs = [job(), job(seed=1), job(seed=2)]
    written = StringIO()
    console = Console(file=written, width=120, force_terminal=True)
    with Watch(jobs, 1, console) as watch:
        watch.tell(jobs[0], "running")
        jobs[0].mark_done({"stage1": 30.0, "other": 10.0})
        watch.tell(jobs[0], "done")
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", written.getvalue())
    assert "0/3 3 waiting; time left: unknown" in plain
    assert "1/3 2 waiting; time left: about 1 min" in plain, "two of 40 s, one at a time"


def test_what_is_left_of_a_job_whose_stage_is_trained_does_not_grow_as_it_starts(
    job: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    done, one = job(), job(seed=1)
    done.mark_done({"stage1": 3600.0, "other": 30.0})
    monkeypatch.setattr(watch_module, "stage1_seconds", lambda spec: dict.fromkeys(spec.stages, 3600.0))
    watch = Watch([done, one], 1, Console(quiet=True))
    before = str(watch.left())
    watch.tell(one, "running")
    assert str(watch.left()) == before == "time left: about 30 s"


def test_a_job_that_an_earlier_call_started_is_measured_from_its_start(
    job: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    done, one = job(), job(seed=1)
    done.mark_done({"stage1": 3600.0, "other": 0.0})
    trained: dict[str, float] = {}
    monkeypatch.setattr(watch_module, "stage1_seconds", lambda spec: trained)
    with exclusive(one.folder, "the job"):
        os.utime(one.folder / ".lock", (time.time() - 1800,) * 2)
        watch = Watch([done, one], 1, Console(quiet=True))
        watch.tell(one, "running")
        assert str(watch.left()) == "time left: about 30 min"
        trained.update(dict.fromkeys(one.spec.stages, 3600.0))
        assert str(Watch([done, one], 1, Console(quiet=True)).left()) == "time left: about 0 s"
