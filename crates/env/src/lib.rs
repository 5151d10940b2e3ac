//! Ports to the outside: disk, clock, network, randomness; real and simulated.
