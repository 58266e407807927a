//! The engines that cases run on: the CPU engine, and each adapter of this machine in several ways. Each is opened once
//! and lives on a thread of its own, as opening a device and compiling pipelines takes longer than a case.

use std::collections::HashMap;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, LazyLock, Mutex};
use std::thread;

use prismrec::engine::{self, Checks, Engine, EngineChoice, EngineRequest, EntryPoint};
use prismrec::kernels::activations::Activations;
use prismrec::kernels::{BufferId, Call, KERNELS, Kernel, Ragged, Region};

/// A call and what its buffers hold before it. Of each buffer, `region` gives the part that the kernel is bound to; the
/// rest must stay as it is.
pub struct Job {
    pub kernel: &'static Kernel,
    pub params: Vec<u8>,
    pub buffers: Vec<Vec<u32>>,
    /// Offset and length.
    pub regions: Vec<(usize, usize)>,
    /// Of sequences, where there are any.
    pub sequences: Ragged,
    /// How activations are stored.
    pub activations: Activations,
}

/// What the buffers hold after it, or why it did not run.
type Done = Result<Vec<Vec<u32>>, String>;

/// An engine on its thread.
pub struct Machine {
    pub name: String,
    /// Whether it takes jobs whose activations are f16.
    pub has_f16: bool,
    jobs: Mutex<Sender<(Arc<Job>, Sender<Done>)>>,
}

impl Machine {
    fn new(name: String, request: EngineRequest, kernels: HashMap<&'static str, &'static Kernel>) -> Self {
        let has_f16 = request.activations == Activations::F16;
        let (jobs, inbox) = channel::<(Arc<Job>, Sender<Done>)>();
        thread::spawn(move || {
            let mut engine = engine::open(&request).map_err(|e| e.to_string());
            let mut buffers = HashMap::new();
            for (job, outbox) in inbox {
                let done = match &mut engine {
                    Ok(engine) => run(engine.as_mut(), &mut buffers, kernels[job.kernel.name], &job),
                    Err(e) => Err(e.clone()),
                };
                // Whoever asked may have failed by now.
                let _ = outbox.send(done);
            }
        });
        Machine { name, has_f16, jobs: Mutex::new(jobs) }
    }

    /// Begins a job; the answer is waited for by calling what is returned.
    pub fn begin(&self, job: &Arc<Job>) -> impl FnOnce() -> Done + use<> {
        let (outbox, done) = channel();
        self.jobs.lock().unwrap().send((job.clone(), outbox)).unwrap();
        move || done.recv().map_err(|_| "the engine panicked; see above".to_owned())?
    }
}

/// A binding's buffer and its length, by the binding's number and how its elements are stored.
type Buffers = HashMap<(usize, Activations), (BufferId, usize)>;

/// Runs a job in buffers that are used again and again.
fn run(engine: &mut dyn Engine, made: &mut Buffers, kernel: &'static Kernel, job: &Job) -> Done {
    let failed = |e: prismrec::error::Error| e.to_string();
    let mut buffers = Vec::new();
    for (i, (content, binding)) in job.buffers.iter().zip(kernel.bindings).enumerate() {
        let stored = if binding.activation { job.activations } else { Activations::F32 };
        let fitting = made.get(&(i, stored)).filter(|(_, len)| *len >= content.len());
        let (buffer, len) = match fitting {
            Some(fitting) => *fitting,
            None => {
                let (name, len) = (format!("binding {i}"), content.len().next_power_of_two());
                let buffer = match stored {
                    Activations::F32 => engine.allocate(&name, len),
                    Activations::F16 => engine.allocate_activations(&name, len),
                };
                (buffer.map_err(failed)?, len)
            }
        };
        made.insert((i, stored), (buffer, len));
        buffers.push(buffer);
        engine.write(Region { buffer, offset: 0, len: content.len() }, content).map_err(failed)?;
    }
    let regions = job.regions.iter().zip(&buffers).map(|(&(offset, len), &buffer)| Region { buffer, offset, len });
    let mut call = Call::new(kernel, &job.params, regions.collect());
    call.ragged = job.sequences.clone();
    engine.run(kernel.name, &[call]).map_err(failed)?;
    let after = job
        .buffers
        .iter()
        .zip(&buffers)
        .map(|(content, &buffer)| engine.read(Region { buffer, offset: 0, len: content.len() }).map_err(failed));
    after.collect()
}

