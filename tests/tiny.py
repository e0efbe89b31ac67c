"""A recipe that runs in seconds."""

# Twelve scenes, a narrow untrained network and few windows: seconds, and yet every job has work.
TINY = """
name = "tiny"
[dataset]
kind = "digits"
train = "train"
train_images = 12
test_images = 8
[windows]
method = "grid"
max_windows = 60
[network]
name = "zf5"
width = 0.1
fc_units = 16
[features]
scales = [160]
levels = [2, 1]
shard_bytes = 40_000
[svm]
negatives = 5
[evaluation]
pictures = 2
"""
