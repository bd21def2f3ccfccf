//! Snapshots: sandboxes as they were at one moment, to make others from.

use crate::component::{ComponentFunctions, Function};
use crate::engine::Engine;
use crate::error::{Error, ImportError, Result};
use crate::guest::GuestImage;
use crate::host::WASI;
use crate::host_functions::HostImport;
use crate::learned::Learned;
use crate::limits::Limits;
use crate::module::Interface;
use crate::sandbox::{Instance, SandboxBuilder};
use sandgrain_abi::{DecodeError, Decoder, Encode, Encoder, Info};
use sandgrain_hypervisor::{HypervisorKind, MemoryImage};
use sandgrain_wasi::WasiConfig;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

/// A sandbox as it was when [`Sandbox::snapshot`](crate::Sandbox::snapshot) was called. Cheap to clone; any number
/// of sandboxes can be made of it, each in a VM of its own.
///
/// They share its memory until they write to it. What the host gives, host functions and WASI, is given to each
/// anew; clocks and randomness are the host's at the time of the call.
#[derive(Clone)]
pub struct Snapshot {
    state: Arc<State>,
}

/// What a snapshot holds.
pub(crate) struct State {
    pub(crate) engine: Engine,
    pub(crate) guest: GuestImage,
    pub(crate) limits: Limits,
    pub(crate) instances: Vec<Arc<Interface>>,
    pub(crate) names: Arc<HashMap<String, Instance>>,
    pub(crate) main: Instance,
    /// The host functions that the guest may call, WASI's among them, by the numbers that it knows.
    pub(crate) imports: Arc<BTreeMap<u32, HostImport>>,
    /// The functions of the host that its components may call, by the numbers that they know.
    pub(crate) component_imports: Arc<BTreeMap<u32, Vec<String>>>,
    /// If the guest calls WASI: what it expects of it.
    pub(crate) wasi: Option<WasiTies>,
    /// Whether the guest was given random bytes before.
    pub(crate) shares_randomness: bool,
    /// Which pages the calls of its sandboxes touch.
    pub(crate) learned: Learned,
}

/// What a guest knows of the WASI that it had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WasiTies {
    /// The names of its directories, in the order of their descriptors, if it may have asked for them.
    pub(crate) directories: Option<Vec<String>>,
}

impl State {
    pub(crate) fn knows_directories(&self) -> bool {
        self.wasi.as_ref().is_some_and(|wasi| wasi.directories.is_some())
    }

    /// Whether a guest can go on with this WASI.
    pub(crate) fn check_wasi(&self, config: Option<&WasiConfig>) -> Result<()> {
        let Some(ties) = &self.wasi else { return Ok(()) };
        let Some(config) = config else {
            return Err(Error::Snapshot(
                "the snapshot's guest calls WASI, which is not granted; try: granting it"
                    .to_owned(),
            ));
        };
        let names: Vec<&str> = config.directory_names().collect();
        match &ties.directories {
            Some(known) if *known != names => Err(Error::Snapshot(format!(
                "the snapshot's guest knows the directories {known:?}, in this order; {names:?} are granted; \
                 try: directories with those names"
            ))),
            _ => Ok(()),
        }
    }

    /// Host functions for components with the numbers and types that the guest knows them by.
    ///
    /// # Errors
    /// All that are missing or have other types.
    pub(crate) fn renumber(
        &self,
        functions: ComponentFunctions,
    ) -> Result<ComponentFunctions, Vec<ImportError>> {
        let wanted: Vec<_> = self
            .component_imports
            .range(..WASI)
            .map(|(number, path)| (*number, path.clone()))
            .collect();
        let mut functions = functions.numbered(&wanted)?;
        let mut errors = Vec::new();
        for info in self.instances.iter().filter_map(|instance| instance.component()) {
            let types = Arc::new(info.types.clone());
            for Function { path, ty } in &info.imports {
                if let Some(Err(problem)) = functions.find(path, ty, &types) {
                    let import =
                        Some((path[..path.len() - 1].join("#"), path[path.len() - 1].clone()));
                    errors.push(ImportError { import, problem });
                }
            }
        }
        if errors.is_empty() { Ok(functions) } else { Err(errors) }
    }

    /// Whether limits differ from the snapshot's where the guest has been built with them.
    pub(crate) fn check_limits(&self, limits: &Limits) -> Result<()> {
        let Limits { deadline, stdout, stderr, .. } = *limits;
        let own = self.limits.clone().deadline(deadline).stdout(stdout).stderr(stderr);
        if *limits == own {
            return Ok(());
        }
        Err(Error::Snapshot(format!(
            "of a snapshot's limits only the deadline and those of the output can be changed, the others are \
             built into its guest: {:?}; try: those, or a snapshot with other limits",
            self.limits
        )))
    }
}

/// Numbers of host functions that are taken from bytes, at the most: room is made for all below the largest.
const MAX_FUNCTIONS: u32 = 1 << 16;

