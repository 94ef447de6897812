#!/usr/bin/env bash
# Installs the clients that `npm run test:clients` drives: those that Debian packages with apt-get (as root, or by
# sudo), the others from source into $MOORAGE_CLIENTS_DIR (default ~/.cache/moorage-clients/bin), at the versions below.
# What is there already is left alone, so running it again takes a second. Building them all takes some ten minutes on
# two cores; it needs Go 1.26 and Python 3.
set -euo pipefail

readonly crane=v0.22.1 regctl=v0.11.7 helm3=v3.22.0 helm4=v4.3.1 cosign=v3.1.3 oras_python=0.2.43
# Not the newest, which imports a module that module proxies do not hand out.
readonly buildkit=v0.25.2

readonly debian_packages=(skopeo buildah podman docker.io containerd runc python3-venv)
readonly debian_programs=(skopeo buildah podman docker dockerd containerd ctr runc)

readonly bin=${MOORAGE_CLIENTS_DIR:-$HOME/.cache/moorage-clients/bin}
readonly project=$(cd "$(dirname "$0")/.." && pwd)
readonly scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir -p "$bin/.installed"
export PATH=$PATH:/usr/sbin:/sbin
# The builds take both cores for minutes: they give way to whoever works beside them.
renice -n 10 $$ >/dev/null
# Static binaries do without the C libraries that some modules would link.
export CGO_ENABLED=0

say() { printf 'install-clients: %s\n' "$*"; }

# once NAME VERSION COMMAND...: runs the command unless that version of the program is there; says how long it took.
once() {
  local name=$1 version=$2 started=$SECONDS
  shift 2
  if [[ -x $bin/$name && $(cat "$bin/.installed/$name" 2>/dev/null) == "$version" ]]; then return; fi
  say "building $name $version"
  if ! "$@" >"$scratch/log" 2>&1; then
    cat "$scratch/log" >&2
    say "$name $version could not be installed" >&2
    return 1
  fi
  printf '%s' "$version" >"$bin/.installed/$name"
  say "$name $version: $((SECONDS - started)) s"
}

# go_install NAME PACKAGE@VERSION: builds in a folder of its own, for two majors of one program have the same name.
go_install() {
  GOBIN="$scratch/bin" go install -trimpath -ldflags='-s -w' "$2" && mv "$scratch/bin/"* "$bin/$1"
}

# `go install` refuses a module with exclude directives, which do not concern who builds its commands as a dependency.
go_build_as_dependency() {
  local module=$1 package=$2 version=$3
  mkdir -p "$scratch/$module"
  (
    cd "$scratch/$module"
    [[ -e go.mod ]] || go mod init "$module"
    go get -tool "$package@$version"
    go build -trimpath -ldflags='-s -w' -o "$bin/" "$package"
  )
}

install_oras_python() {
  local venv=$bin/.oras-python
  rm -rf "$venv"
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet "oras==$oras_python"
  printf '#!/bin/sh\nexec "%s/bin/python" "$@"\n' "$venv" >"$bin/oras-python"
  chmod +x "$bin/oras-python"
}

install_debian_packages() {
  local missing=() name sudo=()
  for name in "${debian_programs[@]}"; do command -v "$name" >/dev/null || missing+=("$name"); done
  python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
  if ((${#missing[@]} == 0)); then return; fi
  say "missing: ${missing[*]}"
  if ((EUID != 0)); then sudo=(sudo --non-interactive); fi
  "${sudo[@]}" apt-get update -qq
  "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install --yes --quiet --no-install-recommends "${debian_packages[@]}" >"$scratch/log" 2>&1 || {
    cat "$scratch/log" >&2
    return 1
  }
}

install_debian_packages
command -v go >/dev/null || { say "Go is needed to build the others" >&2; exit 1; }

once crane "$crane" go_install crane "github.com/google/go-containerregistry/cmd/crane@$crane"
once regctl "$regctl" go_install regctl "github.com/regclient/regclient/cmd/regctl@$regctl"
once oci-libraries "$(cat "$project"/test/clients/libraries/* | sha256sum | head -c 12)" \
  go build -C "$project/test/clients/libraries" -trimpath -o "$bin/oci-libraries" .
once oras-python "$oras_python" install_oras_python
once helm "$helm3" go_install helm "helm.sh/helm/v3/cmd/helm@$helm3"
once helm4 "$helm4" go_install helm4 "helm.sh/helm/v4/cmd/helm@$helm4"
once cosign "$cosign" go_install cosign "github.com/sigstore/cosign/v3/cmd/cosign@$cosign"
once buildkitd "$buildkit" go_build_as_dependency buildkit github.com/moby/buildkit/cmd/buildkitd "$buildkit"
once buildctl "$buildkit" go_build_as_dependency buildkit github.com/moby/buildkit/cmd/buildctl "$buildkit"
say "all clients are in $bin and on the PATH"
