"""Spack recipe (Spack 1.0 and later). From a checkout:

    spack repo add jobs/packaging/spack/spack_repo/collimate
    spack install collimate && spack test run collimate

It builds the commit that the checkout is at; what is not committed: spack develop --path "$PWD" collimate@main.
"""
import pathlib

from spack_repo.builtin.build_systems.cmake import CMakePackage, generator

from spack.package import *


class Collimate(CMakePackage):
    """Preference alignment of language models as one SPMD program in C."""

    git = pathlib.Path(__file__).resolve().parents[7].as_uri()  # the checkout that this file lies in

    license("Apache-2.0")

    version("main", branch="main")

    variant("cuda", default=False, description="Back end for CUDA devices, opened at run time")

    generator("ninja")
    depends_on("c", type="build")
    depends_on("cxx", type="build", when="+cuda")
    depends_on("cmake@3.25:", type="build")
    depends_on("pkgconfig", type="build")
    depends_on("mpi@3.1:")
    depends_on("hdf5@1.10: +mpi")
    depends_on("openblas threads=openmp")
    depends_on("libyaml")
    depends_on("jansson")
    depends_on("pcre2")
    depends_on("utf8proc")
    depends_on("xxhash")
    depends_on("zlib-api")
    depends_on("cuda@12:", when="+cuda")
    depends_on("cmocka", type="test")

    sanity_check_is_file = ["bin/collimate", "share/collimate/jobs/smoke.sh"]

    def cmake_args(self):
        return [
            self.define("COLLIMATE_CUDA", "ON" if self.spec.satisfies("+cuda") else "OFF"),
            self.define("COLLIMATE_TESTS", "ON" if self.run_tests else "OFF"),
        ]

    def check(self):
        """The unit tests: what needs no launcher and no second rank."""
        with working_dir(self.build_directory):
            ctest = which("ctest", required=True)
            ctest("--output-on-failure", "-L", "unit")

    def test_smoke(self):
        """pairs, a model, an aligned model and its answers"""
        bash = which("bash", required=True)
        out = bash(
            join_path(self.prefix.share.collimate.jobs, "smoke.sh"),
            join_path(self.prefix.bin, "collimate"),
            output=str.split,
            error=str.split,
        )
        assert "smoke: ok" in out
