//! Which Rust names the bindings give to what is in WIT.

use heck::{ToSnakeCase as _, ToUpperCamelCase as _};
use wit_parser::{InterfaceId, Resolve, TypeDef, TypeOwner};

/// A package's and an interface's name, such as `wasi:io/streams`.
pub fn interface(resolve: &Resolve, id: InterfaceId) -> String {
    let (package, name) = parts(resolve, id);
    format!("wasi:{package}/{name}")
}

/// The same with its version.
pub fn versioned(resolve: &Resolve, id: InterfaceId) -> String {
    let package = resolve.interfaces[id].package.expect("interfaces are in packages");
    let version = resolve.packages[package].name.version.as_ref().expect("WASI has versions");
    format!("{}@{version}", interface(resolve, id))
}

/// A package's name without `wasi:`, and an interface's name.
pub fn parts(resolve: &Resolve, id: InterfaceId) -> (&str, &str) {
    let interface = &resolve.interfaces[id];
    let package = interface.package.expect("interfaces are in packages");
    let package = &resolve.packages[package].name;
    assert_eq!(package.namespace, "wasi");
    (&package.name, interface.name.as_ref().expect("WASI's interfaces have names"))
}

/// The module of an interface's bindings.
pub fn module(resolve: &Resolve, id: InterfaceId) -> String {
    let (package, name) = parts(resolve, id);
    let bindings = match package {
        "http" => "wasmtime_wasi_http::p2::bindings",
        _ => "wasmtime_wasi::p2::bindings",
    };
    format!("{bindings}::{}::{}", snake(package), snake(name))
}

/// The interface that a type is defined in.
pub fn owner(ty: &TypeDef) -> InterfaceId {
    match ty.owner {
        TypeOwner::Interface(id) => id,
        _ => panic!("{:?} is in no interface", ty.name),
    }
}

/// The name of a type that has one.
pub fn name(ty: &TypeDef) -> &str {
    ty.name.as_ref().expect("it has a name")
}

/// The path of a type's binding.
pub fn path(resolve: &Resolve, ty: &TypeDef) -> String {
    format!("{}::{}", module(resolve, owner(ty)), camel(name(ty)))
}

/// A name for what is generated for a type.
pub fn unique(resolve: &Resolve, ty: &TypeDef) -> String {
    let (package, interface) = parts(resolve, owner(ty));
    snake(&format!("{package}-{interface}-{}", name(ty)))
}

pub fn camel(name: &str) -> String {
    name.to_upper_camel_case()
}

/// A function's, a field's or a module's name. Of Rust's own words, WASI uses one.
pub fn snake(name: &str) -> String {
    match name {
        "type" => "type_".to_owned(),
        name => name.to_snake_case(),
    }
}

pub fn shouty(name: &str) -> String {
    name.to_snake_case().to_uppercase()
}
