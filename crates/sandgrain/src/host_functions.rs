//! Host functions: what a guest may call of the host.

use crate::caller::Caller;
use crate::error::{BoxError, Error, ImportError};
use crate::typed::{WasmValue, WasmValues, func_type};
use sandgrain_abi::types::FuncType;
use sandgrain_abi::value::Value;
use sandgrain_abi::{DecodeError, Decoder, Encode, Encoder};
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::future::{Future, ready};
use std::mem;
use std::pin::Pin;
use tracing::Instrument;

/// What a host function returns: values, or a `Result` of them. An error ends the guest's call and
/// arrives as [`Error::HostFunction`].
pub trait HostResult {
    /// The values.
    type Values: WasmValues;
    /// The result.
    ///
    /// # Errors
    /// The host function's own.
    fn into_result(self) -> Result<Self::Values, BoxError>;
}

impl<T: WasmValues> HostResult for T {
    type Values = T;
    fn into_result(self) -> Result<T, BoxError> {
        Ok(self)
    }
}

impl<T: WasmValues, E: Into<BoxError>> HostResult for Result<T, E> {
    type Values = T;
    fn into_result(self) -> Result<T, BoxError> {
        self.map_err(Into::into)
    }
}

type Call = Box<dyn FnMut(&mut Caller<'_>, &[Value]) -> Result<Vec<Value>, BoxError> + Send>;

/// What an asynchronous host function is going to return.
pub(crate) type Pending = Pin<Box<dyn Future<Output = Result<Vec<Value>, BoxError>> + Send>>;

type AsyncCall = Box<dyn FnMut(&[Value]) -> Pending + Send>;

/// A closure that can be a host function: `FnMut(A, B, ...) -> R`, or with a [`Caller`] before the
/// arguments: `FnMut(&mut Caller, A, B, ...) -> R`.
pub trait IntoHostFunction<Marker>: Send + 'static {
    /// Its type in WebAssembly.
    fn func_type() -> FuncType;
    /// The function in the one form in which all are kept.
    fn into_call(self) -> Call;
}

/// A closure that can be an asynchronous host function: `FnMut(A, B, ...) -> F`, where `F` is a future of what
/// a host function returns. There is no [`Caller`]: a future may not hold on to the guest's memory.
pub trait IntoAsyncFunction<Marker>: Send + 'static {
    /// Its type in WebAssembly.
    fn func_type() -> FuncType;
    /// The function in the one form in which all are kept.
    fn into_call(self) -> AsyncCall;
}

/// Tells closures without a caller from those with one.
#[derive(Debug)]
pub struct WithCaller;

macro_rules! closures {
    ($(($($name:ident)*))*) => {$(
        impl<Closure, R, $($name),*> IntoHostFunction<(($($name,)*), R)> for Closure
        where
            Closure: FnMut($($name),*) -> R + Send + 'static,
            R: HostResult,
            $($name: WasmValue,)*
        {
            fn func_type() -> FuncType {
                func_type::<($($name,)*), R::Values>()
            }

            #[allow(non_snake_case, reason = "the type's name serves for its value")]
            fn into_call(mut self) -> Call {
                Box::new(move |_, values| {
                    let ($($name,)*) = arguments::<($($name,)*)>(values)?;
                    self($($name),*).into_result().map(WasmValues::into_values)
                })
            }
        }

        impl<Closure, R, $($name),*> IntoHostFunction<(WithCaller, ($($name,)*), R)> for Closure
        where
            Closure: FnMut(&mut Caller<'_>, $($name),*) -> R + Send + 'static,
            R: HostResult,
            $($name: WasmValue,)*
        {
            fn func_type() -> FuncType {
                func_type::<($($name,)*), R::Values>()
            }

            #[allow(non_snake_case, reason = "the type's name serves for its value")]
            fn into_call(mut self) -> Call {
                Box::new(move |caller, values| {
                    let ($($name,)*) = arguments::<($($name,)*)>(values)?;
                    self(caller, $($name),*).into_result().map(WasmValues::into_values)
                })
            }
        }

        impl<Closure, Later, R, $($name),*> IntoAsyncFunction<(($($name,)*), Later)> for Closure
        where
            Closure: FnMut($($name),*) -> Later + Send + 'static,
            Later: Future<Output = R> + Send + 'static,
            R: HostResult,
            $($name: WasmValue,)*
        {
            fn func_type() -> FuncType {
                func_type::<($($name,)*), R::Values>()
            }

            #[allow(non_snake_case, reason = "the type's name serves for its value")]
            fn into_call(mut self) -> AsyncCall {
                Box::new(move |values| match arguments::<($($name,)*)>(values) {
                    Ok(($($name,)*)) => {
                        let future = self($($name),*);
                        Box::pin(async move {
                            future.await.into_result().map(WasmValues::into_values)
                        })
                    }
                    Err(error) => Box::pin(ready(Err(error))),
                })
            }
        }
    )*};
}

closures! {
    ()
    (A)
    (A B)
    (A B C)
    (A B C D)
    (A B C D E)
    (A B C D E F)
    (A B C D E F G)
    (A B C D E F G H)
}

/// The arguments as Rust's. The engine has checked their types; a guest that got around it gets an
/// error.
fn arguments<P: WasmValues>(values: &[Value]) -> Result<P, BoxError> {
    P::from_values(values).ok_or_else(|| "called with arguments of other types".into())
}

/// A host function that a guest has been linked with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostImport {
    pub(crate) module: String,
    pub(crate) name: String,
    pub(crate) ty: FuncType,
}

