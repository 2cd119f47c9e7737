#!/bin/sh
# Runs once before the service and may run again: makes what is missing, changes nothing that is there.
#   /keys     what the service reads: hashed keys, the address of Redis with its password
#   /secrets  what people and agents are given: operator.key, agent.key
#   /redis, /grafana  each one's own password
#   /retraining       its own key, which may register versions and start canaries
#   /import   policies of the host, copied to /data/policies
set -eu
umask 077
root=${DQN_SETUP_ROOT:-}

make_key() {
    name=$1
    shift
    [ -s "$root/secrets/$name.key" ] && return
    dqn keys add --file "$root/keys/keys" "$name" "$@" > "$root/secrets/$name.key.new"
    mv "$root/secrets/$name.key.new" "$root/secrets/$name.key"
}

make_password() {
    python -c 'import secrets; print(secrets.token_urlsafe(32))'
}

# Readable to the user of another image; the volume is mounted there and nowhere else.
publish() {
    chmod 0444 "$1.new"
    mv "$1.new" "$1"
}

make_key operator operate submit read
make_key agent act report read
make_key retraining submit read
[ -s "$root/retraining/key" ] || cp "$root/secrets/retraining.key" "$root/retraining/key"

if [ ! -s "$root/redis/redis.conf" ]; then
    password=$(make_password)
    echo "redis://:$password@redis:6379/0" > "$root/keys/redis_url"
    echo "requirepass $password" > "$root/redis/redis.conf.new"
    publish "$root/redis/redis.conf"
fi

if [ ! -s "$root/grafana/admin_password" ]; then
    make_password > "$root/grafana/admin_password.new"
    publish "$root/grafana/admin_password"
fi

for declared in "$root"/import/*/policy.toml; do
    [ -f "$declared" ] || continue
    from=$(dirname "$declared")
    to=$root/data/policies/$(basename "$from")
    mkdir -p "$to"
    for version in "$from"/[0-9]*; do
        [ -f "$version/manifest.json" ] || continue
        [ -e "$to/$(basename "$version")" ] && continue
        rm -rf "$to/.copying"
        cp -R "$version" "$to/.copying"
        mv "$to/.copying" "$to/$(basename "$version")"
    done
    # Last: the service looks for it.
    [ -e "$to/policy.toml" ] || cp "$declared" "$to/policy.toml"
done
