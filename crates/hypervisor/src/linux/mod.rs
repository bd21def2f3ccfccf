//! Memory the Linux way.

mod mapping;
mod pagemap;
mod sealed_file;

pub(crate) use self::{
    mapping::Mapping,
    pagemap::{Pages, pages},
    sealed_file::SealedFile,
};
