//! Instances of components, their functions, and their resources that the host has handles of.

use crate::canonical::{Arguments, HostArguments, HostResult, Lifted, Lowered, Returned};
use crate::instances::{Context, Made, answered};
use crate::promises::Promises;
use crate::report::{self, Aborted, Misused};
use crate::{Embedder, State};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use sandgrain_abi::HostReply;
use sandgrain_abi::component::{Payload, ResourceHandle};
use sandgrain_abi::message::{ComponentImport, ImportedItem, Known, Outcome, Promise};
use wasmtime::component::{Func, Linker, LinkerInstance, ResourceAny, ResourceType};
use wasmtime::{Error, Result, StoreContextMut, Trap};

/// Resource types that the host can define for a guest.
pub(crate) const MAX_HOST_TYPES: u32 = 2048;

/// Handles that the host has of the guest's resources.
const MAX_RESOURCES: usize = 1 << 16;

/// Why a host function cannot call the component that it was called by.
const REENTERED: &str = "the component is in the middle of a call, and by the component model's rules nothing may enter it before that \
                         has returned";

/// What a store has of components.
#[derive(Default)]
pub(crate) struct Components {
    /// Resources of the guest that the host has handles of, by the numbers that it knows them by.
    resources: Vec<Option<ResourceAny>>,
    /// Numbers that are free again.
    free: Vec<u32>,
    /// Calls of the host that it has not been told of yet, and what is known without asking.
    pub(crate) promises: Promises,
    /// Instances that are in the middle of a call.
    entered: Vec<u32>,
    /// Whether a component has broken a rule. The engine itself remembers that only of WebAssembly's traps, not of
    /// values that it could not read or write.
    has_trapped: bool,
}

impl Components {
    fn keep(&mut self, resource: ResourceAny) -> Result<ResourceHandle> {
        let owned = resource.owned();
        let number = match self.free.pop() {
            Some(number) => number,
            None if self.resources.len() < MAX_RESOURCES => {
                self.resources.push(None);
                (self.resources.len() - 1) as u32
            }
            None => return Err(Error::msg("limit: more resources than the host may be given")),
        };
        self.resources[number as usize] = Some(resource);
        Ok(ResourceHandle { number, owned })
    }

    /// Whether this instance may be entered; or any, to drop a resource of which it is not known whose it is.
    fn may_be_entered(&self, instance: Option<u32>) -> Result<()> {
        if self.has_trapped {
            return Err(Trap::CannotEnterComponent.into());
        }
        let is_entered = match instance {
            Some(instance) => self.entered.contains(&instance),
            None => !self.entered.is_empty(),
        };
        match is_entered {
            // The engine would take it for a trap, after which the component is of no use.
            true => Err(Error::new(Misused(REENTERED.to_string()))),
            false => Ok(()),
        }
    }

    fn take(&mut self, number: u32) -> Result<ResourceAny> {
        let resource = self.resources.get_mut(number as usize).and_then(Option::take);
        let resource =
            resource.ok_or_else(|| Error::new(Misused(format!("no resource {number}"))))?;
        self.free.push(number);
        Ok(resource)
    }

    fn get(&self, number: u32) -> Result<ResourceAny> {
        let resource = self.resources.get(number as usize).copied().flatten();
        resource.ok_or_else(|| Error::new(Misused(format!("no resource {number}"))))
    }
}

/// What has been lifted as it travels. The host gets numbers for the guest's resources among it.
fn outgoing(components: &mut Components, lifted: Lifted) -> Result<Payload> {
    let Lifted { body, attachments, resources } = lifted;
    let resources = resources.into_iter().map(|resource| components.keep(resource));
    Ok(Payload { body, attachments, resources: resources.collect::<Result<_>>()? })
}

/// What has travelled, to be lowered. What is given away the host has no number for any more.
fn incoming(components: &mut Components, payload: Payload) -> Result<Lowered> {
    let resource = |handle: &ResourceHandle| match handle.owned {
        true => components.take(handle.number),
        false => components.get(handle.number),
    };
    let resources = payload.resources.iter().map(resource).collect::<Result<_>>()?;
    Ok(Lowered { payload, resources })
}

