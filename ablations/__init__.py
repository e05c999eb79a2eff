"""Built-in ablations, one small file each; the folder is the registry."""

TITLE = "The writeup, measured again"
INTRODUCTION = (
    "“ResNet Model for CIFAR-10 Image Classification” (Gupta, Pattanaik and Panchal, 2024) modified ResNets under a "
    "budget of five million parameters until one had a test accuracy of 97.08 %. Here its steps are taken again, one "
    "at a time."
)
CHAPTERS = (
    ("The ladder", "The nine stages from the first network to the last, each compared with the one before it.",
     ("writeup_ladder",)),
    ("The factors it varied", "One at a time, in the order in which the writeup tells of them.",
     ("block_counts", "kernel_sizes", "batch_norm", "extra_fc", "optimizers", "grad_clip", "lr_schedule",
      "weight_decay", "augmentation", "mixup_cutmix", "lookahead", "se_placement", "se_ratio")),
    ("What it does not vary", "Choices of its final network and training that it states without comparing them; and "
     "the yardstick, how far the seed alone moves an accuracy.",
     ("layers", "shortcut_kernels", "width", "dropout", "batch_size", "label_smoothing", "optimizers_cosine",
      "se_ratio_x_lookahead", "noise_floor")),
    ("What it does not have", "Methods of other papers, on its network and in its training.",
     ("activation", "stochastic_depth", "sam", "weight_averaging", "distillation")),
    ("In fewer epochs", "Its network in a recipe of our own, from speed runs on CIFAR-10.",
     ("fewer_epochs", "fast", "stem_pool")),
    ("More augmentation", "Policies that the writeup does not use, alone and beside its mixing of images.",
     ("policies", "policies_x_mixing", "augmix")),
    ("How it computes", "Whether the precision that the lab chooses for its speed has a price.", ("precision",)),
)  # fmt: skip
"""Chapters of the full report: title, introduction, and the ablations in their order."""
