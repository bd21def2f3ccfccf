//! Host functions for components.

use crate::caller::{Caller, Calling};
use crate::error::{BoxError, Error, ImportError};
use crate::guest::ComponentCall;
use crate::host::Host;
use crate::host_functions::{WithCaller, under_way};
use sandgrain_abi::component::{FunctionType, Lift, Lower, Reader, Type, Types, Val, Writer};
use std::any::type_name;
use std::collections::HashMap;
use std::fmt;
use std::future::{Future, ready};
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use tracing::Instrument;

/// An error of a host function that ends the guest's call: the caller of the sandbox gets it as
/// [`Error::HostFunction`]. Errors that the guest is to see are values, of the interface's own result type.
#[derive(Debug)]
pub struct Abort(BoxError);

impl Abort {
    /// Ends the call with this error.
    pub fn new(error: impl Into<BoxError>) -> Self {
        Self(error.into())
    }
}

impl<E: std::error::Error + Send + Sync + 'static> From<E> for Abort {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

/// Tells closures that can end the guest's call from those that cannot.
#[derive(Debug)]
pub struct CanAbort;

/// Whether a component's type is a certain one of Rust's.
type IsOf = fn(Type, &Types) -> bool;

/// Whether a function takes so many parameters, each of its type.
pub(crate) fn are_params(ty: &FunctionType, types: &Types, are_of: &[IsOf]) -> bool {
    let mut params = ty.params.iter().zip(are_of);
    ty.params.len() == are_of.len() && params.all(|(param, is_of)| is_of(param.ty, types))
}

/// Whether a function's result has the type `R`. One without a result returns `()`.
pub(crate) fn is_result<R>(ty: &FunctionType, types: &Types, is_of: IsOf) -> bool {
    match ty.result {
        Some(result) => is_of(result, types),
        None => size_of::<R>() == 0,
    }
}

/// A result as it travels.
fn written<R: Lower>(result: &R) -> Result<Writer, BoxError> {
    let mut out = Writer::new();
    result.lower(&mut out);
    Ok(out)
}

/// What a host function is called with, and the guest that calls it.
pub struct Arguments<'a> {
    call: &'a ComponentCall,
    guest: &'a mut dyn Calling,
    host: &'a mut Host,
    is_over_budget: bool,
}

impl<'a> Arguments<'a> {
    pub(crate) fn new(
        call: &'a ComponentCall,
        guest: &'a mut dyn Calling,
        host: &'a mut Host,
    ) -> Self {
        Self { call, guest, host, is_over_budget: false }
    }

    /// Reads them, where they are in the guest's memory.
    fn read<T>(
        &mut self,
        read: impl FnOnce(&mut Reader<'_>) -> Result<T, BoxError>,
    ) -> Result<T, BoxError> {
        let attachments = self.guest.attachments()?;
        let mut from = self.call.reader(&attachments, &self.host.promised, self.host.call_bytes);
        let result = read(&mut from);
        self.is_over_budget |= from.is_over_budget();
        result
    }

    /// Whether they were more than they may be.
    pub(crate) fn is_over_budget(&self) -> bool {
        self.is_over_budget
    }

    fn caller(&mut self) -> Caller<'_> {
        Caller::new(self.guest, self.host)
    }
}

impl fmt::Debug for Arguments<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Arguments").field("call", &self.call).finish_non_exhaustive()
    }
}

