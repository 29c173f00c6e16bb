mod crash;
mod life;
mod table;
mod world;