impl State {
    /// Appends all of it but its engine and the content of its memory.
    pub(crate) fn encode(&self, out: &mut Encoder<'_>) {
        let Self {
            guest, limits, instances, names, main, imports, component_imports, wasi, ..
        } = self;
        limits.encode(out);
        out.len(instances.len());
        for instance in instances {
            instance.kind().encode(out);
        }
        let mut names: Vec<_> =
            names.iter().map(|(name, instance)| (name.clone(), instance.number())).collect();
        // The same snapshot becomes the same bytes.
        names.sort_unstable();
        out.list(&names);
        out.u32(main.number());
        let imports: Vec<_> =
            imports.iter().map(|(number, import)| (*number, import.clone())).collect();
        out.list(&imports);
        let imported = component_imports.iter();
        let imported =
            imported.map(|(number, path)| Imported { number: *number, path: path.clone() });
        out.list(&imported.collect::<Vec<_>>());
        wasi.encode(out);
        out.u8(u8::from(self.shares_randomness));
        guest.encode(out);
    }

    /// Reads what [`encode`](Self::encode) has appended, which must be all of the rest, with an engine with this
    /// kind of hypervisor and the guest's memory.
    pub(crate) fn decode(
        from: &mut Decoder<'_>,
        engine: &Engine,
        kind: HypervisorKind,
        memory: MemoryImage,
    ) -> Result<Self, DecodeError> {
        let limits = Limits::decode(from)?;
        let infos: Vec<Info> = from.list()?;
        let instances: Vec<_> =
            infos.into_iter().map(|info| Arc::new(Interface::new(info))).collect();
        let instance = |from: &Decoder<'_>, number: u32| {
            let known = (number as usize) < instances.len();
            known.then(|| Instance::new(number)).ok_or_else(|| from.error("an instance"))
        };
        let mut names = HashMap::new();
        for (name, number) in from.list::<(String, u32)>()? {
            names.insert(name, instance(from, number)?);
        }
        let main = from.u32()?;
        let main = instance(from, main)?;
        let mut imports = BTreeMap::new();
        for (number, import) in from.list::<(u32, HostImport)>()? {
            let known = !(MAX_FUNCTIONS..WASI).contains(&number);
            if !known || imports.insert(number, import).is_some() {
                return Err(from.error("the number of a host function"));
            }
        }
        let mut component_imports = BTreeMap::new();
        for Imported { number, path } in from.list::<Imported>()? {
            let known = !(MAX_FUNCTIONS..WASI).contains(&number);
            if !known || component_imports.insert(number, path).is_some() {
                return Err(from.error("the number of a component's host function"));
            }
        }
        let wasi = Option::<WasiTies>::decode(from)?;
        let mut numbers = imports.keys().chain(component_imports.keys());
        if wasi.is_none() && numbers.any(|number| *number >= WASI) {
            return Err(from.error("what the guest knows of WASI"));
        }
        let shares_randomness = from.bool()?;
        let guest = GuestImage::decode(from, memory, &limits, kind)?;
        if !from.rest().is_empty() {
            return Err(from.error("the end"));
        }
        let engine = engine.clone();
        let learned = Learned::default();
        Ok(Self {
            engine,
            guest,
            limits,
            instances,
            names: Arc::new(names),
            main,
            imports: Arc::new(imports),
            component_imports: Arc::new(component_imports),
            wasi,
            shares_randomness,
            learned,
        })
    }
}

/// A function of the host that a component may call.
struct Imported {
    number: u32,
    path: Vec<String>,
}

impl Encode for Imported {
    fn encode(&self, out: &mut Encoder<'_>) {
        out.u32(self.number);
        out.list(&self.path);
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self { number: from.u32()?, path: from.list()? })
    }
}

impl Encode for WasiTies {
    fn encode(&self, out: &mut Encoder<'_>) {
        out.u8(u8::from(self.directories.is_some()));
        if let Some(names) = &self.directories {
            out.list(names);
        }
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self { directories: if from.bool()? { Some(from.list()?) } else { None } })
    }
}

impl Snapshot {
    pub(crate) fn new(state: State) -> Self {
        Self { state: Arc::new(state) }
    }

    /// Whether it is the very same one.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.state, &other.state)
    }

    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    /// Describes a sandbox that goes on where the snapshot was taken. Its limits are the snapshot's.
    #[must_use]
    pub fn sandbox(&self) -> SandboxBuilder {
        SandboxBuilder::of_snapshot(self)
    }

    /// Bytes of the snapshot's content: what the host's memory holds of it, once for all sandboxes, with all
    /// that it shares with other snapshots.
    #[must_use]
    pub fn content_bytes(&self) -> usize {
        self.state.guest.memory.content_len()
    }

    /// Bytes of it that it shares with no other snapshot of other modules: its own layer. Of one that was
    /// [loaded](crate::SnapshotStore::load), all of its bytes: it has them in files, which those who load others
    /// from the same store share, and not with what this engine makes.
    ///
    /// # Errors
    /// [`Error::Host`].
    pub fn own_bytes(&self) -> Result<usize> {
        let base = self.state.engine.started(&self.state.limits)?;
        Ok(self.state.guest.memory.len_over(&base.memory))
    }

    /// Whether its guest was given random bytes, which all its sandboxes share.
    #[must_use]
    pub fn shares_randomness(&self) -> bool {
        self.state.shares_randomness
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot")
            .field("instances", &self.state.instances.len())
            .field("memory", &self.state.guest.memory)
            .finish_non_exhaustive()
    }
}
