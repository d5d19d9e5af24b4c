#!/usr/bin/env bash
# All that is measured and trained on a GPU, in calls of at most 8 minutes on a bare machine: the published size alone on the card,
# `evaluate` end to end, training, and the toy chain m2f_sound_toy -> m2f_toy -> m2f_robust_toy beside m2f_debias_toy.
# Leaves weights with their cards, logs and a table in the output folder; each part leaves its lines as soon as it is done.
#
#     benchmarks/gpu.sh OUT                       # one GPU, from a checkout of the project; all parts, in this order
#     DEVICE=cpu QUICK=1 benchmarks/gpu.sh OUT    # a rehearsal on the CPU: toy size, a few clips and steps
#
# In two calls on one machine, so that neither hurries the other:
#     DATA=.gpu/data BUDGET_S=360 PARTS="toys roofline pipeline throughput training decoder evaluation" benchmarks/gpu.sh .gpu/measured
#     DATA=.gpu/data PARTS="speed chain" benchmarks/gpu.sh .gpu/trained
# and, in the same folder, where the second left no time for them, the cards of the weights:
#     DATA=.gpu/data PARTS=cards benchmarks/gpu.sh .gpu/trained
#
# The packages that a bare machine lacks: benchmarks/bare_packages.sh FOLDER, then WHEELS=FOLDER.
#
# Variables: PYTHON (default .venv/bin/python, else python3), DEVICE (cuda), QUICK (0), BUDGET_S (480, the whole call; more only on a
# CPU, where it is 3600), SLOW (1; 4 on a CPU: times each part's deadline), WHEELS (a folder of unpacked packages that a bare machine
# lacks, put on PYTHONPATH), DATA (a folder of toys and their builds, kept between calls; made and filled where it is missing), PARTS
# (which of "toys roofline pipeline throughput training decoder evaluation speed chain cards"), SOUND (best.safetensors of a run of
# m2f_sound_toy made before, from which the chain starts), CHAIN_STEPS and CHAIN_CLIPS (steps of each training and clips of each of its
# toys, for a trial with fewer than its recipe's; 4 and 60 with QUICK), GRAPH (1 on a GPU, else 0: whether the chain replays each step
# as a CUDA graph), COMPILE (0: whether it trains compiled networks).
# Toys are made first, on all cores, with the estimates beside them, while nothing is measured. Each part has a deadline; one that fails or is cut off is named in
# table.md, and the rest goes on. Status 1 where one was.
set -uo pipefail

BEFORE=$PWD
OUT=$(mkdir -p "${1:?usage: benchmarks/gpu.sh OUT}" && cd "$1" && pwd) || exit 2
ROOT=$(cd "$(dirname "$0")/.." && pwd)
PYTHON=${PYTHON:-$([ -x "$ROOT/.venv/bin/python" ] && echo "$ROOT/.venv/bin/python" || command -v python3)}
# The parts run in the repository's root.
case $PYTHON in /*) ;; */*) PYTHON=$BEFORE/$PYTHON ;; esac
command -v "$PYTHON" > /dev/null || { echo "PYTHON: found no program '$PYTHON'; name an interpreter with the project's packages" >&2; exit 2; }
DEVICE=${DEVICE:-cuda}
QUICK=${QUICK:-0}
PARTS=${PARTS:-toys roofline pipeline throughput training decoder evaluation speed chain cards}
BUDGET_S=${BUDGET_S:-$([ "$DEVICE" = cpu ] && echo 3600 || echo 480)}
[ "$DEVICE" = cpu ] || [ "$BUDGET_S" -le 480 ] || BUDGET_S=480
SLOW=${SLOW:-$([ "$DEVICE" = cpu ] && echo 4 || echo 1)}
export PYTHONPATH="$ROOT${WHEELS:+:$WHEELS}${PYTHONPATH:+:$PYTHONPATH}" OMP_NUM_THREADS=${OMP_NUM_THREADS:-4}
# As the command does for itself: the benchmarks that call its functions have it too.
[ -n "${OMP_WAIT_POLICY:-}" ] || export GOMP_SPINCOUNT=${GOMP_SPINCOUNT:-1000}
# nproc would heed OMP_NUM_THREADS.
CORES=$(getconf _NPROCESSORS_ONLN)
BEGAN=$SECONDS
FAILED=0
LOGS=$OUT/logs
mkdir -p "$LOGS"
cd "$OUT" || exit 2
# Training looks for its toys under data/, and makes those that are missing.
if [ -n "${DATA:-}" ] && [ ! -e data ]; then
    (cd "$BEFORE" && mkdir -p "$DATA") && ln -s "$(cd "$BEFORE" && cd "$DATA" && pwd)" data
