"""Loading weights from safetensors alone, since pickles can run code; initial ones for what is not loaded."""

import os
from pathlib import Path
from typing import Any

from .model_files import reading_weights, weight_names


class SafeLoading:
    """A mixin of every model class: `from_pretrained` takes safetensors, or pickles by `use_safetensors=False`."""

    def _initialize_weights(self, module: Any, is_custom_code: bool = False) -> None:
        """As transformers' for its own models, whose `_init_weights` sees every module.

        Of other packages' models it takes a module without weights of its own, such as a decoder of several layers, for
        one whose weights were loaded, and passes it over. Ours needs no such care: it sets weights by functions that
        leave loaded ones alone.
        """
        super()._initialize_weights(module)  # type: ignore[misc]

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> Any:
        """As transformers', which would also unpickle, and ask a service to convert what is published as pickles.

        Raises:
            OSError: there is no such model, or it has no safetensors.
            ValueError: they are damaged, or their index names files of other folders.
        """
        folder = Path(str(pretrained_model_name_or_path), kwargs.get("subfolder") or "")
        if folder.is_dir():
            weight_names(folder)
        safe = kwargs.setdefault("use_safetensors", True) is not False
        before = os.environ.get("DISABLE_SAFETENSORS_CONVERSION")
        os.environ["DISABLE_SAFETENSORS_CONVERSION"] = "1"
        try:
            with reading_weights(pretrained_model_name_or_path):
                return super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)  # type: ignore[misc]
        except OSError as error:
            if safe and ("with `safetensors`" in str(error) or "Error no file named" in str(error)):
                raise OSError(
                    f"{pretrained_model_name_or_path} has no weights as safetensors. Pickles (pytorch_model.bin, .pt) "
                    "can run code when they are loaded, so they are not: `data2vec convert` turns the authors' files "
                    "into safetensors; load others, if you trust their source, with use_safetensors=False, and save "
                    "them with save_pretrained"
                ) from error
            raise
        finally:
            if before is None:
                del os.environ["DISABLE_SAFETENSORS_CONVERSION"]
            else:
                os.environ["DISABLE_SAFETENSORS_CONVERSION"] = before
