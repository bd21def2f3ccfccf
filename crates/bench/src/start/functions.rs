//! What is called.

use crate::host_error;
use sandgrain::{Error, Result, Sandbox};
use std::fmt::Write;

/// A function that is to be started, by all ways there are.
pub(super) struct Function {
    /// Unique among all.
    pub(super) name: &'static str,
    /// The name that its module exports it by. It has no parameters.
    pub(super) export: &'static str,
    /// Its module, in the binary format.
    pub(super) wasm: Vec<u8>,
    /// What it returns, if anything.
    pub(super) result: Option<u32>,
    /// Whether the targets are for it.
    pub(super) has_targets: bool,
}

/// All of them.
pub(super) fn all() -> Result<Vec<Function>> {
    Ok(vec![empty()?, data()?])
}

fn to_wasm(wat: &[u8]) -> Result<Vec<u8>> {
    let compiler = sandgrain::compile::Compiler::new(&Default::default())?;
    Ok(compiler.to_wasm(wat)?.into_owned())
}

/// Nothing but the way there and back.
fn empty() -> Result<Function> {
    Ok(Function {
        name: "empty export",
        export: "run",
        wasm: to_wasm(br#"(module (func (export "run")))"#)?,
        result: None,
        has_targets: true,
    })
}

/// Bytes of the module's data.
const DATA: usize = 1 << 20;
/// Of the data a word is read each so many bytes: a quarter of the pages.
const STEP: usize = 16 << 10;

/// A module with a mebibyte of data. A call reads from 64 of its pages, and writes to 8 pages beyond.
fn data() -> Result<Function> {
    let mut random: u32 = 0x9e37_79b9;
    let data: Vec<u8> = (0..DATA)
        .map(|_| {
            random ^= random << 13;
            random ^= random >> 17;
            random ^= random << 5;
            random as u8
        })
        .collect();
    let word = |at: usize| {
        data[at..at + 4].iter().rev().fold(0, |word: u32, byte| word << 8 | u32::from(*byte))
    };
    let sum = (0..DATA).step_by(STEP).map(word).fold(0, u32::wrapping_add);
    let text = data.iter().fold(String::with_capacity(3 * DATA), |mut text, byte| {
        // Into a string it cannot fail.
        let _ = write!(text, "\\{byte:02x}");
        text
    });
    let wat = format!(
        r#"(module (memory 18)
          (data (i32.const 0) "{text}")
          (func (export "run") (result i32) (local $at i32) (local $sum i32)
            (loop $next
              (local.set $sum (i32.add (local.get $sum) (i32.load (local.get $at))))
              (i32.store
                (i32.add (i32.const {DATA}) (i32.and (i32.shr_u (local.get $at) (i32.const 2)) (i32.const 0x7000)))
                (local.get $sum))
              (br_if $next (i32.lt_u
                (local.tee $at (i32.add (local.get $at) (i32.const {STEP})))
                (i32.const {DATA}))))
            (local.get $sum)))"#
    );
    Ok(Function {
        name: "1 MB of data",
        export: "run",
        wasm: to_wasm(wat.as_bytes())?,
        result: Some(sum),
        has_targets: false,
    })
}

impl Function {
    /// Calls it in a sandbox.
    pub(super) fn call(&self, sandbox: &mut Sandbox) -> Result<()> {
        match self.result {
            None => sandbox.call(self.export, ()),
            Some(_) => self.check(sandbox.call(self.export, ())?),
        }
    }

    /// Calls it in a store of wasmtime's, in this process.
    pub(super) fn call_in_process(
        &self,
        store: &mut wasmtime::Store<()>,
        instance: wasmtime::Instance,
    ) -> Result<()> {
        let failed = |error: wasmtime::Error| host_error("the call in process", &error);
        let export = self.export;
        if self.result.is_none() {
            let run = instance.get_typed_func::<(), ()>(&mut *store, export).map_err(failed)?;
            return run.call(store, ()).map_err(failed);
        }
        let run = instance.get_typed_func::<(), u32>(&mut *store, export).map_err(failed)?;
        self.check(run.call(store, ()).map_err(failed)?)
    }

    fn check(&self, result: u32) -> Result<()> {
        if self.result == Some(result) {
            return Ok(());
        }
        Err(Error::Host(format!(
            "{} gave {result} and should have given {:?}: please report this",
            self.name, self.result
        )))
    }
}
