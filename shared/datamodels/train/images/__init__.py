"""Training ResNets on images, on the GPU where there is one."""
