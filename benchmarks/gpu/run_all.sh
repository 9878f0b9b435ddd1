#!/usr/bin/env bash
# Everything that is measured on a GPU, in the order of interest; what is done stays when it is stopped.
#
#   benchmarks/gpu/run_all.sh WEIGHTS RESULTS [PARALLEL]
#
# WEIGHTS: model1.safetensors, model2.safetensors, model3.safetensors (tensors under TensorFlow's names), model4.pth, and
# model1.top1.npy ... of benchmarks/framework_top1.py. RESULTS: where plans, JSON lines and logs go. PARALLEL builds run
# at once (2); latencies are measured alone. An H200 should take about 25 minutes (an estimate; the steps were run one by
# one, this script never whole): a ResNet in fp32 builds in 10 s, in fp16 in
# 40 s, in int8 in 20 to 40 s, twice as long beside another.
set -uo pipefail
weights=$(realpath "${1:?usage: run_all.sh WEIGHTS RESULTS [PARALLEL]}") results=${2:?} parallel=${3:-2}
mkdir -p "$results" && results=$(realpath "$results")
cd "$(dirname "$0")/../.."
python=${PYTHON:-python3}
sources=--tactic-sources=-CUBLAS,-CUBLAS_LT,-CUDNN

step() {  # name, module, arguments: a log and a line each
  local name=$1; shift
  local start=$SECONDS
  if "$python" -m "$@" >"$results/$name.log" 2>&1; then echo "$name: $((SECONDS - start)) s"; else echo "$name: FAILED, see $results/$name.log"; fi
}
models() { step "$1-$2-$3" benchmarks.gpu.models "$1" --models "$2" --precisions "$3" --batches "$4" --weights "$weights" \
  --onnx "$results/onnx" --plans "$results/plans" --cache "$results/timing.cache" --output "$results/$1.jsonl"; }
export -f step models
export weights results python

step onnx benchmarks.gpu.onnx_model --weights "$weights" --output "$results/onnx"
for batches in 1,128 8,32; do
  for model in model4 model1 model3 model2; do
    printf '%s\n' "build $model int8 $batches" "build $model fp16 $batches" "build $model fp32 $batches"
  done | xargs -P "$parallel" -L 1 bash -c 'models "$0" "$@"'
done
step measure benchmarks.gpu.models measure --plans "$results/plans" --output "$results/latency.jsonl"
step resnet50_int8 benchmarks.gpu.resnet50_int8 --weights "$weights/model4.pth" --output "$results/resnet50_int8.json"
step agreement benchmarks.gpu.agreement --plans "$results/plans" --top1 "$weights" --output "$results/agreement.jsonl"
for model in model4 model2 model3 model1; do
  printf '%s\n' "errors $model fp32 1,128" "errors $model tf32,fp16,int8 1"
done | xargs -P "$parallel" -L 1 bash -c 'models "$0" "$@"'
step refit benchmarks.gpu.refit --weights "$weights/model4.pth" --output "$results/refit.json" --precisions fp32,fp16,int8
step runner benchmarks.gpu.runner --output "$results/runner.json" "$sources"
step layers benchmarks.gpu.layers --output "$results/layers.json"
"$python" -m benchmarks.gpu.table "$results" >"$results/tables.md" && echo "tables: $results/tables.md"
