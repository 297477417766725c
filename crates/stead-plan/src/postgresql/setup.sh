# Made by Stead: roles and databases, whenever PostgreSQL has started or others are declared.
#
# Arguments: the folder of PostgreSQL's programs, that of its state, that of the SQL, the port. Makes what is missing, and
# removes nothing.
set -eu
programs=$1 state=$2 sql=$3 port=$4

run() {
  "$programs/psql" --no-psqlrc --quiet --no-password --set=ON_ERROR_STOP=1 --host=/run/stead/postgresql --port="$port" \
    --username=postgres --dbname=postgres --file="$1" >/dev/null
}

if [ -e "$state/initial-script-is-due" ]; then
  if [ -e "$sql/initial.sql" ]; then run "$sql/initial.sql"; fi
  rm -f "$state/initial-script-is-due"
fi
run "$sql/setup.sql"
