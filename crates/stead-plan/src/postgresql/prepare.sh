# Made by Stead: what comes before PostgreSQL, whenever it starts.
#
# Arguments: the folder of its programs, that of its state, the file of sizes. Makes the data at first, wholly or not at
# all, and never touches any that are there; writes what follows from the machine's memory and cores.
set -eu
programs=$1 state=$2 sizes=$3

if ! [ -e "$state/data/PG_VERSION" ]; then
  # What a power cut left of an earlier try: nothing was ever kept there.
  rm -rf "$state/data.new"
  "$programs/initdb" --pgdata="$state/data.new" --username=postgres --encoding=UTF8 --locale=C.UTF-8 \
    --data-checksums --auth-local=peer --auth-host=scram-sha-256 >/dev/null
  : >"$state/initial-script-is-due"
  # Refused where there is a folder with something in it.
  mv -T "$state/data.new" "$state/data"
  sync "$state"
fi

# The machine's memory in KiB (proc(5)), or what a control group above this process leaves of it.
memory=
while read -r key value _; do
  if [ "$key" = MemTotal: ]; then memory=$value; fi
done <"${MEMINFO:-/proc/meminfo}"
groups=${GROUPS_ROOT:-/sys/fs/cgroup}
while IFS=: read -r _ controllers group; do
  case $controllers in
    '') folder=$groups file=memory.max ;;
    memory) folder=$groups/memory file=memory.limit_in_bytes ;;
    *) continue ;;
  esac
  while :; do
    limit=
    if [ -r "$folder$group/$file" ]; then read -r limit <"$folder$group/$file" || :; fi
    case $limit in
      '' | *[!0-9]*) ;;
      *) if [ ${#limit} -lt 18 ] && [ $((limit / 1024)) -lt "$memory" ]; then memory=$((limit / 1024)); fi ;;
    esac
    if [ -z "$group" ] || [ "$group" = / ]; then break; fi
    group=${group%/*}
  done
done <"${CGROUP:-/proc/self/cgroup}"
cores=${CORES:-$(nproc)}

within() {
  if [ "$1" -lt "$2" ]; then echo "$2"; elif [ "$1" -gt "$3" ]; then echo "$3"; else echo "$1"; fi
}
# The manual's quarter of the memory (section 20.4.1) is for a server that does nothing else.
shared=$(within $((memory / 8)) 16384 8388608)
{
  echo "# Made by Stead, from $memory kB of memory and $cores cores, when PostgreSQL started."
  echo "shared_buffers = ${shared}kB"
  echo "effective_cache_size = $(within $((memory / 2)) 65536 67108864)kB"
  echo "work_mem = $(within $((memory / 256)) 4096 65536)kB"
  echo "maintenance_work_mem = $(within $((memory / 16)) 16384 1048576)kB"
  echo "max_worker_processes = $(within "$cores" 8 64)"
  echo "max_parallel_workers = $(within "$cores" 1 64)"
  echo "max_parallel_workers_per_gather = $(within $((cores / 2)) 0 4)"
} >"$sizes.new"
mv -T "$sizes.new" "$sizes"
