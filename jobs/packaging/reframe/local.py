"""ReFrame's configuration for one machine without a scheduler: to see collimate_checks.py at work."""
site_configuration = {
    "systems": [{
        "name": "local",
        "hostnames": [".*"],
        "partitions": [{
            "name": "here", "scheduler": "local", "launcher": "mpirun", "environs": ["plain"], "max_jobs": 1,
            "env_vars": [["OMPI_ALLOW_RUN_AS_ROOT", "1"], ["OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1"],
                         ["OMPI_MCA_rmaps_base_oversubscribe", "1"], ["OMPI_MCA_hwloc_base_binding_policy", "none"],
                         ["OMPI_MCA_btl_vader_single_copy_mechanism", "none"]],
        }],
    }],
    "environments": [{"name": "plain", "cc": "cc"}],
}
