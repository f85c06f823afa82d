#!/bin/bash
# One training on N nodes of G GPUs, a process for each GPU, on a cluster that SLURM runs.
#
#     GPUS="--nodes=2 --ntasks-per-node=8 --gpus-per-node=8"
#     sbatch $GPUS tools/slurm_train.sh CONFIG RUN [options of `segkd train`]
#     sbatch $GPUS tools/slurm_train.sh RUN --student NAME --data NAME [options of `segkd train`]
#
# RUN is the run folder, which all nodes must reach. The run goes on from its last state, which it keeps at every
# validation (schedule.val_interval): after a preemption; at the time limit, two minutes before which it is stopped and
# queued again, unless it has kept nothing since it started; and when the same line is submitted once more. Where
# something else ends it, it stays ended.
#
# Submit from the checkout, or with segkd installed. PYTHON names the interpreter (default: python).

#SBATCH --job-name=segkd
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --signal=B:USR1@120
#SBATCH --output=%x-%j.log
#SBATCH --open-mode=append

set -euo pipefail

fail() {
    echo "slurm_train: error: $1" >&2
    exit 2
}

[[ $# -ge 2 ]] || fail "give CONFIG and RUN: sbatch tools/slurm_train.sh CONFIG RUN [options of segkd train]"
[[ -n ${SLURM_JOB_ID:-} ]] || fail "this is no SLURM job: start it with sbatch"
config=()
if [[ $2 != -* ]]; then # else the options compose a config
    config=("$1")
    shift
fi
run=$1
shift
tasks=${SLURM_NTASKS_PER_NODE:-1} gpus=${SLURM_GPUS_ON_NODE:-$tasks}
[[ $tasks == "$gpus" ]] || fail "$tasks tasks a node for $gpus GPUs: give --ntasks-per-node and --gpus-per-node alike"

hosts=$(scontrol show hostnames "$SLURM_JOB_NODELIST")
export MASTER_ADDR=${hosts%%$'\n'*} # the first node
export MASTER_PORT=$((20000 + SLURM_JOB_ID % 20000))
[[ -z ${SLURM_CPUS_PER_TASK:-} ]] || export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK

kept() { # what --resume would go on from, with the times at which it was written
    find "$run" -maxdepth 1 \( -name state.pth -o -name 'first_stage_*.pth' \) -printf '%f %T@\n' 2>/dev/null | sort
}

words=(train ${config[@]+"${config[@]}"} --out "$run" "$@")
before=$(kept || true)
[[ -z $before ]] || words+=(--resume)

limit='' caught=''
srun --kill-on-bad-exit=1 "${PYTHON:-python}" -m segkd "${words[@]}" &
step=$!
trap 'caught=1 limit=1; kill -TERM "$step" || true' USR1 # the time limit is near
trap 'caught=1; kill -TERM "$step" || true' TERM         # a preemption, after which SLURM itself queues the job again
while :; do
    caught='' status=0
    wait "$step" || status=$?
    [[ -n $caught ]] || break
done
if [[ -n $limit && $status -ne 0 ]]; then
    [[ $(kept || true) != "$before" ]] || fail "nothing was kept before the time limit: lower schedule.val_interval"
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
