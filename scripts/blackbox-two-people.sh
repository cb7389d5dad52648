#!/usr/bin/env bash
# Two people talk through the binary as it is shipped. In between the server is killed, and Alice's client too, with lines
# that are not sent yet: Bob must see every line of hers, once and in order, and so must new devices of both that look at
# the conversation when nothing is left of the first processes but the data.
#
# usage: scripts/blackbox-two-people.sh [path of the tidings binary]
set -euo pipefail
cd "$(dirname "$0")/.."

binary=${1:-${CARGO_TARGET_DIR:-target}/debug/tidings}
lines=60 # a third each before, while and after the server is down
deadline_s=60
work=$(mktemp -d)
server=
declare -A client=() # pid by name

stop() {
    kill -9 "$1" 2>/dev/null || true
    wait "$1" 2>/dev/null || true
}

cleanup() {
    local pid
    for pid in $server "${client[@]}"; do
        stop "$pid"
    done
    rm -rf "$work"
}
trap cleanup EXIT

fail() {
    echo "two people: $*"
    local file
    for file in "$work"/*.out "$work"/*.err; do
        echo "--- last lines of $(basename "$file")"
        tail -n 15 "$file"
    done
    exit 1
}

# until_true WHAT COMMAND...: asks again until it succeeds or the deadline is over.
until_true() {
    local what=$1 until=$((SECONDS + deadline_s))
    shift
    until "$@"; do
        [ "$SECONDS" -lt "$until" ] || fail "waited $deadline_s s for $what"
        sleep 0.05
    done
}

address() {
    grep -oE '127\.0\.0\.1:[0-9]+' "$work/server.out" | head -n 1
}

# start_server ADDRESS: port 0 takes a free one.
start_server() {
    : >"$work/server.out" # the address of an earlier start is no sign of this one
    "$binary" serve --demo --data "$work/data" --listen "$1" >>"$work/server.out" 2>>"$work/server.err" &
    server=$!
    until_true 'the server to say its address' has_address
}

has_address() {
    kill -0 "$server" 2>/dev/null || fail 'the server does not start'
    [ -n "$(address)" ]
}

kill_server() {
    stop "$server"
    server=
}

# start_client NAME: commands go to file descriptor $input, what it says to NAME.out.
start_client() {
    local name=$1
    rm -f "$work/$name.in"
    mkfifo "$work/$name.in"
    "$binary" chat --as "$name" --server "http://$here" --plain --state "$work/state-$name" \
        <"$work/$name.in" >"$work/$name.out" 2>"$work/$name.err" &
    client[$name]=$!
    exec {input}>"$work/$name.in"
}

kill_client() {
    stop "${client[$1]}"
    unset "client[$1]"
}

# The texts that NAME saw from Alice, in the order in which they were printed.
texts() {
    awk -F '\t' '$1 == "entry" && $4 == "message" && $6 ~ /^line [0-9]+$/ { print $6 }' "$work/$1.out"
}

saw() {
    [ "$(texts "$1" | wc -l)" -ge "$2" ]
}

# NAME's client has taken so many lines into its outbox.
queued() {
    [ "$(grep -c '^queued' "$work/$1.out")" -ge "$2" ]
}

say() {
    local n
    for n in $(seq "$1" "$2"); do
        echo "line $n" >&"$alice"
    done
}

check() {
    local name=$1
    diff <(texts "$name") <(for n in $(seq 1 "$lines"); do echo "line $n"; done) >"$work/diff.out" \
        || fail "$name saw something else than lines 1 to $lines in order"
    # Seqs without gaps and doubles, over everything of that conversation.
    local conversation
    conversation=$(awk -F '\t' '$6 == "line 1" { print $2; exit }' "$work/$name.out")
    awk -F '\t' -v c="$conversation" '$1 == "entry" && $2 == c { if (last && $3 != last + 1) exit 1; last = $3 }' \
        "$work/$name.out" || fail "$name saw seqs that do not follow one another"
}

start_server 127.0.0.1:0
here=$(address)

start_client bob
start_client alice
alice=$input
echo '/new bob' >&"$alice"
say 1 20
until_true 'Bob to see the first lines' saw bob 20

kill_server
say 21 40
until_true 'Alice to have queued her lines' queued alice 40
kill_client alice
start_server "$here"
start_client alice
alice=$input
echo '/new bob' >&"$alice"
say 41 60
until_true 'Bob to see every line' saw bob "$lines"
check bob

kill_server
kill_client alice
kill_client bob
rm -r "$work"/state-*
start_server "$here"
for name in alice bob; do
    start_client "$name"
    until_true "a new device of $name to see every line" saw "$name" "$lines"
    check "$name"
done

echo "two people: $lines lines, the server killed twice, a client once; nothing lost, doubled or reordered"
