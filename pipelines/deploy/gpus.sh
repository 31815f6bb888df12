#!/usr/bin/env bash
# Start one Dask worker for each GPU of this machine, for a scheduler that may be shared.
# A single machine doesn't need this: m2hf extract --workers N pins worker k to GPU k.
#
#   dask scheduler --port 8786                # on one machine
#   bash gpus.sh tcp://HOST:8786              # on each machine with GPUs
#   m2hf extract ... --scheduler tcp://HOST:8786 --set extract.device=cuda
set -euo pipefail

scheduler=${1:?usage: gpus.sh tcp://HOST:PORT}
devices=${CUDA_VISIBLE_DEVICES:-$(nvidia-smi --query-gpu=index --format=csv,noheader | paste -sd,)}
export DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED=False  # it costs 8 % of a core per worker
trap 'kill $(jobs -pr) 2>/dev/null || true; wait' EXIT
for device in ${devices//,/ }; do
    CUDA_VISIBLE_DEVICES=$device dask worker "$scheduler" \
        --nthreads 1 --memory-limit 0 --no-dashboard --resources "GPU=1 cpu=1" &
done
wait
