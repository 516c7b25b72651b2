#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Makes a certificate authority for tests, and certificates by it, with the openssl program:
#
#     tests/support/authority.sh FOLDER
#
# FOLDER, which it makes, has then for each NAME below NAME.pem, a certificate, and NAME.key. They name where the list of
# revoked ones would be had, and are valid for 90 days unless their name says otherwise, so that what scanners find is not
# about them.
#
#   ca                the authority; crl.pem is what it revoked, crl_empty.pem a list without anything, crl_old.pem one of
#                     yesterday, crl_stranger.pem that of another authority
#   server            localhost, 127.0.0.1, ::1
#   server_rsa        the same with an RSA key
#   other             other.example, *.wild.example
#   server_expired    of yesterday
#   server_soon       five days are left
#   server_later      of tomorrow
#   server_self       by itself, as an authority
#   client            URI spiffe://knitting/client, then DNS client.example
#   client_dns        DNS client-dns.example alone
#   client_expired, client_later, client_revoked, client_of_server (for servers alone), client_nobody (an e-mail address alone)
#   stranger_ca       another authority; stranger: a client of it, of the same names as client
set -euo pipefail

folder=$1
mkdir -p "$folder"
cd "$folder"
umask 077

cat >openssl.cnf <<'TEXT'
[ca]
default_ca = of_tests
[of_tests]
dir = .
database = index.txt
serial = serial
crlnumber = crlnumber
new_certs_dir = issued
default_md = sha256
default_days = 90
default_crl_days = 90
policy = any_name
unique_subject = no
copy_extensions = none
[any_name]
commonName = supplied
[req]
distinguished_name = name
prompt = no
[name]
commonName = Knitting tests
[authority]
basicConstraints = critical, CA:true
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[leaf]
basicConstraints = critical, CA:false
keyUsage = critical, digitalSignature
extendedKeyUsage = $ENV::PURPOSE
subjectAltName = $ENV::NAMES
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
crlDistributionPoints = URI:http://127.0.0.1/knitting-tests.crl
TEXT
export PURPOSE=serverAuth NAMES=DNS:localhost
mkdir -p issued
: >index.txt
echo 1000 >serial
echo 01 >crlnumber

# quietly COMMAND...: what openssl prints is shown only when it fails.
quietly()
{
  "$@" >>log 2>&1 || { cat log >&2; exit 1; }
}

new_key()
{
  quietly openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1.key"
}

# authority NAME
authority()
{
  new_key "$1"
  quietly openssl req -config openssl.cnf -x509 -new -key "$1.key" -sha256 -days 365 -subj "/CN=Knitting tests $1" \
    -extensions authority -out "$1.pem"
}

# certify NAME AUTHORITY PURPOSE NAMES [ARGUMENT FOR openssl ca...]: the key may be there already.
certify()
{
  local name=$1 by=$2
  export PURPOSE=$3 NAMES=$4
  shift 4
  [ -f "$name.key" ] || new_key "$name"
  quietly openssl req -config openssl.cnf -new -key "$name.key" -subj "/CN=$name" -out "$name.csr"
  quietly openssl ca -config openssl.cnf -batch -notext -cert "$by.pem" -keyfile "$by.key" -extensions leaf -in "$name.csr" \
    -out "$name.pem" "$@"
}

# when WORDS: a date as openssl ca takes it.
when()
{
  date -u -d "$1" +%Y%m%d%H%M%SZ
}

here=DNS:localhost,IP:127.0.0.1,IP:::1
client=URI:spiffe://knitting/client,DNS:client.example

authority ca
authority stranger_ca
quietly openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out server_rsa.key
certify server ca serverAuth "$here"
certify server_rsa ca serverAuth "$here"
certify other ca serverAuth 'DNS:other.example,DNS:*.wild.example'
certify server_expired ca serverAuth "$here" -startdate "$(when '-10 days')" -enddate "$(when '-1 day')"
certify server_soon ca serverAuth "$here" -startdate "$(when '-10 days')" -enddate "$(when '+5 days')"
certify server_later ca serverAuth "$here" -startdate "$(when '+1 day')" -enddate "$(when '+30 days')"
new_key server_self
quietly openssl req -config openssl.cnf -x509 -new -key server_self.key -sha256 -days 90 -subj '/CN=server_self' \
  -addext 'basicConstraints = critical, CA:true' -addext "subjectAltName = $here" -out server_self.pem
certify client ca clientAuth "$client"
certify client_dns ca clientAuth DNS:client-dns.example
certify client_expired ca clientAuth "$client" -startdate "$(when '-10 days')" -enddate "$(when '-1 day')"
certify client_later ca clientAuth "$client" -startdate "$(when '+1 day')" -enddate "$(when '+30 days')"
certify client_revoked ca clientAuth "$client"
certify client_nobody ca clientAuth email:nobody@client.example
certify client_of_server ca serverAuth "$client"
certify stranger stranger_ca clientAuth "$client"
# revoked NAME AUTHORITY [ARGUMENT FOR openssl ca...]: a list of what was revoked so far.
revoked()
{
  local name=$1 by=$2
  shift 2
  quietly openssl ca -config openssl.cnf -cert "$by.pem" -keyfile "$by.key" -gencrl -out "$name.pem" "$@"
}

revoked crl_empty ca
revoked crl_stranger stranger_ca
revoked crl_old ca -crl_lastupdate "$(when '-10 days')" -crl_nextupdate "$(when '-1 day')"
quietly openssl ca -config openssl.cnf -cert ca.pem -keyfile ca.key -revoke client_revoked.pem
revoked crl ca
