#!/bin/bash
# A pretraining run on four GPUs of Hugging Face Jobs; run it in a clone of this repository.
#
#     bash examples/cluster/hf_jobs.sh me/runs --recipe data2vec2-vision-base --dataset me/photos --output_dir /runs/photos
#
# The run is kept in a bucket, since a job's own disk goes with it; a job that failed is tried again, and goes on.
set -euo pipefail
bucket=$1
shift
pip wheel --quiet --no-deps --wheel-dir dist .
exec hf jobs run --flavor a100x4 --timeout 3d --attempts 5 --detach --secrets HF_TOKEN \
    --env TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 \
    --volume "hf://buckets/$bucket:/runs" --volume "$PWD/dist:/dist" pytorch/pytorch:2.9.1-cuda12.8-cudnn9-runtime \
    bash -c 'pip install /dist/data2vec-*.whl &&
        torchrun --standalone --nproc_per_node 4 --max-restarts 3 -m data2vec_cli pretrain "$@" --resume' \
    pretrain "$@"
