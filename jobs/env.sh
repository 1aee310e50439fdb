# The environment that every launch script here sources: silent, robust Open MPI runs on one machine or many.
# Values that are already set win, so a site can override any of them.
: "${OMPI_ALLOW_RUN_AS_ROOT:=1}" "${OMPI_ALLOW_RUN_AS_ROOT_CONFIRM:=1}"
: "${OMPI_MCA_rmaps_base_oversubscribe:=1}"            # more ranks than cores are allowed
: "${OMPI_MCA_mpi_yield_when_idle:=1}"                 # and then a waiting rank gives its core away
: "${OMPI_MCA_hwloc_base_binding_policy:=none}"        # unless mpirun is told --bind-to (the batch files do)
: "${OMPI_MCA_btl_vader_single_copy_mechanism:=none}"  # containers refuse it
: "${OMPI_MCA_io:=romio321}"                           # OMPIO reports success on a full disk
: "${OMPI_MCA_oob_tcp_keepalive_time:=5}" "${OMPI_MCA_oob_tcp_keepalive_intvl:=2}" # a lost node is noticed
: "${OMPI_MCA_oob_tcp_keepalive_probes:=3}"            # in about ten seconds
export OMPI_ALLOW_RUN_AS_ROOT OMPI_ALLOW_RUN_AS_ROOT_CONFIRM OMPI_MCA_rmaps_base_oversubscribe
export OMPI_MCA_mpi_yield_when_idle OMPI_MCA_hwloc_base_binding_policy
export OMPI_MCA_btl_vader_single_copy_mechanism OMPI_MCA_io OMPI_MCA_oob_tcp_keepalive_time
export OMPI_MCA_oob_tcp_keepalive_intvl OMPI_MCA_oob_tcp_keepalive_probes
# An mpirun that ends removes the folder of the user's sessions on its host where it is empty, and one that begins at that moment
# (a task of an array beside another one) fails: it is never empty.
(umask 077 && mkdir -p "${OMPI_MCA_orte_tmpdir_base:-${TMPDIR:-/tmp}}/ompi.$(uname -n | cut -d. -f1).$(id -u)/stays" 2> /dev/null) || true
# Threads that wait for each other spin for some 50 us, then sleep. GCC's default is up to 15 ms: beside any other work on the
# same cores a step of 2 threads then took 8 times as long.
[ -n "${OMP_WAIT_POLICY:-}" ] || export GOMP_SPINCOUNT="${GOMP_SPINCOUNT:-1000}"
# Every mpirun asks for its own host's name first, and waits some 10 s where nobody knows it. Looked at once.
if [ -z "${COLLIMATE_HOST_SEEN:-}" ] && ! timeout 3 getent ahosts "$(uname -n)" > /dev/null 2>&1; then
    echo "jobs/env.sh: the name of this host, $(uname -n), does not resolve: every mpirun will wait for that, some 10 s;" \
        "add the line \"127.0.1.1 $(uname -n)\" to /etc/hosts" >&2
fi
export COLLIMATE_HOST_SEEN=1
# The program: COLLIMATE, or what PATH has, or this checkout's build.
: "${COLLIMATE:=$(command -v collimate || echo "$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)/build/release/collimate")}"
export COLLIMATE
