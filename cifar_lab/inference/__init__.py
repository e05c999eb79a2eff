"""Use of trained cells outside of their study: predictions, evaluation on other images, accuracy without labels."""
