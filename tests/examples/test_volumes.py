"""Patches along three axes, on real scans that come with nibabel (MIT)."""

import os
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"
# In a process of its own, so that no other test knows of this kind of data.
CODE = """
import shutil
from pathlib import Path

import nibabel
import numpy as np
import torch
import volumes
from PIL import Image
from transformers import AutoModel

from modeling_data2vec import Data2VecTrainer, load_recipe
from modeling_data2vec.trainers.evaluation.pictures import plot_masks

data = Path(nibabel.__file__).parent / "tests" / "data"
Path("scans").mkdir()
for name in ("anatomical.nii", "reoriented_anat_moved.nii"):
    shutil.copy(data / name, "scans")
nibabel.save(nibabel.load(data / "example4d.nii.gz").slicer[..., 0], "scans/example.nii.gz")

tiny = {"volume_size": 16, "patch_size": 4, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
tiny |= {"decoder_dim": 24, "decoder_groups": 4, "num_masks": 2}
recipe = load_recipe("volumes")
model, samples = recipe.build("scans", **tiny)
assert len(samples) == 3 and samples[0]["volumes"].shape == (1, 16, 16, 16) and model.config.grid == (4, 4, 4)
changes = {"max_steps": 2, "per_device_train_batch_size": 3, "use_cpu": True, "logging_steps": 1}
trainer = Data2VecTrainer(model, recipe.arguments("run", **changes), train_dataset=samples)
trainer.train()
trainer.save_model()
reloaded = AutoModel.from_pretrained("run").eval()
assert isinstance(reloaded, volumes.VolumeModel)
with torch.no_grad():
    states = reloaded(samples[0]["volumes"][None]).last_hidden_state
assert states.shape == (1, 64, 24) and states.isfinite().all()

modality = volumes.VolumeModality(model.config)
batch = modality.collator()([samples[index] for index in range(2)])
assert batch["mask"].shape == (2, 2, 64) and set(batch["mask"].sum(2).flatten().tolist()) == {52}
with Image.open(plot_masks(model, batch["volumes"], batch["mask"], "masks.png")) as picture:
    assert np.asarray(picture.convert("RGB")).std() > 5
np.testing.assert_array_equal(modality.cells(np.arange(64), batch["volumes"][0]), np.arange(64).reshape(4, 4, 4)[2])
"""


def test_scans_are_pretrained_on_masked_and_drawn(tmp_path):
    environment = os.environ | {"PYTHONPATH": f"{EXAMPLES}:{EXAMPLES.parent}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", CODE], cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