/// Reads arguments and writes the result.
pub(crate) type Call = Box<dyn FnMut(&mut Arguments<'_>) -> Result<Writer, BoxError> + Send>;

/// What an asynchronous host function is going to return.
pub(crate) type PendingWriter = Pin<Box<dyn Future<Output = Result<Writer, BoxError>> + Send>>;

type AsyncCall = Box<dyn FnMut(&mut Reader<'_>) -> PendingWriter + Send>;

/// Checks a component's type of a function against Rust's.
type Check = fn(&FunctionType, &Types) -> bool;

/// A closure that can be a host function for components: `FnMut(A, B, ...) -> R` of types that a component passes, or
/// `-> Result<R, Abort>` where it may also end the guest's call; with a [`Caller`] before the arguments, if it calls the
/// guest.
pub trait ComponentFunction<Marker>: Send + 'static {
    /// What a component's function must be to be satisfied by it.
    fn check() -> (Check, &'static str);
    /// The function in the one form in which all are kept.
    fn into_call(self) -> Call;
}

/// A closure that can be an asynchronous host function for components: `FnMut(A, B, ...) -> F`, where `F` is a future of
/// what a host function returns.
pub trait AsyncComponentFunction<Marker>: Send + 'static {
    /// What a component's function must be to be satisfied by it.
    fn check() -> (Check, &'static str);
    /// The function in the one form in which all are kept.
    fn into_call(self) -> AsyncCall;
}

/// One way in which a closure can be a host function: by what it returns, `$returned` of `R`, and how its value of
/// that comes of it.
macro_rules! closure {
    ($marker:ty, $returned:ty, $value:ident => $written:expr; $($name:ident)*) => {
        #[allow(non_snake_case, unused_variables, reason = "a type's name serves for its value")]
        impl<Closure, R, $($name),*> ComponentFunction<($marker, ($($name,)*), R)> for Closure
        where
            Closure: FnMut($($name),*) -> $returned + Send + 'static,
            R: Lower,
            $($name: for<'a> Lift<'a>,)*
        {
            fn check() -> (Check, &'static str) {
                (is_of::<R, ($($name,)*)>, type_name::<fn($($name),*) -> $returned>())
            }

            fn into_call(mut self) -> Call {
                Box::new(move |args| {
                    let ($($name,)*) = args.read(|args| Ok(($($name::lift(args)?,)*)))?;
                    let $value = self($($name),*);
                    $written
                })
            }
        }

        #[allow(non_snake_case, unused_variables, reason = "a type's name serves for its value")]
        impl<Closure, R, $($name),*> ComponentFunction<(WithCaller, $marker, ($($name,)*), R)> for Closure
        where
            Closure: FnMut(&mut Caller<'_>, $($name),*) -> $returned + Send + 'static,
            R: Lower,
            $($name: for<'a> Lift<'a>,)*
        {
            fn check() -> (Check, &'static str) {
                (is_of::<R, ($($name,)*)>, type_name::<fn($($name),*) -> $returned>())
            }

            fn into_call(mut self) -> Call {
                Box::new(move |args| {
                    let ($($name,)*) = args.read(|args| Ok(($($name::lift(args)?,)*)))?;
                    let $value = self(&mut args.caller(), $($name),*);
                    $written
                })
            }
        }

        #[allow(non_snake_case, unused_variables, reason = "a type's name serves for its value")]
        impl<Closure, Later, R, $($name),*> AsyncComponentFunction<($marker, ($($name,)*), Later, R)>
            for Closure
        where
            Closure: FnMut($($name),*) -> Later + Send + 'static,
            Later: Future<Output = $returned> + Send + 'static,
            R: Lower,
            $($name: for<'a> Lift<'a>,)*
        {
            fn check() -> (Check, &'static str) {
                (is_of::<R, ($($name,)*)>, type_name::<fn($($name),*) -> $returned>())
            }

            fn into_call(mut self) -> AsyncCall {
                Box::new(move |args| {
                    let mut begin = || -> Result<Later, BoxError> {
                        $(let $name = $name::lift(args)?;)*
                        Ok(self($($name),*))
                    };
                    match begin() {
                        Ok(future) => Box::pin(async move {
                            let $value = future.await;
                            $written
                        }),
                        Err(error) => Box::pin(ready(Err(error))),
                    }
                })
            }
        }
    };
}

macro_rules! closures {
    ($(($($name:ident)*))*) => {$(
        closure!((), R, value => written(&value); $($name)*);
        closure!(CanAbort, Result<R, Abort>, value => written(&value.map_err(|Abort(error)| error)?);
            $($name)*);

        impl<$($name: for<'a> Lift<'a>,)*> Params for ($($name,)*) {
            fn is_of(ty: &FunctionType, types: &Types) -> bool {
                are_params(ty, types, &[$($name::is_of),*])
            }
        }
    )*};
}

/// Parameters of a closure.
trait Params {
    fn is_of(ty: &FunctionType, types: &Types) -> bool;
}

fn is_of<R: Lower, P: Params>(ty: &FunctionType, types: &Types) -> bool {
    P::is_of(ty, types) && is_result::<R>(ty, types, R::is_of)
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

/// A host function that reads its arguments itself.
type InPlaceCall = Box<dyn FnMut(&mut Reader<'_>) -> Result<Writer, BoxError> + Send>;

/// A dynamic host function.
type DynamicCall = Box<dyn FnMut(&[Val]) -> Result<Option<Val>, BoxError> + Send>;

/// What a host function does when it is called.
pub(crate) enum Body {
    /// It has returned by then.
    Now(Check, &'static str, Call),
    /// It returns when its future is done.
    Later(Check, &'static str, AsyncCall),
    /// It reads its arguments itself.
    InPlace(InPlaceCall),
    /// It takes and returns values of any type.
    Dynamic(DynamicCall),
    /// It is being called, and has called the guest.
    UnderWay,
}

impl Body {
    /// Calls it, of this definition. Where it returns a future, this thread waits for it.
    pub(crate) fn call(
        &mut self,
        definition: Option<&Definition>,
        args: &mut Arguments<'_>,
    ) -> Result<Result<Writer, BoxError>, sandgrain_wasi::Error> {
        Ok(match (self, definition) {
            (Self::Now(_, _, call), _) => call(args),
            (Self::InPlace(call), _) => args.read(|from| call(from)),
            (Self::Later(_, _, call), _) => match args.read(|from| Ok(call(from))) {
                Ok(future) => args.host.cancel.block_on(future)?,
                Err(error) => Err(error),
            },
            (Self::Dynamic(call), Some(definition)) => {
                args.read(|from| dynamic(call, definition, from))
            }
            (Self::Dynamic(_) | Self::UnderWay, _) => {
                Err("it was called by a component that has not imported it".into())
            }
        })
    }
}

/// A component's function as it has imported it.
#[derive(Clone, Debug)]
pub(crate) struct Definition {
    pub(crate) ty: FunctionType,
    pub(crate) types: Arc<Types>,
}

struct HostFunction {
    name: String,
    body: Body,
    /// Its type, once a component has imported it: for functions that take values of any type.
    definition: Option<Definition>,
}

/// A resource type of the host's.
pub(crate) struct ResourceType {
    pub(crate) drop: Box<dyn FnMut(u32) + Send>,
}

/// The host functions and resource types that a sandbox's components are given.
#[derive(Default)]
pub(crate) struct ComponentFunctions {
    functions: Vec<HostFunction>,
    numbers: HashMap<Vec<String>, u32>,
    resources: Vec<ResourceType>,
    resource_numbers: HashMap<Vec<String>, u32>,
}

/// The path of a name in an instance; of a name at the root, if there is no instance.
pub(crate) fn path(instance: &str, name: &str) -> Vec<String> {
    let parts = [instance, name].into_iter().filter(|part| !part.is_empty());
    parts.map(str::to_owned).collect()
}

impl ComponentFunctions {
    /// Adds one, in place of an earlier one of the same name.
    pub(crate) fn add(&mut self, instance: &str, name: &str, body: Body) {
        let path = path(instance, name);
        let function = HostFunction { name: path.join("."), body, definition: None };
        self.numbers.insert(path, self.functions.len() as u32);
        self.functions.push(function);
    }

    /// Adds a resource type.
    pub(crate) fn add_resource(&mut self, instance: &str, name: &str, ty: ResourceType) {
        self.resource_numbers.insert(path(instance, name), self.resources.len() as u32);
        self.resources.push(ty);
    }

    /// The number of the resource type of this name.
    pub(crate) fn find_resource(&self, path: &[String]) -> Option<u32> {
        self.resource_numbers.get(path).copied()
    }

    /// The number of a function that satisfies an import; `None` if there is none of that name.
    ///
    /// # Errors
    /// What is wrong with the type.
    pub(crate) fn find(
        &mut self,
        path: &[String],
        ty: &FunctionType,
        types: &Arc<Types>,
    ) -> Option<Result<u32, String>> {
        let number = *self.numbers.get(path)?;
        let function = self.functions.get_mut(number as usize)?;
        let is_right = match &function.body {
            Body::Now(check, rust, _) | Body::Later(check, rust, _) if !check(ty, types) => {
                Err(rust)
            }
            _ => Ok(()),
        };
        Some(match is_right {
            Ok(()) => {
                function.definition = Some(Definition { ty: ty.clone(), types: Arc::clone(types) });
                Ok(number)
            }
            Err(rust) => Err(format!(
                "the component wants {}, the host function is {rust}",
                types.summary_of_function(ty)
            )),
        })
    }

    /// The functions with the numbers that a guest knows them by; the others come after them.
    ///
    /// # Errors
    /// All that are missing.
    pub(crate) fn numbered(
        mut self,
        wanted: &[(u32, Vec<String>)],
    ) -> Result<Self, Vec<ImportError>> {
        let mut places: Vec<Option<HostFunction>> = self.functions.drain(..).map(Some).collect();
        let mut ordered: Vec<Option<HostFunction>> = Vec::new();
        let mut missing = Vec::new();
        let mut numbers = HashMap::new();
        for (number, path) in wanted {
            let found = self.numbers.remove(path);
            let Some(function) = found.and_then(|at| places[at as usize].take()) else {
                let problem = "the snapshot's guest calls it; define it".to_owned();
                missing.push(ImportError::of_component(path, problem));
                continue;
            };
            let at = *number as usize;
            if ordered.len() <= at {
                ordered.resize_with(at + 1, || None);
            }
            ordered[at] = Some(function);
            numbers.insert(path.clone(), *number);
        }
        if !missing.is_empty() {
            return Err(missing);
        }
        for (path, at) in std::mem::take(&mut self.numbers) {
            if let Some(function) = places[at as usize].take() {
                numbers.insert(path, ordered.len() as u32);
                ordered.push(Some(function));
            }
        }
        let unused = || HostFunction {
            name: "unused".to_owned(),
            body: Body::Dynamic(Box::new(|_| Err("a function that was never given".into()))),
            definition: None,
        };
        self.functions =
            ordered.into_iter().map(|function| function.unwrap_or_else(unused)).collect();
        self.numbers = numbers;
        Ok(self)
    }

    fn get(&mut self, number: u32) -> Result<&mut HostFunction, Error> {
        let function = self.functions.get_mut(number as usize);
        function
            .ok_or_else(|| Error::Guest(format!("it called host function {number}, never given")))
    }

    /// What one does, and its type, to be [put back](Self::put_back) after the call: it may call the guest, and the guest
    /// others.
    pub(crate) fn take(
        &mut self,
        number: u32,
    ) -> Result<(tracing::Span, Body, Option<Definition>), Error> {
        let HostFunction { name, body, definition } = self.get(number)?;
        match mem::replace(body, Body::UnderWay) {
            Body::UnderWay => Err(under_way(name)),
            body => Ok((tracing::trace_span!("host_function", name), body, definition.take())),
        }
    }

    /// After a call.
    pub(crate) fn put_back(&mut self, number: u32, body: Body, definition: Option<Definition>) {
        if let Ok(function) = self.get(number) {
            (function.body, function.definition) = (body, definition);
        }
    }

    /// Calls one that returns a future, which whoever asks then has to await. `None`: it is another one.
    pub(crate) fn begin(&mut self, number: u32, args: &mut Reader<'_>) -> Option<PendingWriter> {
        match self.get(number) {
            Ok(HostFunction { name, body: Body::Later(_, _, call), .. }) => {
                let span = tracing::trace_span!("host_function", name);
                let future = span.in_scope(|| call(args));
                Some(Box::pin(future.instrument(span)))
            }
            _ => None,
        }
    }

    /// What one has returned.
    pub(crate) fn finish(
        &mut self,
        number: u32,
        result: Result<Writer, BoxError>,
    ) -> Result<Writer, Error> {
        let function = self.get(number)?.name.clone();
        result.map_err(|source| Error::HostFunction { function, source })
    }

    /// The guest has dropped a resource.
    pub(crate) fn dropped(&mut self, ty: u32, resource: u32) -> Result<(), Error> {
        match self.resources.get_mut(ty as usize) {
            Some(ty) => {
                (ty.drop)(resource);
                Ok(())
            }
            None => Err(Error::Guest(format!("it dropped a resource of type {ty}, never given"))),
        }
    }
}

fn dynamic(
    call: &mut DynamicCall,
    Definition { ty, types }: &Definition,
    args: &mut Reader<'_>,
) -> Result<Writer, BoxError> {
    let mut values = Vec::with_capacity(ty.params.len());
    for param in &ty.params {
        values.push(types.lift(param.ty, args)?);
    }
    let result = call(&values)?;
    let mut out = Writer::new();
    match (ty.result, result) {
        (Some(ty), Some(value)) => types.lower(&value, ty, &mut out)?,
        (None, None) => {}
        (Some(ty), None) => {
            return Err(format!("it returned nothing, its type is {}", types.summary(ty)).into());
        }
        (None, Some(value)) => {
            return Err(format!("it returned a {}, its type has no result", value.kind()).into());
        }
    }
    Ok(out)
}

impl fmt::Debug for ComponentFunctions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.functions.iter().map(|function| &function.name)).finish()
    }
}
