//! Programs that mean harm, through the library as its users have it: each ends by its limit or its
//! deadline, with an error that says so, and the engine makes sound sandboxes after it.
//!
//! What machine code can try in ring 3 is tested next to the machine, in `src/guest/tests`.

mod endless;
mod exhaustion;
mod leakage;
mod names;
mod support;