/// The engine whose twins judge.
pub static CPU: LazyLock<Machine> = LazyLock::new(|| {
    let request = EngineRequest { choice: EngineChoice::Cpu, ..Default::default() };
    Machine::new("the twin".into(), request, KERNELS.iter().map(|kernel| (kernel.name, *kernel)).collect())
});

/// Each adapter with and without the checks of shaders, with dispatches folded into two dimensions, and with both entry
/// points of kernels that have two, whose calls are dealt to parts or whole.
pub static GPUS: LazyLock<Vec<Machine>> = LazyLock::new(|| {
    let adapters = engine::adapters();
    assert!(
        !adapters.is_empty(),
        "no Vulkan, Metal or Direct3D 12 adapter: these tests need one. On Debian or Ubuntu `apt-get install \
         mesa-vulkan-drivers` installs one that computes on the CPU"
    );
    let mut machines = Vec::new();
    for adapter in adapters {
        let of_f16 = EngineRequest {
            choice: EngineChoice::Gpu,
            adapter: Some(adapter.name.clone()),
            activations: Activations::F16,
            ..Default::default()
        };
        let activations = if engine::open(&of_f16).is_ok() { Activations::F16 } else { Activations::F32 };
        println!("adapter: {adapter}, activations down to {activations:?}");
        for (mode, checks, entry_point, kernels) in [
            ("checked", Checks::Checked, EntryPoint::Main, KERNELS),
            ("unchecked", Checks::Unchecked, EntryPoint::Main, KERNELS),
            ("folded", Checks::Unchecked, EntryPoint::Main, FOLDED),
            ("serial, checked", Checks::Checked, EntryPoint::Serial, KERNELS),
            ("serial, whole, unchecked, folded", Checks::Unchecked, EntryPoint::SerialWhole, FOLDED),
        ] {
            let request = EngineRequest {
                choice: EngineChoice::Gpu,
                adapter: Some(adapter.name.clone()),
                checks,
                entry_point,
                activations,
                ..Default::default()
            };
            let mut by_name: HashMap<_, _> = KERNELS.iter().map(|kernel| (kernel.name, *kernel)).collect();
            by_name.extend(kernels.iter().map(|kernel| (kernel.name, *kernel)));
            machines.push(Machine::new(format!("{}, {mode}", adapter.name), request, by_name));
        }
    }
    machines
});

fn in_three_rows([x, y, z]: [u32; 3]) -> [u32; 3] {
    [(x * y).div_ceil(3), 3, z]
}

macro_rules! folded {
    ($($name:ident),* $(,)?) => {
        /// The kernels whose dispatch may be folded, always folded into three rows, which may leave up to two workgroups
        /// at the end without work.
        static FOLDED: &[&Kernel] = &[$({
            use prismrec::kernels::$name::KERNEL;
            static FOLDED: Kernel = Kernel {
                name: stringify!($name),
                source: KERNEL.source,
                params: KERNEL.params,
                bindings: KERNEL.bindings,
                groups: |params| in_three_rows((KERNEL.groups)(params)),
                serial: match KERNEL.serial {
                    Some(_) => Some(|params| KERNEL.serial.and_then(|groups| groups(params)).map(in_three_rows)),
                    None => None,
                },
                uniforms: KERNEL.uniforms,
                parts: match KERNEL.parts {
                    Some(_) => Some(|call| {
                        let parts = KERNEL.parts.into_iter().flat_map(|parts| parts(call));
                        parts.map(|part| Call { kernel: &FOLDED, ..part }).collect()
                    }),
                    None => None,
                },
                only_parts: KERNEL.only_parts,
                work: KERNEL.work,
                twin: KERNEL.twin,
            };
            &FOLDED
        }),*];
    };
}

folded!(
    adam,
    adam_catch_up,
    adam_rows,
    aggregate,
    aggregate_backward,
    attention,
    attention_backward,
    candidate_scores,
    contrastive,
    contrastive_backward,
    contrastive_loss,
    embed,
    embed_backward,
    gather,
    intention_key_backward,
    intention_weight,
    layer_norm,
    layer_norm_backward,
    linear,
    linear_backward,
    place,
    place_backward,
    position_backward,
    prototype_softmax,
    prototype_softmax_backward,
    sum_slices,
);

#[test]
fn folded_dispatches_are_those_of_the_shaders_that_fold() {
    let undo: Vec<_> = KERNELS.iter().filter(|k| k.source.contains("num_workgroups")).map(|k| k.name).collect();
    assert_eq!(undo, FOLDED.iter().map(|kernel| kernel.name).collect::<Vec<_>>());
}