pub(crate) fn instantiate<E: Embedder>(
    store: &mut Context<'_, E>,
    address: u64,
    len: u64,
    imports: &[ComponentImport],
) -> Result<Outcome> {
    let engine = store.engine().clone();
    let component = store.data_mut().embedder.component(&engine, address, len)?;
    let mut linker = Linker::<State<E>>::new(&engine);
    for import in imports {
        define(&mut linker, import)?;
    }
    let instance = linker.instantiate(&mut *store, &component);
    store.data_mut().components.promises.know(Vec::new());
    let instance = instance?;
    Ok(store.data_mut().made(Made::Component(instance)))
}

/// Defines what the host offers under a path of names.
fn define<E: Embedder>(linker: &mut Linker<State<E>>, import: &ComponentImport) -> Result<()> {
    let Some((name, path)) = import.path.split_last() else {
        return Err(Error::msg("an import without a name"));
    };
    let mut place = linker.root();
    for instance in path {
        place = place.into_instance(instance)?;
    }
    match import.item {
        ImportedItem::Function { number, params, results, promise } => {
            function(&mut place, name, number, (params, results), promise)
        }
        ImportedItem::Resource { ty, drop } if ty < MAX_HOST_TYPES => {
            place.resource(name, ResourceType::host_dynamic(ty), move |store, rep| {
                dropped(store, drop, rep)
            })
        }
        ImportedItem::Resource { .. } => {
            Err(Error::msg("limit: more resource types than there may be"))
        }
        ImportedItem::Instance => place.into_instance(name).map(|_| ()),
    }
}

/// Defines a function of the host that is called with and returns so many of WebAssembly's values.
fn function<E: Embedder>(
    place: &mut LinkerInstance<'_, State<E>>,
    name: &str,
    number: u32,
    (params, results): (u8, u8),
    promise: Promise,
) -> Result<()> {
    macro_rules! with {
        ($($params:literal)*) => {
            match (params, results) {
                $(
                    ($params, 0) => place.func_wrap(
                        name,
                        move |store: StoreContextMut<'_, State<E>>, args: HostArguments<E, $params>| {
                            call_host(store, number, promise, args.0).map(HostResult::<E, 0>::new)
                        },
                    ),
                    ($params, 1) => place.func_wrap(
                        name,
                        move |store: StoreContextMut<'_, State<E>>, args: HostArguments<E, $params>| {
                            call_host(store, number, promise, args.0).map(HostResult::<E, 1>::new)
                        },
                    ),
                )*
                _ => Err(Error::msg("more values than a function is passed")),
            }
        };
    }
    with!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16)
}

/// Calls a function of the host.
fn call_host<E: Embedder>(
    mut store: StoreContextMut<'_, State<E>>,
    function: u32,
    promise: Promise,
    args: Lifted,
) -> Result<Lowered> {
    let components = &mut store.data_mut().components;
    if args.attachments.is_empty()
        && args.resources.is_empty()
        && let Some(body) = components.promises.answer(function, promise, &args.body, E::ticks)
    {
        let payload = Payload { body, ..Payload::default() };
        return Ok(Lowered { payload, resources: Vec::new() });
    }
    components.promises.asked(promise, &args.body);
    let args = outgoing(components, args)?;
    let asked = args.body.get(..4).map_or(Vec::new(), <[u8]>::to_vec);
    let borrowed: Vec<u32> =
        args.resources.iter().filter(|handle| !handle.owned).map(|handle| handle.number).collect();
    let queued = components.promises.take();
    let reply = E::call_component(&mut store, function, args, queued);
    let reply = answered(&mut store, reply);
    // What was lent for the call goes back with it.
    for number in borrowed {
        let resource = store.data_mut().components.take(number)?;
        resource.resource_drop(&mut store)?;
    }
    match reply {
        Ok(HostReply::Component(payload)) => incoming(&mut store.data_mut().components, payload),
        Ok(HostReply::ComponentTold { mut result, told }) => {
            let components = &mut store.data_mut().components;
            let answer = &mut result.body;
            components.promises.told(promise, &asked, answer, told, E::ticks());
            incoming(components, result)
        }
        Ok(HostReply::Abort) => Err(Error::new(Aborted)),
        Ok(_) => Err(Error::new(Misused("the host answered with something else".to_string()))),
        Err(error) => Err(Error::new(Misused(error))),
    }
}

