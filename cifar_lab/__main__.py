"""Entry point of `python -m cifar_lab`."""

from cifar_lab.cli import main

if __name__ == "__main__":
    main()
