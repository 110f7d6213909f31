#!/bin/sh
# Turns the add-on's options into Microclimate's configuration and starts it.
set -eu
options=/data/options.json
option() { jq -r "$1 // empty" "$options"; }
config=/tmp/microclimate.toml
: >"$config"

if [ "$(option .source)" = mosquitto ]; then
  # Address and password of the broker, as Home Assistant knows them.
  broker=$(curl -fsS -H "Authorization: Bearer ${SUPERVISOR_TOKEN:-}" http://supervisor/services/mqtt) || {
    echo "no MQTT broker in Home Assistant: install the Mosquitto add-on, or set source to own" >&2
    exit 1
  }
  export MICROCLIMATE__GATEWAY__MQTT__USER MICROCLIMATE__GATEWAY__MQTT__PASSWORD
  MICROCLIMATE__GATEWAY__MQTT__USER=$(echo "$broker" | jq -r '.data.username // empty')
  MICROCLIMATE__GATEWAY__MQTT__PASSWORD=$(echo "$broker" | jq -r '.data.password // empty')
  # The topics of discovery are added by the mapping below.
  topics=$(jq -c .topics "$options")
  cat >>"$config" <<TOML
[gateway.mqtt]
mode = "bridge"
host = $(echo "$broker" | jq '.data.host')
port = $(echo "$broker" | jq '.data.port')
client_id = "microclimate-addon"
filters = $topics
allow_plaintext_password = true
TOML
else
  cat >>"$config" <<TOML
[gateway.mqtt]
listen = "0.0.0.0:1883"
users_file = "/config/users"
allow_plaintext_password = true
TOML
  [ -e /config/users ] || { echo "make /addon_configs/…_microclimate/users first: gateway user add --help" >&2; exit 1; }
fi
if [ "$(option .home_assistant_sensors)" = true ]; then
  printf '\n[[gateway.mappings]]\nconvention = "home-assistant"\nbase = "homeassistant"\nzone = "home"\nsite = %s\n' "$(jq .site "$options")" >>"$config"
fi
if [ -n "$(option .latitude)" ] && [ -n "$(option .longitude)" ]; then
  printf '\n[feature_store.engine]\nplace = [%s, %s]\n' "$(option .latitude)" "$(option .longitude)" >>"$config"
fi
# The user's own keys win: /addon_configs/…_microclimate/microclimate.toml.
if [ -e /config/microclimate.toml ]; then config=/config/microclimate.toml; fi

chown -R microclimate /data
nginx -c /nginx.conf &
RUST_LOG=$(option .log_level) exec setpriv --reuid=microclimate --regid=microclimate --clear-groups \
  microclimate up --data-dir /data/microclimate --config "$config"
