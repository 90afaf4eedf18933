"""Volumes, such as MRI scans, in patches along three axes: a kind of data in a file of one's own (docs/own_data.md).

    data2vec pretrain --plugin examples/volumes.py --recipe volumes --dataset FOLDER

`FOLDER` holds scans that nibabel reads (`pip install nibabel`), of any size; cubes are cut out of them at random.
"""

import nibabel
import numpy as np
import torch
import torch.nn.functional as F
from huggingface_hub.dataclasses import strict
from transformers import FeatureExtractionMixin
from transformers.utils.output_capturing import capture_outputs

from modeling_data2vec import (
    Data2Vec2Encoder,
    Data2Vec2EncoderForPreTraining,
    Data2Vec2PreTrainedModel,
    Data2Vec2PreTrainingConfig,
    Medium,
    Modality,
    PatchFeatureEncoder,
    PatchShape,
)


@strict
class VolumeConfig(PatchShape, Data2Vec2PreTrainingConfig):
    """Cubes of scans; hidden blocks are cubes of patches, what is left of them is seen."""

    model_type = "data2vec2-volume"

    num_channels: int = 1
    volume_size: int = 48  # voxels along each axis
    patch_size: int = 8
    hidden_size: int = 192  # a multiple of 6: sines and cosines for three axes
    num_hidden_layers: int = 6
    mask_prob: float = 0.8
    mask_length: int = 2
    inverse_mask: bool = True
    decoder_kernel: int = 3

    @property
    def input_shape(self):
        return (self.volume_size,) * 3


class VolumePreTrainedModel(Data2Vec2PreTrainedModel):
    config_class = VolumeConfig
    base_model_prefix = "data2vec2_volume"
    modality = "volume"
    main_input_name = "volumes"
    feature_encoder_class = PatchFeatureEncoder
    num_axes = 3


class VolumeModel(VolumePreTrainedModel, Data2Vec2Encoder):
    @capture_outputs(tie_last_hidden_states=False)
    def forward(self, volumes, **kwargs):
        return self.encode(volumes, **kwargs)


class VolumeForPreTraining(VolumePreTrainedModel, Data2Vec2EncoderForPreTraining):
    encoder_class = VolumeModel

    def forward(self, volumes=None, mask=None, return_loss=True, **view):
        return self.pretrain(volumes, mask, None, return_loss, **view)


class VolumeProcessor(FeatureExtractionMixin):
    """Gives a scan mean 0 and deviation 1."""

    model_input_names = ["volumes"]

    def __call__(self, scan):
        voxels = torch.as_tensor(np.asarray(scan, dtype=np.float32))  # [x, y, z]
        return {"volumes": ((voxels - voxels.mean()) / voxels.std().clamp_min(1e-6))[None]}


class VolumeModality(Modality):
    name, input_name, title = "volume", "volumes", "volumes"
    sample, position = "scan", "patch"
    medium = Medium(noun="scan", suffixes=frozenset({".nii", ".gz"}), columns=("scan",))
    processor_class = VolumeProcessor
    recipe = {
        "name": "volumes",
        "source": "a first guess, to be tuned",
        "config": {"model_type": "data2vec2-volume"},
        "data": {},
        "num_gpus": 1,
        "global_batch": 16,
        "training": {"max_steps": 20_000, "per_device_train_batch_size": 16, "learning_rate": 5e-4},
    }

    def read(self, value, rng):
        scan = self.processor(nibabel.load(value).get_fdata())["volumes"]
        edge = self.config.volume_size
        missing = [max(0, edge - extent) for extent in scan.shape[:0:-1]]  # z, y, x, as `pad` wants them
        scan = F.pad(scan, [amount for one in missing for amount in (0, one)], value=float(scan.min()))
        starts = [rng.randint(0, extent - edge) if rng else (extent - edge) // 2 for extent in scan.shape[1:]]
        x, y, z = (slice(start, start + edge) for start in starts)
        return scan[:, x, y, z].clone()

    def pictures(self, inputs):
        return super().pictures([volume[0, volume.shape[1] // 2] for volume in inputs])  # the middle slice