fi

left() { echo $((BUDGET_S - (SECONDS - BEGAN))); }

# part NAME SECONDS COMMAND..: run a command with a deadline, its output in logs/NAME.txt, and a line in the table.
part() {
    local name=$1 limit=$(($2 * SLOW)) status began=$SECONDS
    shift 2
    [ "$(left)" -lt "$limit" ] && limit=$(left)
    if [ "$limit" -le 5 ]; then
        echo "| $name | not begun | |" >>table.md
        return 1
    fi
    timeout -k 5 "$limit" "$@" >"$LOGS/$name.txt" 2>&1
    status=$?
    case $status in
        0) echo "| $name | done | $((SECONDS - began)) |" >>table.md ;;
        124 | 137) echo "| $name | cut off after $limit s | $((SECONDS - began)) |" >>table.md ;;
        *) echo "| $name | failed, status $status (logs/$name.txt) | $((SECONDS - began)) |" >>table.md ;;
    esac
    return $status
}

wanted() { [[ " $PARTS " == *" $1 "* ]]; }

train() {
    local recipe=$1 limit=$2 how=() status
    shift 2
    [ "$COMPILE" = 1 ] && how+=(--compile)
    local command=("$PYTHON" -m avsrobust train --recipe "$recipe" --device "$DEVICE" --workers "$WORKERS" "${STEPS[@]}" "${BUILDS[@]}")
    if [ "$GRAPH" = 1 ]; then
        part "train_$recipe" "$limit" "${command[@]}" "${how[@]}" --cuda-graph && return
        status=$?
        # Cut off, there is no time left; else it goes on from its last checkpoint, one kernel at a time.
        case $status in 124 | 137) return $status ;; esac
        part "train_${recipe}_without_graph" "$limit" "${command[@]}" "${how[@]}"
        return
    fi
    part "train_$recipe" "$limit" "${command[@]}" "${how[@]}"
}

if [ "$DEVICE" = cuda ]; then
    BFLOAT=(--bfloat16) REPEAT=10
    nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv >"$LOGS/card.txt" 2>&1 || true
else
    BFLOAT=() REPEAT=1
fi
WORKERS=${WORKERS:-$([ "$DEVICE" = cuda ] && echo 6 || echo 0)}
# A step of the toys is a thousand small kernels: as a graph it is launched as one.
GRAPH=${GRAPH:-$([ "$DEVICE" = cuda ] && echo 1 || echo 0)}
COMPILE=${COMPILE:-0}
SIZE=() SMALL=() STAGES=(--rounds 2) CLIPS=240 BATCH=16 DECODER=(--repeat "$REPEAT") SPEED=() DEMO=160
if [ "$QUICK" = 1 ]; then
    SIZE=(--toy --clips 1 --items 2 --repeat 1) SMALL=(--toy --clips 1 --items 2) CLIPS=12 BATCH=2 DECODER=(--toy --repeat 1) STAGES=(--toy --rounds 1)
    SPEED=(--steps 6 --clips 60) DEMO=24 CHAIN_STEPS=${CHAIN_STEPS:-4} CHAIN_CLIPS=${CHAIN_CLIPS:-60}
fi
export MACHINE
MACHINE=$("$PYTHON" -c 'import torch; print("torch", torch.__version__, torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU")')
STEPS=(${CHAIN_STEPS:+--steps "$CHAIN_STEPS"}) BUILDS=()
for dataset in ${CHAIN_CLIPS:+s4 ms3}; do
    BUILDS+=(--manifest "data/toy-seed1000/robust/$dataset-$CHAIN_CLIPS-seed42")
