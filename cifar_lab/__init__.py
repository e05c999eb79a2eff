"""cifar-lab: controlled ablations of CIFAR-10 classifiers under a parameter budget, tracked in MLflow."""

__version__ = "0.1.0"
