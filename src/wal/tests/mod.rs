mod crash;
mod full_disk;
mod life;
mod table;
mod world;
