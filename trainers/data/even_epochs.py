"""Epochs of a stream that end at the same step in all processes, however unequally many samples these read."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.distributed as dist

Made = tuple[Any, dict[str, Any]]  # a batch, and where the worker that made it is after it


def cpu_group() -> Any:
    """The processes of a run as a group that sends between CPUs; all of them call this. None for one process."""
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return None
    return dist.group.WORLD if dist.get_backend() == "gloo" else dist.new_group(backend="gloo")


class EvenEpochs:
    """The batches of a process in one epoch after the other, which no process begins before all have ended the last.

    A process that has read all of its shards takes batches of those that have not. When fewer are left than there are
    processes, the others begin the next epoch at this step. So each sample comes once in an epoch, and each process has
    a batch at each step. What goes where follows from how many batches each process has, not from time.

    Args:
        read: the batches of the process in an epoch.
        taken: is told of each batch of the process that is used, by itself or by another.
        begun: is told of each epoch that begins.
        epoch: the first one.
        resumed: whether some of it has been used before.
        group: the processes, see `cpu_group`.
    """

    def __init__(
        self,
        read: Callable[[int], Iterator[Made]],
        taken: Callable[[dict[str, Any]], None],
        begun: Callable[[int], None],
        *,
        epoch: int,
        resumed: bool,
        group: Any,
    ) -> None:
        self.read, self.taken, self.begun, self.epoch, self.group = read, taken, begun, epoch, group
        self.rank = dist.get_rank() if group else 0
        self.following = read(epoch)
        self.ahead: deque[Made] = deque()  # read, but not used
        self.ended, self.found = False, resumed

    def __iter__(self) -> Iterator[Any]:
        while True:
            yield self._next()

    def _next(self) -> Any:
        mine: list[Any] = []  # the batch of this step, once there is one
        while True:
            if not mine and not self.ahead:
                self._read_one()
            held, ended, found = self._of_all(len(mine) + len(self.ahead), self.ended, self.found)
            lacking = sum(held) < len(held)
            if lacking and not all(ended):
                self._read_one()
                continue
            if not mine and self.ahead:
                mine = [self._take()]
            for giver, receiver in transfers(held):
                if giver == self.rank:
                    dist.send_object_list([self._take()], receiver, group=self.group)
                elif receiver == self.rank:
                    mine = [None]
                    dist.recv_object_list(mine, giver, group=self.group)
            if not lacking:
                return mine[0]
            if not any(found):
                raise ValueError("nothing in a stream can be read, or it is empty: check the data")
            self._begin(self.epoch + 1)

    def _read_one(self) -> None:
        """Read one more batch of this epoch, if there is one."""
        made = next(self.following, None)
        if made is None:
            self.ended = True
        else:
            self.ahead.append(made)
            self.found = True

    def _take(self) -> Any:
        batch, made = self.ahead.popleft()
        self.taken(made)
        return batch

    def _begin(self, epoch: int) -> None:
        self.epoch, self.ended, self.found = epoch, False, False
        self.begun(epoch)
        self.following = self.read(epoch)

    def _of_all(self, *numbers: int) -> list[list[int]]:
        """Numbers of this process, each in a list with those of all others."""
        own = torch.tensor(numbers)
        if self.group is None:
            return [[int(one)] for one in own]
        each = [torch.empty_like(own) for _ in range(dist.get_world_size())]
        dist.all_gather(each, own, group=self.group)
        return torch.stack(each, 1).tolist()


def transfers(held: Sequence[int]) -> list[tuple[int, int]]:
    """(giver, receiver) of batches, so that as many processes as possible have one; from how many each has.

    Example:
        >>> transfers([0, 3, 1, 0])
        [(1, 0), (1, 3)]
    """
    givers = [process for process, number in enumerate(held) for _ in range(number - 1)]
    receivers = [process for process, number in enumerate(held) if not number]
    return list(zip(givers, receivers, strict=False))
