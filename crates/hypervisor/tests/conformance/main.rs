//! What every backend must do, shown with guests of a few bytes of machine code.
//!
//! The tests know [`Hypervisor`](sandgrain_hypervisor::Hypervisor) and
//! [`Vm`](sandgrain_hypervisor::Vm) only. They fail where there is no hypervisor: a machine that cannot
//! run them has not passed them. Ring-0 code keeps to integer instructions, which software KVMs emulate.

mod exits;
mod interrupt;
mod limits;
mod machine;
mod memory;
mod restore;
mod state;
mod walls;
