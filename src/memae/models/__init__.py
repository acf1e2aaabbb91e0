"""The networks: an autoencoder that takes its encoder, memory and decoder by injection, and the parts."""
