"""The second of two stages: cut-outs of lesions and of tissue, told apart."""
