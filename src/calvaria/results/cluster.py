"""Pieces of work on the workers of a Dask scheduler, which see the same files as this machine.

Everything is handed over by file name: inputs and results lie on a disk that this machine and all workers share. What a
worker does is the same function that a local process would call; a piece of work whose worker dies is begun once more
elsewhere, and then given up, whatever the scheduler itself is told to allow. How often a piece was begun stands in a
folder on that disk.
"""

from __future__ import annotations

import pickle
import socket
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from calvaria.errors import InputError, MissingExtraError, one_line
from calvaria.files import atomic_path
from calvaria.results.unfinished import sweep, unfinished

if TYPE_CHECKING:
    from distributed import Client, Future

Item = TypeVar("Item")
Result = TypeVar("Result")

CONNECT_S = 10
"""A scheduler that has not answered after so long is not there."""

MAX_STARTS = 2
"""A piece of work is begun at most so often: where it kills its worker twice, it would kill the next one, too."""

STARTS = "cluster"
"""What the hidden folder is called in which it stands how often pieces of work were begun."""

MAX_SUBMITS = 5
"""A piece of work is handed over at most so often, where workers die before it was begun at all."""

DIED = (
    "its worker died, and the second one, too, probably for want of memory; run the case alone, or on workers with more"
)
GONE = "the scheduler at {address} went away before it was done; start one, and the same command goes on"
REFUSED = "the worker could not run it: {why}; wanted: workers with this version of calvaria and what it needs"
UNSEEN = "the worker on {host} does not see {folder}; wanted: a disk that this machine and all workers share"


def require_cluster() -> None:
    """Make sure that Dask is installed.

    Raises:
        MissingExtraError: it is not.
    """
    try:
        import distributed  # noqa: F401 - whether it is there
    except ImportError as error:
        raise MissingExtraError("--scheduler: cases are sent by Dask: pip install 'calvaria[cluster]'") from error


def on_scheduler(
    work: Callable[[Item], Result],
    items: Sequence[Item],
    address: str,
    shared: Path,
    lost: Callable[[Item, str], Result],
) -> Generator[tuple[Item, Result]]:
    """Do pieces of work on a Dask scheduler's workers, and give each result as it comes.

    Args:
        work: a function that a worker can import (a ``functools.partial`` of one as well); catches what it raises.
        items: what it is called with; paths in them are absolute.
        address: of the scheduler.
        shared: a folder, made where it is not there, that this machine and all workers see.
        lost: what stands for an item that could not be done, from the item and one line that says why.

    Yields:
        Each item with its result, in the order in which they are ready. Whoever stops early closes the generator: what
        has not begun is not done.

    Raises:
        MissingExtraError: Dask is not installed.
        InputError: no scheduler answers.
    """
    require_cluster()
    from distributed import as_completed

    with _connected(address) as client, _starts(shared) as folder:
        begun = partial(_begin, work, str(folder))
        tasks = [_Task(number, item) for number, item in enumerate(items)]
        running = dict(zip(_submit(client, begun, tasks, folder.parent.name), tasks, strict=True))
        come = as_completed(list(running), loop=client.loop, with_results=True, raise_errors=False)
        for future, came in come:
            task = running.pop(future)
            found = _result(future.status, came, address)
            if isinstance(found, _Died) and _starts_of(folder, task) < MAX_STARTS and task.submits < MAX_SUBMITS:
                (once_more,) = _submit(client, begun, [task], folder.parent.name)
                running[once_more] = task
                come.add(once_more)
                continue
            yield task.item, found.result if isinstance(found, _Done) else lost(task.item, found.why)
            future.release()  # a result that was given is kept nowhere


@dataclass
class _Task(Generic[Item]):
    """An item, and how often it was handed over."""

    number: int
    item: Item
    submits: int = 0


@dataclass(frozen=True)
class _Done(Generic[Result]):
    """What a piece of work gave."""

    result: Result


@dataclass(frozen=True)
class _Not:
    """Why there is no result."""

    why: str


class _Died(_Not):
    """The worker died."""


def _submit(client: Client, begun: Callable[..., Any], tasks: Sequence[_Task[Any]], run: str) -> list[Future]:
    """Hand pieces of work over, under names that say nothing of whose they are."""
    for task in tasks:
        task.submits += 1
    keys = [f"calvaria-{run}-{task.number}-{task.submits}" for task in tasks]
    futures: list[Future] = client.map(begun, list(tasks), key=keys, pure=False)
    return futures


def _begin(work: Callable[[Any], Any], folder: str, task: _Task[Any]) -> _Done[Any] | _Not:
    """On a worker: note that a piece of work begins, and do it, unless it was begun too often.

    What it gave is kept in the folder: a scheduler asks again for results that lay in the memory of a worker that died.
    """
    mark, kept = _mark(Path(folder), task), _mark(Path(folder), task).with_suffix(".done")
    try:
        if kept.exists():
            return _Done(pickle.loads(kept.read_bytes()))
        with mark.open("ab", buffering=0) as sink:
            sink.write(b"x")
            starts = sink.tell()
    except OSError:
        return _Not(UNSEEN.format(host=socket.gethostname(), folder=Path(folder).parents[1]))
    if starts > MAX_STARTS:
        return _Not(DIED)
    result = work(task.item)
    with suppress(OSError), atomic_path(kept) as part:
        part.write_bytes(pickle.dumps(result))
    return _Done(result)


def _result(status: str, came: Any, address: str) -> _Done[Any] | _Not:
    """What became of a piece of work that ended in one way or another.

    Args:
        status: of its future.
        came: what it gave, or the kind, value and trace of its error.
        address: of the scheduler.
    """
    from distributed import KilledWorker

    if status == "finished":
        found: _Done[Any] | _Not = came
        return found
    if status != "error":  # cancelled, as all are when the connection is lost
        return _Not(GONE.format(address=address))
    error = came[1]
    if isinstance(error, KilledWorker):
        return _Died(DIED)
    return _Not(REFUSED.format(why=f"{type(error).__name__}: {one_line(error)}"))


def _mark(folder: Path, task: _Task[Any]) -> Path:
    return folder / str(task.number)


def _starts_of(folder: Path, task: _Task[Any]) -> int:
    """How often a piece of work was begun."""
    path = _mark(folder, task)
    return path.stat().st_size if path.exists() else 0


@contextmanager
def _starts(shared: Path) -> Iterator[Path]:
    """The folder with a file for each piece of work that was begun, a byte for each time; gone at the end.

    What killed clients have left of such goes first.
    """
    sweep(shared, STARTS)
    with ExitStack() as held:
        try:
            shared.mkdir(parents=True, exist_ok=True)
            folder = held.enter_context(unfinished(shared.absolute(), STARTS))
            for one in (folder.parent, folder):
                one.chmod(0o777)  # workers may run as somebody else
        except OSError as error:
            raise InputError(f"{shared}: cannot be written: {error.strerror}; give another folder with -o") from error
        yield folder


@contextmanager
def _connected(address: str) -> Iterator[Client]:
    """A connection to a scheduler.

    Raises:
        InputError: there is none.
    """
    from distributed import Client

    try:
        client = Client(address, timeout=CONNECT_S, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:  # nobody there; no address
        raise InputError(
            f"--scheduler {address}: no Dask scheduler answers there ({one_line(error)}); wanted: the address that "
            "dask scheduler prints, such as tcp://host:8786"
        ) from error
    try:
        yield client
    finally:
        client.close()


__all__ = ["on_scheduler", "require_cluster"]
