# Made by Stead: makes PostgreSQL read its configuration again, and waits until it has.
#
# Arguments: the folder of its programs, the port. Fails, with the lines, before anything is read that PostgreSQL would not take.
set -eu
programs=$1 port=$2

ask() {
  "$programs/psql" --no-psqlrc --quiet --no-password --no-align --tuples-only --set=ON_ERROR_STOP=1 \
    --host=/run/stead/postgresql --port="$port" --username=postgres --dbname=postgres --command="$1"
}

# A setting that takes a restart has one of its own.
wrong=$(ask "
  SELECT format('pg_hba.conf, line %s: %s', line_number, error) FROM pg_hba_file_rules WHERE error IS NOT NULL
  UNION ALL
  SELECT format('%s: %s', name, error) FROM pg_file_settings
  WHERE error IS NOT NULL AND error <> 'setting could not be applied'")
if [ -n "$wrong" ]; then
  echo "$wrong" >&2
  exit 1
fi
# Who logs in anew is told when the process that lets them in has read it.
before=$(ask 'SELECT pg_conf_load_time()')
ask 'SELECT pg_reload_conf()' >/dev/null
tries=0
until [ "$(ask 'SELECT pg_conf_load_time()')" != "$before" ]; do
  tries=$((tries + 1))
  if [ "$tries" -gt 200 ]; then
    echo 'PostgreSQL does not read its configuration' >&2
    exit 1
  fi
  sleep 0.05
done
