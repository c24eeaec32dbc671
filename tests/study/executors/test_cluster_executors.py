import os
import signal
import sys
import threading
import time
import warnings
from types import SimpleNamespace

import pytest

from medseg.errors import StudyStopped
from medseg.study.executors import CellCommand, process, read_state
from medseg.study.executors import slurm as slurm_executor
from medseg.study.executors.cluster import STOP_FILE, run_cell_as_job
from medseg.study.executors.dask import DaskExecutor, QueuedWorkers
from medseg.study.executors.options import DaskConfig, SlurmConfig
from medseg.study.executors.slurm import CellJob, JobResources, SlurmExecutor
from medseg.study.executors.state import CellState, read_job, write_job, write_state


def python(name, code, folder):
    return CellCommand(name, (sys.executable, "-S", "-c", code), folder / name)


def two_cells(folder):
    return [
        python("bad", "print('about to fail'); raise SystemExit(3)", folder),
        python("good", "print('fine')", folder),
    ]


def check_two_results(results, reported):
    bad, good = results
    assert sorted(reported, key=lambda one: one.cell.name) == [bad, good]
    assert (bad.exit_code, bad.tail(1)) == (3, "about to fail")
    assert (good.succeeded, good.tail(1)) == (True, "fine")
    assert [read_state(one.cell.folder).status for one in results] == ["failed", "complete"]


