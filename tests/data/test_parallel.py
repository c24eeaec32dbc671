import os
import threading
import time

import pytest

from medseg.data import parallel as pool
from medseg.data.parallel import Job, MemoryBudget, run_jobs
from medseg.errors import DataError, TrainingError


def where(number):
    return number * number, os.getpid()


def fail(number):
    if number == 2:
        raise DataError("case 2: is broken")
    return number


def die(number):
    os._exit(9)


def prints(number):
    print("a library says something")
    return number


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.path.dirname(__file__))  # noqa: PTH120


def jobs(number, memory=1):
    return [Job(i, memory, 0.0) for i in range(number)]


@pytest.mark.parametrize("processes", [False, True])
def test_results_come_in_order(processes, monkeypatch):
    monkeypatch.setattr(pool, "granted_cores", lambda: 2)
    seen = []
    results = run_jobs(where, jobs(5), seen.append, processes=processes)
    assert [square for square, _ in results] == [0, 1, 4, 9, 16]
    assert sorted(seen) == [0, 1, 2, 3, 4]
    assert ({process for _, process in results} == {os.getpid()}) is not processes


@pytest.mark.parametrize("processes", [False, True])
def test_errors_arrive_as_they_were_raised(processes):
    with pytest.raises(DataError, match=r"^case 2: is broken$"):
        run_jobs(fail, jobs(4), processes=processes)


def test_a_process_that_dies_is_reported():
    with pytest.raises(TrainingError, match=r"died \(exit code 9\)\. If memory was short"):
        run_jobs(die, jobs(1), processes=True)


def die_or_double(number):
    if number == 1:
        os._exit(9)
    return 2 * number


@pytest.mark.parametrize(("function", "processes"), [(fail, False), (fail, True), (die_or_double, True)])
def test_an_error_can_be_the_result_of_its_job_only(function, processes):
    results = run_jobs(
        function, jobs(4), processes=processes, limit=1, on_error=lambda item, error: (item, str(error))
    )
    broken = 2 if function is fail else 1
    assert results[broken][0] == broken
    assert ("case 2: is broken" if function is fail else "died") in results[broken][1]
    factor = 1 if function is fail else 2
    assert [one for one in results if isinstance(one, int)] == [factor * i for i in range(4) if i != broken]


def test_what_functions_print_does_not_disturb_the_answers():
    assert run_jobs(prints, jobs(2), processes=True) == [0, 1]


def test_jobs_wait_for_memory():
    running, most = 0, 0
    lock = threading.Lock()

    def note(_):
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.02)
        with lock:
            running -= 1

    budget = MemoryBudget(100)

    def one(memory):
        with budget.reserve(memory):
            note(None)

    threads = [threading.Thread(target=one, args=(memory,)) for memory in (60, 60, 1000, 60, 30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most <= 2  # 60 and 30; 1000 alone


def test_little_work_starts_no_process(monkeypatch):
    monkeypatch.setattr(pool, "_Worker", lambda: pytest.fail("started a process"))
    assert run_jobs(fail, jobs(2)) == [0, 1]