done
{
    echo "# One call of benchmarks/gpu.sh"
    echo
    echo "$(date -u +%Y-%m-%dT%H:%MZ), device $DEVICE, $CORES cores, quick $QUICK, $MACHINE"
    echo
    echo "| part | outcome | s |"
    echo "| --- | --- | --- |"
} >>table.md

# The toys of training, of the evaluation and of the cards, on all cores, while nothing is measured.
toys() {
    "$PYTHON" - <<'CODE'
import os
from pathlib import Path

from avsrobust.toy.build import toy_build
from avsrobust.training.recipe import load_train_recipe

toy = load_train_recipe("m2f_toy").data.toy
for dataset, clips in toy.clips.items():
    clips = int(os.environ["CHAIN_CLIPS"] or clips)
    toy_build(dataset, clips, toy.seed, workers=os.cpu_count() or 1, root=Path("data"), on_message=print)
    toy_build(dataset, int(os.environ["DEMO"]), 0, workers=os.cpu_count() or 1, root=Path("data/demo"), on_message=print)
toy_build("s4", int(os.environ["CLIPS"]), 0, workers=os.cpu_count() or 1, root=Path("data"), on_message=print)
CODE
}
export -f toys
export PYTHON CLIPS BATCH DEVICE CORES DEMO CHAIN_CLIPS=${CHAIN_CLIPS:-}
BUILD=data/toy-seed0/robust/s4-$CLIPS-seed42

# What an H200 should take, by bytes and operations: next to what is measured below. The GPU has no part in it.
roofline() {
    part roofline 100 "$PYTHON" "$ROOT/benchmarks/roofline.py" "${SMALL[@]}"
    local status=$?
    part roofline_recipe 100 "$PYTHON" "$ROOT/benchmarks/roofline.py" "${SMALL[@]}" --only training --trained recipe && return "$status"
}

# Both at once, while nothing is measured.
ESTIMATING=
if wanted roofline; then
    roofline &
    ESTIMATING=$!
fi
if wanted toys; then part toys 150 bash -c toys || FAILED=1; fi
if [ -n "$ESTIMATING" ]; then wait "$ESTIMATING" || FAILED=1; fi

# The published size: `evaluate` from the first clip read to the last one counted, and the model alone, with nothing beside it.
if wanted pipeline; then
    PIPELINE=("$PYTHON" -u "$ROOT/benchmarks/pipeline.py" --device "$DEVICE" "${BFLOAT[@]}" "${STAGES[@]}" --clips "$CLIPS")
    [ -e "$BUILD" ] && PIPELINE+=(--build "$BUILD")
    part pipeline 90 "${PIPELINE[@]}" --model-only || FAILED=1
    part pipeline_without_model 40 "${PIPELINE[@]}" --without-model-only || FAILED=1
    if [ "$DEVICE" = cuda ]; then part pipeline_compiled 90 "${PIPELINE[@]}" --model-only --compile || FAILED=1; fi
fi
THROUGHPUT=("$PYTHON" "$ROOT/benchmarks/m2f_throughput.py" --device "$DEVICE" "${BFLOAT[@]}" "${SIZE[@]}")
for what in evaluation training; do
    name=throughput
    [ "$what" = training ] && name=training
    if wanted "$name"; then
        part "$name" 60 "${THROUGHPUT[@]}" --only "$what" || FAILED=1
        [ "$what" = training ] && { part training_recipe 60 "${THROUGHPUT[@]}" --only training --trained recipe || FAILED=1; }
        if [ "$DEVICE" = cuda ]; then part "${name}_compiled" 90 "${THROUGHPUT[@]}" --only "$what" --compile || FAILED=1; fi
        # How much the kernel of deformable attention is worth.
        if [ "$DEVICE" = cuda ]; then part "${name}_grid_sample" 40 "${THROUGHPUT[@]}" --only "$what" --grid-sample || FAILED=1; fi
    fi
done
if wanted decoder; then
    part decoder 40 "$PYTHON" "$ROOT/benchmarks/m2f_decoder.py" --device "$DEVICE" "${BFLOAT[@]}" "${DECODER[@]}" || FAILED=1
fi

