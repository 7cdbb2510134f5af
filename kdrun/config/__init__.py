"""From YAML files and a command line to a checked `Run`. Only this package knows Hydra and OmegaConf."""
