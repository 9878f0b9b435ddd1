#!/usr/bin/env bash
# Everything that is measured on GPUs, in the order of interest; what is done stays when it is stopped.
#
#   benchmarks/gpu/run_all.sh WEIGHTS RESULTS
#
# WEIGHTS: model1.safetensors, model2.safetensors, model3.safetensors (tensors under TensorFlow's names), model4.pth, and
# model1.top1.npy ... of benchmarks/framework_top1.py. RESULTS: where plans, JSON lines and logs go. Builds take every GPU
# there is, one each: two on one GPU are no faster, and time kernels beside each other's. On two H200 the builds took 16
# minutes (a ResNet in fp32 10 s, in fp16 30 to 40 s, in int8 40 to 60 s, and each once more through ONNX), latencies 1
# minute a load; the steps were run one by one, this script never whole.
set -uo pipefail
weights=$(realpath "${1:?usage: run_all.sh WEIGHTS RESULTS}") results=${2:?}
mkdir -p "$results" && results=$(realpath "$results")
cd "$(dirname "$0")/../.."
python=${PYTHON:-python3}
sources=--tactic-sources=-CUBLAS,-CUBLAS_LT,-CUDNN

step() {  # name, module, arguments: a log and a line each
  local name=$1; shift
  local start=$SECONDS
  if "$python" -m "$@" >"$results/$name.log" 2>&1; then echo "$name: $((SECONDS - start)) s"; else echo "$name: FAILED, see $results/$name.log"; fi
}
models() {  # build or errors, model, precisions, batches: on the GPU of this slot
  export CUDA_VISIBLE_DEVICES=$slot
  step "$1-$2-$3-$4" benchmarks.gpu.models "$1" --models "$2" --precisions "$3" --batches "$4" --weights "$weights" \
    --onnx "$results/onnx" --plans "$results/plans" --cache "$results/timing$slot.cache" --output "$results/$1-$2-$3-$4.jsonl"
}
on_every_gpu() { xargs --process-slot-var=slot -P "$(nvidia-smi -L | wc -l)" -L 1 bash -c 'models "$0" "$@"'; }
together() { cat "$results/$1"-*.jsonl >"$results/$2.jsonl"; }
export -f step models
export weights results python

step onnx benchmarks.gpu.onnx_model --weights "$weights" --output "$results/onnx"
for batches in 1,128 8,32; do
  for word in int8 fp16 fp32; do
    printf "build %s $word $batches\n" model4 model2 model3 model1
  done
done | on_every_gpu
together build builds
step measure benchmarks.gpu.models measure --plans "$results/plans" --output "$results/latency.jsonl"
step resnet50_int8 benchmarks.gpu.resnet50_int8 --weights "$weights/model4.pth" --output "$results/resnet50_int8.json"
step agreement benchmarks.gpu.agreement --plans "$results/plans" --top1 "$weights" --output "$results/agreement.jsonl"
for model in model4 model2 model3 model1; do
  printf '%s\n' "errors $model fp32 1,128" "errors $model tf32,fp16,int8 1"
done | on_every_gpu
together errors errors
step refit benchmarks.gpu.refit --weights "$weights/model4.pth" --output "$results/refit.json" --precisions fp32,fp16,int8
step runner benchmarks.gpu.runner --output "$results/runner.json" "$sources"
step layers benchmarks.gpu.layers --output "$results/layers.json"
"$python" -m benchmarks.gpu.table "$results" >"$results/tables.md" && echo "tables: $results/tables.md"