/// The guest has dropped a resource of the host, which learns of it when it is asked the next time.
fn dropped<E: Embedder>(
    mut store: StoreContextMut<'_, State<E>>,
    function: u32,
    resource: u32,
) -> Result<()> {
    if !store.data_mut().components.promises.drop_resource(function, resource) {
        flush(&mut store)?;
        store.data_mut().components.promises.drop_resource(function, resource);
    }
    Ok(())
}

/// Has the host do what is queued.
fn flush<E: Embedder>(store: &mut StoreContextMut<'_, State<E>>) -> Result<()> {
    let queued = store.data_mut().components.promises.take();
    let reply = E::call_component(store, HostReply::NO_FUNCTION, Payload::default(), queued);
    match reply {
        Ok(HostReply::Component(_)) => Ok(()),
        Ok(HostReply::Abort) => Err(Error::new(Aborted)),
        Ok(_) => Err(Error::new(Misused("the host answered with something else".to_string()))),
        Err(error) => Err(Error::new(Misused(error))),
    }
}

pub(crate) fn call<E: Embedder>(
    store: &mut Context<'_, E>,
    instance: u32,
    path: &[String],
    args: Payload,
    known: Vec<Known>,
) -> Result<Outcome> {
    let function = find(store, instance, path)?;
    let function = function.typed::<Arguments<E>, Returned<E>>(&*store)?;
    let components = &mut store.data_mut().components;
    components.may_be_entered(Some(instance))?;
    let args = incoming(components, args)?;
    let outer = components.promises.know(known);
    components.entered.push(instance);
    let returned = function.call(&mut *store, Arguments::new(args));
    let components = &mut store.data_mut().components;
    components.entered.pop();
    components.promises.know(outer);
    let returned = match returned {
        Ok(returned) => returned,
        Err(error) => {
            let (error, has_trapped) = report::of_component(error);
            components.has_trapped |= has_trapped;
            // What it had done before it failed is done.
            if !error.is::<Aborted>() && !components.promises.is_empty() {
                flush(store)?;
            }
            return Err(error);
        }
    };
    let result = outgoing(components, returned.0)?;
    Ok(Outcome::Component { result, queued: components.promises.take() })
}

fn find<E: Embedder>(store: &mut Context<'_, E>, instance: u32, path: &[String]) -> Result<Func> {
    let Made::Component(instance) = store.data().instance(instance)? else {
        return Err(Error::msg(format!("instance {instance} is one of a module")));
    };
    let mut at = None;
    for name in path {
        at = instance.get_export_index(&mut *store, at.as_ref(), name);
        if at.is_none() {
            return Err(Error::msg(format!("no export {path:?}")));
        }
    }
    let found = at.and_then(|at| instance.get_func(&mut *store, at));
    found.ok_or_else(|| Error::msg(format!("{path:?} is not a function")))
}

/// Drops a resource of the guest that the host has a handle of.
pub(crate) fn drop_resource<E: Embedder>(
    store: &mut Context<'_, E>,
    number: u32,
) -> Result<Outcome> {
    let components = &mut store.data_mut().components;
    components.may_be_entered(None)?;
    let resource = components.take(number)?;
    let dropped = resource.resource_drop(&mut *store);
    store.data_mut().components.promises.know(Vec::new());
    dropped?;
    Ok(Outcome::Returned(Vec::new()))
}