# The bundled weights, from the command line to the table.
evaluation() {
    "$PYTHON" -m avsrobust evaluate --adapter m2f_debias --manifest "$BUILD" --device "$DEVICE" --batch-size "$BATCH" \
        --output evaluation/results &&
        "$PYTHON" -m avsrobust report evaluation/results --format md
}
export -f evaluation
export BUILD
if wanted evaluation; then part evaluation 60 bash -c evaluation || FAILED=1; fi

# Is a step as a graph the same step, and how much faster? The chain goes without where it is not.
if wanted speed; then
    part speed 90 "$PYTHON" -u "$ROOT/benchmarks/train_speed.py" --device "$DEVICE" --workers "$WORKERS" "${SPEED[@]}" || {
        FAILED=1
        GRAPH=0
    }
fi

# The toy chain. What does not start from another runs beside it: m2f_debias_toy starts from the sounds, m2f_robust_toy from m2f_toy.
chain() {
    if [ -n "${SOUND:-}" ]; then
        mkdir -p training/m2f_sound_toy && cp "$SOUND" training/m2f_sound_toy/best.safetensors || return 1
    else
        train m2f_sound_toy 150 || return 1
    fi
    train m2f_debias_toy 400 &
    local debias=$!
    train m2f_toy 300 && train m2f_robust_toy 300
    local others=$?
    wait "$debias" && return "$others"
}
if wanted chain; then chain || FAILED=1; fi
mkdir -p weights
for run in training/*/; do
    [ -f "$run/best.safetensors" ] && cp "$run/best.safetensors" "weights/$(basename "$run").safetensors"
done

# last_validation RUN: the names of the columns, and the last lines, one per data set.
last_validation() { head -n 1 "$1/validation.csv" && tail -n 2 "$1/validation.csv"; }

# The cards of the trained weights: their scores on the test split of the demo's clips, and what they were trained on, for how long.
cards() {
    local name run found=0
    rm -rf cards
    for name in m2f m2f_debias m2f_robust; do
        run=training/${name}_toy
        [ -f "$run/best.safetensors" ] || continue
        found=1
        "$PYTHON" -m avsrobust evaluate --adapter "$name" --checkpoint "$run/best.safetensors" --device "$DEVICE" \
            --manifest "data/demo/toy-seed0/robust/s4-$DEMO-seed42" --manifest "data/demo/toy-seed0/robust/ms3-$DEMO-seed42" \
            --batch-size "$BATCH" --output cards/results &&
            "$PYTHON" -m avsrobust export model "cards/$name" --adapter "$name" --checkpoint "$run/best.safetensors" --name "$name" \
                --results "cards/results/$name" --protocol strict || return 1
        {
            cat "cards/$name/README.md"
            printf '\n## Hardware and time\n\n`avsrobust train --recipe %s_toy`, %s steps.\n' "$name" "$(tail -n 1 "$run/log.csv" | cut -d, -f1)"
            printf '%s, %s cores. Seconds of each training of the chain, as far as this folder tells:\n\n' "$MACHINE" "$CORES"
            printf '| part | outcome | s |\n| --- | --- | --- |\n'
            grep '^| train_' table.md
            printf '\nLast validation, on the val split of the toys:\n\n'
            last_validation "$run" | sed 's/^/    /'
        } >"weights/${name}_toy.md" || return 1
    done
    [ "$found" = 1 ] || echo "found no weights in training/; expected those of the chain; run it first" >&2
    [ "$found" = 1 ]
}
export -f cards last_validation
if wanted cards; then part cards 120 bash -c cards || FAILED=1; fi

{
    echo
    grep -hE "clips/s|frames/s|steps/s|apart|product|ratio|deformable attention (by|cannot|differs)|: device " \
        "$LOGS"/{roofline,pipeline,throughput,training,decoder,speed}*.txt 2>/dev/null |
        sed 's/^/- /'
    echo
    grep -hE "^(## |\|)" "$LOGS"/{evaluation,cards}.txt 2>/dev/null | sed 's/^##\(.*\)/\n##\1\n/'
    for run in training/*/; do
        [ -f "$run/validation.csv" ] && printf '\n%s\n\n' "$run" && last_validation "$run" | sed 's/^/    /'
    done
    echo
    echo "Whole call: $((SECONDS - BEGAN)) s of at most $BUDGET_S s."
} >>table.md
cat table.md
exit "$FAILED"
