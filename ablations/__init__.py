"""Built-in ablations, one small file each; the folder is the registry."""
