//! Stands in for the crate of this name where there is no operating system. It has nothing.
#![no_std]
