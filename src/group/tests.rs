//! Driver. The group in the simulator.
