//! Linking: what satisfies a module's imports.

use super::Sandbox;
use crate::error::{Error, ImportError, Result};
use crate::host_functions::HostImport;
use crate::module::Module;
use sandgrain_abi::message::ImportSource;
use sandgrain_abi::types::{ExternType, Import};

impl Sandbox {
    /// Finds what satisfies each import; all that nothing satisfies are listed.
    pub(super) fn link(&self, module: &Module) -> Result<Vec<ImportSource>> {
        let mut sources = Vec::new();
        let mut errors = Vec::new();
        for import in &module.info().imports {
            let found = match self.names.get(&import.module) {
                Some(instance) => {
                    let export = self.instances[instance.0 as usize].export(&import.name);
                    match export {
                        Some(ty) if ty.kind() == import.ty.kind() => Ok(ImportSource::Instance {
                            instance: instance.0,
                            export: import.name.clone(),
                        }),
                        Some(ty) => {
                            Err(format!("it is a {}, not a {}", ty.kind(), import.ty.kind()))
                        }
                        None => self.find_host(import),
                    }
                }
                None => self.find_host(import),
            };
            match found {
                Ok(source) => sources.push(source),
                Err(problem) => {
                    let import = Some((import.module.clone(), import.name.clone()));
                    errors.push(ImportError { import, problem });
                }
            }
        }
        if errors.is_empty() { Ok(sources) } else { Err(Error::Imports(errors)) }
    }

    /// Remembers the host functions that a module has been linked with.
    pub(super) fn note_imports(&mut self, module: &Module, sources: &[ImportSource]) {
        for (import, source) in module.info().imports.iter().zip(sources) {
            if let (ImportSource::Host(number), ExternType::Func(ty)) = (source, &import.ty) {
                let (module, name) = (import.module.clone(), import.name.clone());
                self.imports.insert(*number, HostImport { module, name, ty: ty.clone() });
            }
        }
    }

    fn find_host(&self, import: &Import) -> Result<ImportSource, String> {
        let (number, offered) = self.host.find(&import.module, &import.name)?;
        match &import.ty {
            ExternType::Func(wanted) if *wanted == offered => Ok(ImportSource::Host(number)),
            ExternType::Func(wanted) => {
                Err(format!("the module wants the type {wanted}, the host function is {offered}"))
            }
            other => Err(format!("the module wants a {}, the host has a function", other.kind())),
        }
    }
}
