//! Linking: what satisfies a module's imports.

use super::Sandbox;
use crate::error::{Error, ImportError, Result};
use crate::host::Host;
use crate::host_functions::HostImport;
use crate::module::Module;
use sandgrain_abi::component::{ComponentInfo, Function, ResourceOrigin};
use sandgrain_abi::message::{ComponentImport, ImportSource, ImportedItem};
use sandgrain_abi::types::{ExternType, Import};
use std::sync::Arc;

impl Sandbox {
    /// Finds what satisfies each import; all that nothing satisfies are listed.
    pub(super) fn link(&self, module: &Module) -> Result<Vec<ImportSource>> {
        let mut sources = Vec::new();
        let mut errors = Vec::new();
        for import in &module.info().imports {
            let found = match self.names.get(&import.module) {
                Some(instance) => {
                    let export = self.exports.instances[instance.0 as usize].export(&import.name);
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
                Arc::make_mut(&mut self.imports)
                    .insert(*number, HostImport { module, name, ty: ty.clone() });
            }
        }
    }

    /// Finds what satisfies each import of a component; all that nothing satisfies are listed.
    pub(super) fn link_component(&mut self, info: &ComponentInfo) -> Result<Vec<ComponentImport>> {
        let types = Arc::new(info.types.clone());
        let mut imports = Vec::new();
        let mut errors = Vec::new();
        let mut missing = |path: &[String], problem: String| {
            errors.push(ImportError::of_component(path, problem));
        };
        for resource in &info.types.resources {
            if resource.origin == ResourceOrigin::Defined {
                continue;
            }
            match self.host.find_resource(&resource.path) {
                Ok(item) => imports.push(ComponentImport { path: resource.path.clone(), item }),
                Err(problem) => missing(&resource.path, problem),
            }
        }
        for Function { path, ty } in &info.imports {
            match self.host.find_component_function(path, ty, &types) {
                Ok(number) => {
                    Arc::make_mut(&mut self.component_imports).insert(number, path.clone());
                    let (params, results) = types.flat_counts(ty);
                    let promise = Host::promise(number);
                    let item = ImportedItem::Function { number, params, results, promise };
                    imports.push(ComponentImport { path: path.clone(), item });
                }
                Err(problem) => missing(path, problem),
            }
        }
        if errors.is_empty() { Ok(imports) } else { Err(Error::Imports(errors)) }
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