impl Encode for HostImport {
    fn encode(&self, out: &mut Encoder<'_>) {
        out.str(&self.module);
        out.str(&self.name);
        self.ty.encode(out);
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let (module, name) = <(String, String)>::decode(from)?;
        Ok(Self { module, name, ty: FuncType::decode(from)? })
    }
}

/// What a host function does when it is called.
pub(crate) enum Body {
    /// It has returned by then.
    Now(Call),
    /// It returns when its future is done.
    Later(AsyncCall),
    /// It is being called, and has called the guest.
    UnderWay,
}

/// One host function.
struct HostFunction {
    ty: FuncType,
    body: Body,
}

impl HostFunction {
    /// What it has returned, if that is of its type.
    fn returned(
        &self,
        name: &str,
        result: Result<Vec<Value>, BoxError>,
    ) -> Result<Vec<Value>, Error> {
        let failed = |source| Error::HostFunction { function: name.to_owned(), source };
        let results = result.map_err(failed)?;
        let right = results.len() == self.ty.results.len()
            && results.iter().zip(&self.ty.results).all(|(value, ty)| value.is_a(*ty));
        if right {
            Ok(results)
        } else {
            Err(failed(format!("it returned {results:?}, its type is {}", self.ty).into()))
        }
    }
}

/// A closure cannot be called while it is being called: it may have changed half of what it holds.
pub(crate) fn under_way(name: &str) -> Error {
    Error::HostFunction {
        function: name.to_owned(),
        source: "it is in the middle of a call, in which it has called the guest; try: a host function of another name \
                 for the call within"
            .into(),
    }
}

/// The host functions that a sandbox is given.
#[derive(Default)]
pub(crate) struct HostFunctions {
    /// By their numbers. There are gaps where a snapshot has numbers that its guest does not use.
    functions: Vec<Option<(String, HostFunction)>>,
    numbers: HashMap<(String, String), usize>,
}

impl HostFunctions {
    /// Adds one, in place of an earlier one of the same name.
    pub(crate) fn add(&mut self, module: &str, name: &str, ty: FuncType, body: Body) {
        let number = self.functions.len();
        self.functions.push(Some((format!("{module}.{name}"), HostFunction { ty, body })));
        self.numbers.insert((module.to_owned(), name.to_owned()), number);
    }

    /// The number and type of one.
    pub(crate) fn find(&self, module: &str, name: &str) -> Option<(usize, &FuncType)> {
        let number = *self.numbers.get(&(module.to_owned(), name.to_owned()))?;
        let (_, function) = self.functions.get(number)?.as_ref()?;
        Some((number, &function.ty))
    }

    /// The same functions with those numbers that a guest knows them by; the others come after them.
    ///
    /// # Errors
    /// All that are missing, or have other types.
    pub(crate) fn numbered(
        mut self,
        wanted: &BTreeMap<u32, HostImport>,
    ) -> Result<Self, Vec<ImportError>> {
        let mut new = Self::default();
        let mut missing = Vec::new();
        for (number, import) in wanted {
            let problem = match self.find(&import.module, &import.name) {
                Some((at, ty)) if *ty == import.ty => {
                    let number = *number as usize;
                    new.functions.resize_with(number, || None);
                    new.functions.push(self.functions[at].take());
                    let name = (import.module.clone(), import.name.clone());
                    self.numbers.remove(&name);
                    new.numbers.insert(name, number);
                    continue;
                }
                Some((_, ty)) => {
                    format!("the snapshot's guest wants the type {}, this one is {ty}", import.ty)
                }
                None => "the snapshot's guest calls it; define it".to_owned(),
            };
            let import = Some((import.module.clone(), import.name.clone()));
            missing.push(ImportError { import, problem });
        }
        for (name, at) in self.numbers {
            new.numbers.insert(name, new.functions.len());
            new.functions.push(self.functions[at].take());
        }
        if missing.is_empty() { Ok(new) } else { Err(missing) }
    }

    /// What one does, to be [put back](Self::put_back) after the call: it may call the guest, and the guest others.
    pub(crate) fn take(&mut self, number: usize) -> Result<(tracing::Span, Body), Error> {
        let (name, function) = self.get(number)?;
        match mem::replace(&mut function.body, Body::UnderWay) {
            Body::UnderWay => Err(under_way(name)),
            body => Ok((tracing::trace_span!("host_function", name), body)),
        }
    }

    /// After a call.
    pub(crate) fn put_back(&mut self, number: usize, body: Body) {
        if let Ok((_, function)) = self.get(number) {
            function.body = body;
        }
    }

    /// Calls one that returns a future, which whoever asks then has to await. `None`: it is another one.
    pub(crate) fn begin(&mut self, number: usize, args: &[Value]) -> Option<Pending> {
        match self.get(number) {
            Ok((name, HostFunction { body: Body::Later(call), .. })) => {
                let span = tracing::trace_span!("host_function", name);
                let future = span.in_scope(|| call(args));
                Some(Box::pin(future.instrument(span)))
            }
            _ => None,
        }
    }

    /// What a future has become that [`begin`](Self::begin) gave, if that is of its type.
    pub(crate) fn finish(
        &mut self,
        number: usize,
        result: Result<Vec<Value>, BoxError>,
    ) -> Result<Vec<Value>, Error> {
        let (name, function) = self.get(number)?;
        function.returned(name, result)
    }

    fn get(&mut self, number: usize) -> Result<(&str, &mut HostFunction), Error> {
        match self.functions.get_mut(number).and_then(Option::as_mut) {
            Some((name, function)) => Ok((name, function)),
            None => Err(Error::Guest(format!("it called host function {number}, never given"))),
        }
    }
}

impl fmt::Debug for HostFunctions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.functions.iter().flatten().map(|(name, _)| name)).finish()
    }
}
