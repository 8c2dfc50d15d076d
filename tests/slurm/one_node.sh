#!/usr/bin/env bash
# A SLURM cluster of this one machine, for the tests that submit jobs; no systemd, nothing under /etc.
#
#   apt-get install -y slurm-wlm munge        (Debian, Ubuntu)
#   tests/slurm/one_node.sh start FOLDER      starts munged, slurmctld and slurmd; their files lie in FOLDER
#   export SLURM_CONF=FOLDER/slurm.conf       (an absolute path) lets sbatch, srun and squeue find it
#   python -m pytest tests/sweep/test_slurm.py
#   tests/slurm/one_node.sh stop FOLDER
#
# Run it as root: slurmd starts jobs as the user who submits them.
set -euo pipefail

usage() { echo "usage: $0 start|stop FOLDER" >&2; exit 2; }
[ $# -eq 2 ] || usage
mkdir -p "$2"
folder=$(realpath "$2")
export SLURM_CONF="$folder/slurm.conf"

start() {
  local host cores memory port
  host=$(hostname -s)
  # nproc would print a set OMP_NUM_THREADS instead.
  cores=$(env -u OMP_NUM_THREADS -u OMP_THREAD_LIMIT nproc)
  # Four fifths of the memory that is free: slurmd drains a node that has less than it was promised.
  memory=$(awk '/^MemAvailable/ { print int($2 / 1024 * 4 / 5) }' /proc/meminfo)
  # Beside a cluster that may be here already.
  port=$((20000 + RANDOM % 10000))
  mkdir -p "$folder"/{munge,state,spool}
  chmod 700 "$folder/munge"
  [ -e "$folder/munge/key" ] || (umask 077 && head -c 1024 /dev/urandom >"$folder/munge/key")
  munged --force --key-file "$folder/munge/key" --socket "$folder/munge/socket" \
    --pid-file "$folder/munge/pid" --log-file "$folder/munge/log" --seed-file "$folder/munge/seed"
  cat >"$SLURM_CONF" <<CONF
ClusterName=one_node
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$port
SlurmdPort=$((port + 1))
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/munge/socket
CredType=cred/munge
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
ReturnToService=2
KillWait=10
NodeName=$host NodeAddr=127.0.0.1 CPUs=$cores RealMemory=$memory State=UNKNOWN
PartitionName=test Nodes=$host Default=YES MaxTime=INFINITE State=UP
CONF
  slurmctld
  slurmd -N "$host"
  for _ in $(seq 30); do
    if [ "$(sinfo --noheader --format %T 2>/dev/null)" = idle ]; then
      echo "one node with $cores cores; export SLURM_CONF=$SLURM_CONF"
      return
    fi
    sleep 1
  done
  echo "the node did not come up; see $folder/slurmctld.log and $folder/slurmd.log" >&2
  exit 1
}

stop() {
  local file
  for file in "$folder/slurmd.pid" "$folder/slurmctld.pid" "$folder/munge/pid"; do
    [ ! -e "$file" ] || kill "$(cat "$file")" || true
  done
}

case "$1" in
  start) start ;;
  stop) stop ;;
  *) usage ;;
esac
