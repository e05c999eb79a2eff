"""cifar-lab: ablations on CIFAR-10 under a parameter budget, trained once, tracked in MLflow, believed."""

__version__ = "0.1.0"
