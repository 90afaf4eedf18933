# %% [markdown]
# # From recordings to a recognizer
#
# Pretrain on recordings without transcripts, fine-tune on a few with them, transcribe. Here the speech is made of
# tones, one for each letter, so that everything runs in some minutes on a CPU and nothing must be downloaded; put
# your own folder in its place.

# %%
import json
from pathlib import Path

import numpy as np
import soundfile

from modeling_data2vec import Data2VecTrainer, SpeechRecognizer, load_recipe

RECORDINGS = Path("runs/notebook-recordings")  # your folder, with a metadata.jsonl of "file_name" and "text"
RECIPE = "data2vec2-spectrogram-tiny"  # for a GPU and real speech: "data2vec2-audio-base"
CLIPS, STEPS, FINETUNING_STEPS = 200, 300, 300
OUTPUT = "runs/notebook-speech"
RATE = 16_000
TONES = {"a": 300, "e": 500, "i": 800, "o": 1200, "u": 1800, " ": 0}  # Hz

# %% [markdown]
# Data as people have them: sound files, and a table that says what some of them say.


# %%
def tone(letter: str, rng: np.random.Generator) -> np.ndarray:
    time = np.arange(int(RATE * rng.uniform(0.10, 0.16))) / RATE
    edges = np.minimum(1, np.minimum(time, time[::-1]) / 0.01)  # no clicks
    return 0.3 * edges * np.sin(2 * np.pi * TONES[letter] * rng.uniform(0.97, 1.03) * time)


rng = np.random.default_rng(0)
for split, count in (("train", CLIPS), ("test", CLIPS // 4)):
    (RECORDINGS / split).mkdir(parents=True, exist_ok=True)
    rows = []
    for number in range(count):
        text = " ".join("".join(rng.choice(list("aeiou"), 3)) for _ in range(3))
        wave = np.concatenate([tone(letter, rng) for letter in text])
        soundfile.write(RECORDINGS / split / f"{number}.wav", wave + 0.01 * rng.standard_normal(len(wave)), RATE)
        rows.append({"file_name": f"{number}.wav", "text": text})
    (RECORDINGS / split / "metadata.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
print(text)

# %% [markdown]
# ## Pretrain, without the transcripts

# %%
recipe = load_recipe(RECIPE)
model, samples = recipe.build(str(RECORDINGS))
arguments = recipe.arguments(OUTPUT, max_steps=STEPS, warmup_steps=STEPS // 10)
trainer = Data2VecTrainer(model, arguments, train_dataset=samples)
trainer.train()
trainer.save_model()

# %% [markdown]
# ## Fine-tune with them
#
# The letters come from the transcripts; the result is measured once, on the test recordings.

# %%
# !data2vec finetune --task ctc --model {OUTPUT} --dataset {RECORDINGS} --test_split test --output_dir {OUTPUT}-ctc \
#     --max_steps {FINETUNING_STEPS} --learning_rate 1e-3 --per_device_train_batch_size 8

# %% [markdown]
# ## Transcribe
#
# Recordings of any length, with times: in a terminal `data2vec transcribe runs/notebook-speech-ctc lecture.mp3
# --timestamps`.

# %%
recognizer = SpeechRecognizer.from_pretrained(f"{OUTPUT}-ctc")
truth = [json.loads(line) for line in (RECORDINGS / "test" / "metadata.jsonl").read_text().splitlines()]
for row, transcript in zip(
    truth[:5], recognizer.transcribe([str(RECORDINGS / "test" / row["file_name"]) for row in truth[:5]]), strict=True
):
    print(f"{row['text']}   {transcript.text}")
