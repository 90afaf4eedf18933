"""transformers' Trainer with pushes that are checked before, tried again, and never fail in silence."""

import shutil
import tempfile
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from transformers import Trainer
from transformers.trainer_utils import HubStrategy
from transformers.utils import logging

from ..files.writing import new_files
from .model_card import write_card
from .outgoing import prepare
from .preflight import check_disk, preflight
from .provenance import run_provenance
from .public_names import make_public
from .publishing import card_was_pushed, create_repository, renew_card, upload

logger = logging.get_logger(__name__)

COPIES = 2  # of a checkpoint: a new one is complete before the old one goes


class HubTrainer(Trainer):
    """`Trainer` whose `push_to_hub=True` checks token, name and disk before it trains, in all strategies.

    What it publishes is what `publishing.PUBLISHED` lists: safetensors and no pickles. With the strategies
    "checkpoint" and "all_checkpoints" the weights of a checkpoint, with the teacher, are published below its name; the
    optimizer's state, which is a pickle, stays on this disk, so only a local checkpoint resumes exactly.

    A background push that fails is said at once and made up for by the next one; the last, at the end of `train`,
    raises `PublishError` if it fails, when all is saved.
    """

    push_error: str | None = None  # why the last background push failed
    push_at_end = True  # of `train`; False leaves it to the caller
    facts: dict[str, Any]  # what the card should say beside what the trainer knows: fields of `Provenance`

    def __init__(self, model: Any, args: Any, *arguments: Any, **kwargs: Any) -> None:
        self.facts = {}
        self._pushes: list[Future] = []
        self._pusher = ThreadPoolExecutor(1, thread_name_prefix="push")
        if args.push_to_hub and args.process_index == 0:
            self._check_name(model, args)
            weights = sum(value.numel() * value.element_size() for value in model.state_dict().values())
            check_disk(args.output_dir, COPIES * 3 * weights)  # weights, and two moments of each
        super().__init__(model, args, *arguments, **kwargs)

    def _check_name(self, model: Any, args: Any, token: str | None = None) -> None:
        name = args.hub_model_id or Path(args.output_dir).absolute().name
        args.hub_model_id = preflight(name, token=token or args.hub_token, model_type=model.config.model_type)

    def init_hf_repo(self, token: str | None = None, private: bool | None = None) -> None:
        """Make the repository, with patience."""
        args = self.args
        if not self.is_world_process_zero():
            return
        if not args.push_to_hub:  # else it was checked before anything else
            self._check_name(self.model, args, token)
        self.hub_model_id = args.hub_model_id
        create_repository(
            self.hub_model_id,
            token=token or args.hub_token,
            private=args.hub_private_repo if private is None else private,
            revision=args.hub_revision,
        )

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Write the card, from what the run knows by now."""
        if self.is_world_process_zero():
            folder = Path(self.args.output_dir)
            if not (folder / "config.json").exists():  # of a run whose first checkpoint is pushed
                self.model.config.architectures = [type(self.model).__name__]
                with new_files(folder) as unfinished:
                    self.model.config.save_pretrained(unfinished)
            run_provenance(self).save(folder)
            write_card(folder, self.hub_model_id or self.args.hub_model_id)

    def after_training(self) -> None:
        """Save and push the trained model, where `push_to_hub` asks for it; to be called at the end of `train`."""
        if self.args.push_to_hub and self.push_at_end:
            self.push_to_hub()

    def push_to_hub(
        self,
        commit_message: str | None = "End of training",
        blocking: bool = True,
        token: str | None = None,
        revision: str | None = None,
        private: bool | None = None,
        **kwargs: Any,
    ) -> Any:
        """Save the model and publish it; returns the commit's address, or a future of it.

        Raises:
            PublishError: it was saved, but could not be published.
        """
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        if self.hub_model_id is None:
            self.init_hf_repo(token=token, private=private)
        self.save_locally()
        if not self.is_world_process_zero():
            return None
        self.create_model_card()
        self._finish_current_push()
        future = self._push(
            Path(self.args.output_dir), commit_message or "Upload model", token=token, revision=revision
        )
        return future.result() if blocking else future

    def save_locally(self) -> None:
        """Save the model into the output folder."""
        self.save_model(_internal_call=True)

    # ---- in the background ----

    def push_checkpoint(self, folder: Path) -> None:
        """Push what a checkpoint holds, unless another push is still under way; the strategy says what and when."""
        args = self.args
        if not self.is_world_process_zero() or args.hub_strategy == HubStrategy.END:
            return
        self._surface_errors()
        if not args.hub_always_push and any(not push.done() for push in self._pushes):
            logger.info(f"{folder.name} is not pushed: an earlier push is under way (hub_always_push pushes anyway)")
            return
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        self.create_model_card()
        message = f"Training in progress, step {self.state.global_step}"
        self._push(folder, message, card_of=Path(args.output_dir))
        if args.hub_strategy in (HubStrategy.CHECKPOINT, HubStrategy.ALL_CHECKPOINTS):
            place = "last-checkpoint" if args.hub_strategy == HubStrategy.CHECKPOINT else folder.name
            self._push(folder, f"{message}, checkpoint", path_in_repo=place)

    def _push(
        self,
        folder: Path,
        message: str,
        *,
        token: str | None = None,
        revision: str | None = None,
        path_in_repo: str | None = None,
        card_of: Path | None = None,
    ) -> Future:
        """Copy what is to be published now, since checkpoints come and go, and send it when the line is free."""
        args = self.args
        token, revision = token or args.hub_token, revision or args.hub_revision
        home = card_of or folder
        staging = Path(tempfile.mkdtemp(prefix="data2vec-push-"))
        whole = path_in_repo is not None
        try:
            prepare(folder, staging, with_teacher=whole)
            if whole:
                shutil.copy(folder / "trainer_state.json", staging)
                make_public(staging)
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise

        def send() -> str:
            try:
                if not whole:
                    renew_card(home, str(self.hub_model_id), token=token, revision=revision)
                    for name in ("README.md", "provenance.json"):
                        shutil.copy(home / name, staging)
                address = upload(
                    staging,
                    str(self.hub_model_id),
                    token=token,
                    revision=revision,
                    message=message,
                    source=folder,
                    path_in_repo=path_in_repo,
                )
                if not whole:
                    card_was_pushed(home)
                return address
            finally:
                shutil.rmtree(staging, ignore_errors=True)

        push = self._pusher.submit(send)
        push.add_done_callback(lambda _: shutil.rmtree(staging, ignore_errors=True))  # also if it never begins
        self._pushes.append(push)
        return push

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        self.push_checkpoint(Path(checkpoint_folder))

    def _surface_errors(self) -> None:
        """Say what went wrong with pushes that have ended."""
        ended = [push for push in self._pushes if push.done()]
        self._pushes = [push for push in self._pushes if not push.done()]
        for push in ended:
            error = push.exception()
            self.push_error = None if error is None else str(error)
            if error is not None:
                logger.error(f"A push failed while training went on: {error}. The next push makes up for it.")

    def _finish_current_push(self) -> None:
        """Wait for pushes that are under way."""
        for push in self._pushes:
            push.exception()
        self._surface_errors()
