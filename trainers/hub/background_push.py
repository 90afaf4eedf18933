"""Pushes in the background of a run: checked before, tried again, and never silent when they fail."""

import shutil
import tempfile
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from transformers.trainer_utils import HubStrategy
from transformers.utils import logging

from ..errors import first_line
from .outgoing import CodeError, prepare
from .preflight import check_disk, preflight
from .public_names import make_public
from .publishing import card_was_pushed, create_repository, renew_card, upload

logger = logging.get_logger(__name__)

COPIES = 2  # of a checkpoint: a new one is complete before the old one goes
MOMENTS = 2  # of each weight, which AdamW keeps in a checkpoint


class BackgroundPusher:
    """Sends the folders of a run to its repository, one after the other, in a thread of its own.

    A folder is copied when the push is asked for, since checkpoints come and go, and the copy is sent when the pushes
    before it have ended. What goes is what `outgoing.PUBLISHED` lists: safetensors and no pickles.

    Args:
        args: `TrainingArguments`; the repository is `hub_model_id`, or has the name of the output folder.

    Attributes:
        error: why the last push that ended failed; None if it didn't.
    """

    def __init__(self, args: Any) -> None:
        self.args = args
        self.error: str | None = None
        self._queue: list[Future] = []
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="push")

    # ---- before training ----

    def check(self, model: Any) -> None:
        """Require that a run can be pushed: token, name of the repository, room for its checkpoints on the disk.

        Raises:
            PublishError: it can't.
        """
        self.check_name(model)
        weights = sum(value.numel() * value.element_size() for value in model.state_dict().values())
        check_disk(self.args.output_dir, COPIES * (1 + MOMENTS) * weights)

    def check_name(self, model: Any, token: str | None = None) -> None:
        """Require that the repository may be written to, and complete its name in `args.hub_model_id`.

        Raises:
            PublishError: it may not.
        """
        args = self.args
        name = args.hub_model_id or Path(args.output_dir).absolute().name
        args.hub_model_id = preflight(name, token=token or args.hub_token, model_type=model.config.model_type)

    def create_repository(self, token: str | None = None, private: bool | None = None) -> None:
        """Make the repository and the branch where there are none."""
        args = self.args
        create_repository(
            args.hub_model_id,
            token=token or args.hub_token,
            private=args.hub_private_repo if private is None else private,
            revision=args.hub_revision,
        )

    # ---- pushes ----

    def push_model(
        self,
        folder: Path,
        message: str,
        *,
        card_in: Path | None = None,
        token: str | None = None,
        revision: str | None = None,
    ) -> Future:
        """Push a model without its teacher, as the repository's own model, with its card.

        Args:
            folder: holds the weights.
            message: of the commit.
            card_in: the folder with card and provenance, if it is another one.
            token, revision: instead of those of the arguments.

        Returns:
            A future of the commit's address.
        """
        token, revision = token or self.args.hub_token, revision or self.args.hub_revision
        home, staging = card_in or folder, self._staged(folder)
        repo_id = str(self.args.hub_model_id)

        def send() -> str:
            renew_card(home, repo_id, staging=staging, token=token, revision=revision)
            shutil.copy(home / "provenance.json", staging)
            address = upload(staging, repo_id, token=token, revision=revision, message=message, source=folder)
            card_was_pushed(home)
            return address

        return self._submit(send, staging)

    def takes_checkpoints(self) -> bool:
        """Whether a checkpoint is to be pushed now: by the strategy, and as far as no earlier push is under way."""
        if self.args.hub_strategy == HubStrategy.END:
            return False
        self.surface_errors()
        if self._queue and not self.args.hub_always_push:
            logger.info("a checkpoint is not pushed: an earlier push is under way (hub_always_push pushes anyway)")
            return False
        return True

    def push_checkpoint(self, folder: Path, step: int) -> None:
        """Push a checkpoint's model and, with the strategies that say so, the checkpoint itself below its name.

        Of the checkpoint that is the weights, with the teacher, and the run's state. The optimizer's state, which is a
        pickle, stays on this disk, so only a local checkpoint resumes exactly.
        """
        args, message = self.args, f"Training in progress, step {step}"
        self.push_model(folder, message, card_in=Path(args.output_dir))
        places = {HubStrategy.CHECKPOINT: "last-checkpoint", HubStrategy.ALL_CHECKPOINTS: folder.name}
        if (place := places.get(args.hub_strategy)) is None:
            return
        staging, repo_id = self._staged(folder, with_teacher=True), str(args.hub_model_id)
        token, revision, message = args.hub_token, args.hub_revision, f"{message}, checkpoint"

        def send() -> str:
            to = {"token": token, "revision": revision, "path_in_repo": place}
            return upload(staging, repo_id, message=message, source=folder, **to)

        self._submit(send, staging)

    def _staged(self, folder: Path, *, with_teacher: bool = False) -> Path:
        """A copy of what is to be published of a folder; with the teacher, also of the run's state."""
        staging = Path(tempfile.mkdtemp(prefix="data2vec-push-"))
        try:
            try:
                prepare(folder, staging, with_teacher=with_teacher, with_code=True)
            except CodeError as error:
                logger.warning(f"The model is pushed without its code: {first_line(error)}")
                prepare(folder, staging, with_teacher=with_teacher)
            if with_teacher:
                shutil.copy(folder / "trainer_state.json", staging)
                make_public(staging)
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise
        return staging

    def _submit(self, send: Callable[[], str], staging: Path) -> Future:
        def send_and_clear() -> str:
            try:
                return send()
            finally:
                shutil.rmtree(staging, ignore_errors=True)

        push = self._thread.submit(send_and_clear)
        push.add_done_callback(lambda _: shutil.rmtree(staging, ignore_errors=True))  # also if it never begins
        self._queue.append(push)
        return push

    # ---- what became of them ----

    def surface_errors(self) -> None:
        """Log what went wrong with pushes that have ended."""
        ended = [push for push in self._queue if push.done()]
        self._queue = [push for push in self._queue if not push.done()]
        for push in ended:
            error = push.exception()
            self.error = None if error is None else str(error)
            if error is not None:
                logger.error(f"A push failed while training went on: {error}. The next push makes up for it.")

    def wait(self) -> None:
        """Wait for all pushes, and log what went wrong."""
        for push in self._queue:
            push.exception()
        self.surface_errors()

    def drop(self) -> None:
        """Cancel the pushes that have not begun."""
        for push in self._queue:
            push.cancel()
