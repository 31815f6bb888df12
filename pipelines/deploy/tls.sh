#!/usr/bin/env bash
# Certificates for a Dask scheduler, its workers and m2hf, so that nobody else can run code on them.
#
#   bash tls.sh FOLDER                        # once, in a folder that all processes see
#   source FOLDER/environment                 # in every shell below
#   dask scheduler --protocol tls --port 8786
#   dask worker tls://HOST:8786 --nthreads 1 --memory-limit 0 --resources "GPU=1 cpu=1"
#   m2hf extract ... --scheduler tls://HOST:8786
#
# One key serves all processes of a user: who can read FOLDER can use the cluster, and only they.
# The key of the authority that signs it is deleted, so that nothing else is ever signed.
set -euo pipefail

folder=${1:?usage: tls.sh FOLDER}
umask 077
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
if [ -e "$folder/environment" ]; then
    echo "tls.sh: $folder has certificates already; give another folder, or remove it" >&2
    exit 2
fi
sign=$(mktemp -d)
trap 'rm -rf "$sign"' EXIT

openssl req -x509 -newkey rsa:3072 -nodes -days 3650 -subj "/CN=m2hf authority" \
    -keyout "$sign/authority.key" -out "$folder/authority.pem" 2>"$sign/log" || { cat "$sign/log" >&2; exit 1; }
openssl req -newkey rsa:3072 -nodes -subj "/CN=m2hf" \
    -keyout "$folder/key.pem" -out "$sign/request.pem" 2>"$sign/log" || { cat "$sign/log" >&2; exit 1; }
openssl x509 -req -in "$sign/request.pem" -days 3650 -set_serial 1 \
    -CA "$folder/authority.pem" -CAkey "$sign/authority.key" -out "$folder/certificate.pem" \
    2>"$sign/log" || { cat "$sign/log" >&2; exit 1; }

prefix=DASK_DISTRIBUTED__COMM
{
    printf 'export %s=%q\n' "${prefix}__REQUIRE_ENCRYPTION" True
    printf 'export %s=%q\n' "${prefix}__TLS__CA_FILE" "$folder/authority.pem"
    for role in SCHEDULER WORKER CLIENT; do
        printf 'export %s=%q\n' "${prefix}__TLS__${role}__CERT" "$folder/certificate.pem"
        printf 'export %s=%q\n' "${prefix}__TLS__${role}__KEY" "$folder/key.pem"
    done
} >"$folder/environment"
echo "source $folder/environment"
