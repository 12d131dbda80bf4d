#!/usr/bin/env bash
# Fetches Apache Kafka (43 MB of jars, pinned in pom.xml, checked against SHA256SUMS) for the tests' broker.
# usage: scripts/kafka/fetch.sh [--sums]   Idempotent: a second run only checks. --sums rewrites SHA256SUMS after pom.xml changed.
set -euo pipefail
cd "$(dirname "$0")"

VERSION=$(sed -n 's/.*<kafka.version>\(.*\)<.*/\1/p' pom.xml)
CACHE="${EYEWITNESS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/eyewitness}"
LIB="$CACHE/kafka/$VERSION"
PLUGIN=org.apache.maven.plugins:maven-dependency-plugin:3.6.1

say() { printf '\033[1m[setup]\033[0m %s\n' "$*"; }
die() { printf '\033[1m[setup]\033[0m error: %s\n' "$*" >&2; exit 1; }
# Every jar as listed, and no other.
intact() { [ -d "$1" ] && [ "$(find "$1" -name '*.jar' | wc -l)" = "$(wc -l <SHA256SUMS)" ] && (cd "$1" && sha256sum --status -c "$OLDPWD/SHA256SUMS"); }

if [ "${1:-}" != --sums ] && intact "$LIB"; then say "Kafka: $VERSION"; exit; fi
command -v java >/dev/null || die "java is missing: apt-get install default-jdk-headless"
command -v mvn >/dev/null || die "mvn is missing: apt-get install maven"

say "Kafka: fetching $VERSION from Maven Central (43 MB, under a minute)"
mkdir -p "$CACHE/kafka"
NEW=$(mktemp -d "$CACHE/kafka/.$VERSION.XXXXXX")
trap 'rm -rf "$NEW"' EXIT
mvn -B -q -f pom.xml "$PLUGIN:copy-dependencies" -DincludeScope=runtime -DoutputDirectory="$NEW" >"$CACHE/kafka/fetch.log" 2>&1 \
  || { tail -n 20 "$CACHE/kafka/fetch.log" >&2; die "maven failed: is the network up? The whole log is in $CACHE/kafka/fetch.log"; }
if [ "${1:-}" = --sums ]; then (cd "$NEW" && LC_ALL=C sha256sum -- *.jar) >SHA256SUMS; fi
intact "$NEW" || die "the jars are not those of scripts/kafka/SHA256SUMS; if pom.xml was changed on purpose, run scripts/kafka/fetch.sh --sums"
chmod 755 "$NEW"
rm -rf "$LIB"
mv "$NEW" "$LIB"
say "Kafka: $VERSION is in $LIB"
