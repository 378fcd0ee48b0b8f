#!/usr/bin/env bash
# All of a study as jobs of SLURM: this one hands out the tasks, and sends others for the workers of a machine file.
#   sbatch deploy/slurm.sh study.yaml deploy/slurm.yaml
# Where colign is in an environment, activate it first: jobs get the settings of the shell that sends them. Arguments
# behind the two files, such as --grow, go to colign run. Shortly before its time is up the job ends its workers; sent
# again, the study goes on where it stopped. Exit codes are those of colign run.
#SBATCH --job-name=colign
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=1
#SBATCH --mem=6G
#SBATCH --time=1-00:00:00
#SBATCH --signal=B:INT@120
#SBATCH --output=colign-%j.log
set -euo pipefail
usage="usage: sbatch deploy/slurm.sh STUDY MACHINE_FILE [arguments of colign run]"
(($# >= 2)) || { echo "$usage" >&2 && exit 2; }
exec colign run "$1" --machine "$2" "${@:3}"