@pytest.mark.filterwarnings(  # of submitit's debug executor
    "ignore:unclosed file:ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
def test_submitit_runs_cells_as_jobs(tmp_path):
    reported = []
    executor = SlurmExecutor(tmp_path / "jobs", cluster="debug", poll_seconds=0.02)
    check_two_results(executor.run(two_cells(tmp_path), reported.append), reported)
    assert read_job(tmp_path / "good")


@pytest.mark.slow
def test_submitit_starts_processes_of_its_own(tmp_path):
    reported = []
    executor = SlurmExecutor(tmp_path / "jobs", cluster="local", poll_seconds=0.1)
    check_two_results(executor.run(two_cells(tmp_path), reported.append), reported)


SBATCH = """#!/bin/bash
# starts the tasks of a job array on this machine
cat "$1" >> {folder}/scripts
last=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\)%.*/\\1/p' "$1")
for task in $(seq 0 $last); do
  SLURM_JOB_ID=$((100 + task)) SLURM_ARRAY_JOB_ID=42 SLURM_ARRAY_TASK_ID=$task SLURM_NTASKS=1 SLURM_PROCID=0 \\
    bash "$1" > {folder}/job.$task 2>&1 &
  echo "42_$task|RUNNING|here" >> {folder}/jobs
done
echo Submitted batch job 42
"""
SRUN = """#!/bin/bash
while [[ $1 == --* ]]; do case $1 in --output|--error) shift 2;; *) shift;; esac; done
exec "$@"
"""
SACCT = """#!/bin/bash
echo 'JobID|State|NodeList'
cat {folder}/jobs
"""


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """A folder with commands that stand in for those of SLURM."""
    folder = tmp_path / "slurm"
    folder.mkdir()
    for name, text in (("sbatch", SBATCH), ("srun", SRUN), ("sacct", SACCT), ("scancel", "#!/bin/bash\n")):
        path = folder / name
        path.write_text(text.replace("{folder}", str(folder)), encoding="utf-8")
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    return folder


@pytest.mark.slow
def test_slurm_runs_a_job_array_and_a_study_started_again_waits_for_its_jobs(tmp_path, slurm):
    resources = JobResources(minutes=90, gpus=1, at_once=2, options=(("partition", "gpu"),))
    executor = SlurmExecutor(tmp_path / "jobs", resources, poll_seconds=0.2)
    reported = []
    check_two_results(executor.run(two_cells(tmp_path), reported.append), reported)
    script = (slurm / "scripts").read_text(encoding="utf-8")
    for line in ("partition=gpu", "time=90", "gpus-per-node=1", "array=0-1%2", "cpus-per-task=4"):
        assert f"#SBATCH --{line}\n" in script
    assert [read_job(tmp_path / name) for name in ("bad", "good")] == ["42_0", "42_1"]

    write_state(tmp_path / "good", CellState("running", process="elsewhere.1.1", host="node7"))
    (slurm / "scripts").unlink()
    (again,) = executor.run([two_cells(tmp_path)[1]])
    assert again.succeeded
    assert not (slurm / "scripts").exists()  # nothing was submitted


def test_a_lost_job_is_a_failed_cell(tmp_path):
    class Lost:
        def done(self):
            return True

        def result(self):
            raise RuntimeError("state OUT_OF_MEMORY")

        def cancel(self):
            pass

    executor = SlurmExecutor(tmp_path / "jobs", cluster="debug", poll_seconds=0.02)
    executor._running_job = lambda cell: Lost()
    (tmp_path / "good").mkdir()
    (result,) = executor.run([python("good", "", tmp_path)])
    assert result.exit_code == 1
    assert "OUT_OF_MEMORY" in result.tail()
    assert read_state(tmp_path / "good").status == "failed"


@pytest.mark.parametrize(
    ("status", "queue", "found"),
    [
        ("waiting", "PENDING", True),
        ("running", "RUNNING", True),
        ("stopped", "REQUEUED", True),  # its time was over; it runs again
        ("stopped", "CANCELLED by 1000", False),
        ("complete", "COMPLETING", False),
    ],
)
def test_a_job_that_is_alive_in_the_queue_is_not_submitted_twice(tmp_path, monkeypatch, status, queue, found):
    def job_of(folder, job_id):
        return SimpleNamespace(job_id=job_id, state=queue)

    executor = SlurmExecutor(tmp_path / "jobs", cluster="debug")
    executor.cluster = "slurm"
    monkeypatch.setattr(slurm_executor, "_submitit", lambda: SimpleNamespace(SlurmJob=job_of))
    cell = python("good", "", tmp_path)
    cell.folder.mkdir()
    write_state(cell.folder, CellState(status, host="node7"))
    write_job(cell.folder, "42_0")
    job = executor._running_job(cell)
    assert (job is not None) == found
    assert job is None or job.job_id == "42_0"


def test_a_job_whose_time_is_over_is_queued_again(tmp_path):
    cell = python("good", "print('fine')", tmp_path)
    again = CellJob().checkpoint(cell)
    assert again.function(*again.args).succeeded


def test_the_resources_are_those_of_the_file(tmp_path):
    config = SlurmConfig(time="8h", cpus=6, gpus=1, memory_gb=24, at_once=3, options={"partition": "gpu"})
    executor = config.model_copy(update={"cluster": "debug"}).build(tmp_path)
    assert executor.resources == JobResources(480, 6, 24, 1, 3, 3, (("partition", "gpu"),))
    assert executor.resources.parameters() == {
        "name": "medseg",
        "timeout_min": 480,
        "cpus_per_task": 6,
        "mem_gb": 24,
        "slurm_array_parallelism": 3,
        "gpus_per_node": 1,
        "slurm_additional_parameters": {"partition": "gpu"},
    }
    with pytest.raises(ValueError, match="pattern"):
        SlurmConfig(options={"partition": "gpu\nrm -r x"})


def test_dask_needs_a_scheduler_or_a_system(tmp_path):
    executor = DaskConfig(system="pbs", workers=3, queue="long", directives=("--gres=gpu:1",)).build(tmp_path)
    assert executor.workers == QueuedWorkers(
        "pbs",
        3,
        {
            "cores": 4,
            "memory": "16GB",
            "walltime": "04:00:00",
            "queue": "long",
            "job_extra_directives": ["--gres=gpu:1"],
        },
    )
    with pytest.raises(ValueError, match="either scheduler or system"):
        DaskConfig()


@pytest.fixture
def scheduler():
    """Address of a Dask scheduler with a worker in this process."""
    distributed = pytest.importorskip("distributed")
    with (
        warnings.catch_warnings(),
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=2, processes=False, protocol="tcp", host="127.0.0.1",
            dashboard_address=None, scheduler_kwargs={"dashboard_address": "127.0.0.1:0"}, silence_logs=50,
        ) as cluster,
    ):  # fmt: skip
        yield cluster.scheduler_address


SAVES = """
import pathlib, signal, sys, time
def save(*_):
    pathlib.Path(r'{folder}/saved').touch()
    sys.exit(143)
signal.signal(signal.SIGTERM, save)
pathlib.Path(r'{folder}/ready').touch()
time.sleep(60)
"""


def test_dask_workers_run_cells(tmp_path, scheduler):
    reported = []
    executor = DaskExecutor(scheduler, poll_seconds=0.02)
    check_two_results(executor.run(two_cells(tmp_path), reported.append), reported)
    assert executor.run([]) == []


def test_a_signal_lets_the_cells_of_workers_save(tmp_path, scheduler):
    def interrupt():
        while not (tmp_path / "ready").exists():
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(StudyStopped):
        DaskExecutor(scheduler, poll_seconds=0.02).run([python("a", SAVES.format(folder=tmp_path), tmp_path)])
    thread.join()
    assert (tmp_path / "saved").exists()
    assert read_state(tmp_path / "a").status == "stopped"


def test_a_job_that_starts_after_the_stop_does_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(process, "run_cell", None)
    cell = python("a", "", tmp_path)
    cell.folder.mkdir()
    (cell.folder / STOP_FILE).touch()
    assert run_cell_as_job(cell).stopped
