//! Driver. The group in the simulator: one node, a disk that fails on order, a recording outlet.

mod book;
mod crash;
mod faults;
mod full_disk;
mod leases;
mod life;
mod rig;
mod space;
