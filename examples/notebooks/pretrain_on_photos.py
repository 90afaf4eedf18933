# %% [markdown]
# # Pretrain on photos
#
# From a folder of pictures to a model of your own that knows, without labels, which of them are alike. Here the
# pictures are scikit-learn's handwritten digits, so that everything runs in some minutes on a CPU; put the name of
# your folder in their place.

# %%
import matplotlib.pyplot as plt
import numpy as np

from modeling_data2vec import Data2VecTrainer, decode_image, embed, load_images, load_recipe

PICTURES = "digits"  # or a folder, a table, a Hub id
RECIPE = "data2vec2-vision-tiny"  # for photographs: "data2vec2-vision-small"
STEPS = 400
OUTPUT = "runs/notebook-photos"

# %% [markdown]
# A recipe knows the model's size, its masks and its schedule. It builds the model and the samples that fit it.

# %%
recipe = load_recipe(RECIPE)
model, samples = recipe.build(PICTURES)
arguments = recipe.arguments(OUTPUT, max_steps=STEPS, warmup_steps=STEPS // 10, logging_steps=STEPS // 20 or 1)
print(f"{len(samples)} pictures, {sum(weight.numel() for weight in model.parameters()):,} weights, {STEPS} steps")

# %%
trainer = Data2VecTrainer(model, arguments, train_dataset=samples)
trainer.train()
trainer.save_model()

# %% [markdown]
# The loss alone proves nothing, since the targets come from the model itself. `position_explained` says how much of
# the targets does not depend on the picture at all, `student_rank` how many directions the features use.

# %%
logs = [entry for entry in trainer.state.log_history if "regression_loss" in entry]
figure, axes = plt.subplots(1, 3, figsize=(11, 2.6), layout="constrained")
for axis, name in zip(axes, ("regression_loss", "position_explained", "student_rank"), strict=True):
    axis.plot([entry["step"] for entry in logs], [entry.get(name, np.nan) for entry in logs])
    axis.set(title=name, xlabel="step")
plt.show()

# %% [markdown]
# ## What does it know?
#
# The three pictures nearest to each of five, by the frozen features. `grid4` keeps where in the picture something
# is.

# %%
pictures = load_images(PICTURES, split="test")[0]
features = embed(OUTPUT, pictures, pooling="grid4", normalize=True, progress=False)
nearest = (features.vectors @ features.vectors.T).argsort(axis=1)[:, ::-1]  # [N, N], each one first
figure, axes = plt.subplots(5, 4, figsize=(4, 5), layout="constrained")
for row, line in enumerate(axes):
    for axis, place in zip(line, nearest[row], strict=False):
        axis.imshow(decode_image(pictures[int(place)]["image"], 1), cmap="gray")
        axis.set_axis_off()
plt.show()

# %% [markdown]
# And in figures, with labels for a hundred pictures and for all: the model beside the same model with random
# weights, and raw pixels. More steps make the difference larger.

# %%
# !data2vec probe --model {OUTPUT} --dataset {PICTURES} --train_split train --test_split test \
#     --labels 100 all --pooling grid4

# %% [markdown]
# ## What now?
#
# - vectors of all pictures in a file: `data2vec embed runs/notebook-photos photos --output features.parquet`
# - a classifier: `data2vec finetune --task image-classification --model runs/notebook-photos --dataset labelled ...`
# - to the Hub: `data2vec push runs/notebook-photos your-name/photos --license apache-2.0`
