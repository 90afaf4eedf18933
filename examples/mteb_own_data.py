"""mteb on a model of this package, with a task of one's own data: needs `pip install '.[mteb]'`.

    python examples/mteb_own_data.py runs/digits image digits

The last word is what `datasets.load_dataset` opens, with a `train` and a `test` split, the samples in a column named
text, image or audio, and classes in `label`; or "digits" for scikit-learn's.
"""

import sys
from typing import Any

import mteb
import numpy as np
from datasets import DatasetDict, load_dataset
from mteb.abstasks import AbsTaskClassification
from mteb.abstasks.task_metadata import TaskMetadata
from mteb.models import ModelMeta
from mteb.models.abs_encoder import AbsEncoder

from modeling_data2vec import embed, load_images


class Data2VecEncoder(AbsEncoder):
    """mteb's interface around `embed`: sound of any rate without torchaudio, and single modalities of joint models.

    Args:
        model: folder or Hub id.
        options: of `embed`, such as `modality`, `pooling` and `layer`.
    """

    def __init__(self, model: str, **options: Any) -> None:
        self.model, self.options = model, options
        facts = {"name": f"local/{model.strip('/').split('/')[-1]}", "modalities": ["text", "image", "audio"]}
        self.mteb_model_meta = ModelMeta.create_empty(overwrites=facts)

    def encode(self, inputs: Any, *, task_metadata: TaskMetadata, **kwargs: Any) -> np.ndarray:
        (column,) = task_metadata.modalities
        samples = [sample for batch in inputs for sample in batch[column]]
        features = embed(self.model, samples, progress=False, **self.options)
        if features.left_out:
            raise ValueError(f"there is no vector of {features.left_out}: leave these samples out of the task")
        return features.vectors


def classification(name: str, modality: str, dataset: DatasetDict) -> AbsTaskClassification:
    """A task of mteb: logistic regression on the vectors of a few samples of each class.

    Args:
        name: of the task in results.
        modality: "text", "image" or "audio", the name of the column.
        dataset: has splits train and test, and the columns `modality` and label.
    """

    class OwnTask(AbsTaskClassification):
        input_column_name = modality
        metadata = TaskMetadata(
            name=name,
            description="Classes of one's own data.",
            dataset={"path": f"local/{name}", "revision": "1"},
            type={"text": "Classification", "image": "ImageClassification", "audio": "AudioClassification"}[modality],
            category=f"{modality[0]}2c",
            modalities=[modality],
            eval_splits=["test"],
            eval_langs=["eng-Latn"],
            main_score="accuracy",
        )

        def load_data(self, **kwargs: Any) -> None:
            self.dataset, self.data_loaded = dataset, True

    return OwnTask()


def main(model: str, modality: str, data: str) -> float:
    if data == "digits":
        dataset = DatasetDict({split: load_images("digits", split=split)[0] for split in ("train", "test")})
    else:
        dataset = load_dataset(data)
    results = mteb.evaluate(Data2VecEncoder(model), classification("own-data", modality, dataset), cache=None)
    (score,) = [scores["main_score"] for scores in results.task_results[0].scores["test"]]
    print(f"accuracy {score:.3f}")
    return score


if __name__ == "__main__":
    main(*sys.argv[1:])
