# %% [markdown]
# # Compare encoders
#
# Which frozen encoder is best for your pictures, and is the difference more than chance? One report with probes,
# few labels, layers and intervals, for any Hugging Face encoders of images, speech or text. Here on scikit-learn's
# handwritten digits, with a model that is pretrained for some steps and a ViT that nobody trained.

# %%
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from transformers import AutoImageProcessor, ViTConfig, ViTModel

from modeling_data2vec import Data2VecTrainer, load_recipe

PICTURES = "digits"  # labelled: a folder with a folder for each class, a table, a Hub id
STEPS, SAMPLES = 400, 500
MODEL, VIT = "runs/notebook-model", "runs/notebook-vit"  # folders or Hub ids
REPORT = Path("runs/notebook-report")

# %%
recipe = load_recipe("data2vec2-vision-tiny")
model, samples = recipe.build(PICTURES)
trainer = Data2VecTrainer(
    model, recipe.arguments(MODEL, max_steps=STEPS, warmup_steps=STEPS // 10), train_dataset=samples
)
trainer.train()
trainer.save_model()

torch.manual_seed(0)
config = ViTConfig(
    hidden_size=64,
    num_hidden_layers=4,
    num_attention_heads=4,
    intermediate_size=256,
    image_size=16,
    patch_size=2,
    num_channels=1,
)
ViTModel(config, add_pooling_layer=False).save_pretrained(VIT)
AutoImageProcessor.from_pretrained(MODEL).save_pretrained(VIT)

# %% [markdown]
# One command; `--pooling grid4` keeps where in the picture something is.

# %%
# !data2vec evaluate --model {MODEL} {VIT} --names "data2vec 2.0" ViT --dataset {PICTURES} \
#     --limit {SAMPLES} --pooling grid4 --output_dir {REPORT}

# %%
print((REPORT / "report.md").read_text().split("![", 1)[0])
plt.figure(figsize=(11, 6))
plt.imshow(plt.imread(REPORT / "few_labels.png"))
plt.axis("off")
plt.show()

# %% [markdown]
# The whole report is `report.md` in that folder; `report.json` has the figures. Models with random weights of the
# same architecture and raw pixels stand beside: what does not beat them has learned nothing that counts here.
