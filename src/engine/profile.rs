//! What engines measure of kernel calls, and the ceilings to hold that against.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Engine;
use crate::error::Result;
use crate::kernels::activations::Activations;
use crate::kernels::{self, Access, BufferId, Call, Kernel, Ragged, Region, Scalar, Work, parallel};

/// A kernel call that was timed.
#[derive(Clone, Debug)]
pub struct Span {
    pub kernel: &'static str,
    /// The list of calls that it was part of.
    pub list: Arc<str>,
    /// From the moment that profiling began, on the clock of what computes.
    pub start: Duration,
    pub time: Duration,
    pub work: Work,
}

/// What an engine can do at best, as it was measured.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Ceilings {
    /// Floating-point operations a second: multiply-adds on registers (GPU), matrix products (CPU).
    pub flops: f64,
    /// Bytes read and written a second when large arrays are copied.
    pub bytes: f64,
}

impl Ceilings {
    /// The least seconds that some work takes.
    pub fn least(&self, work: Work) -> f64 {
        (work.flops / self.flops).max(work.bytes / self.bytes)
    }
}

/// How long a ceiling is measured, at least.
const MEASURE: Duration = Duration::from_millis(60);

/// Calls a second that `run` makes, of the best of some tries: the first ones warm up.
pub(super) fn best_rate(mut run: impl FnMut() -> Result<()>) -> Result<f64> {
    let (began, mut best) = (Instant::now(), Duration::MAX);
    let mut tries = 0;
    while tries < 5 || began.elapsed() < MEASURE {
        let start = Instant::now();
        run()?;
        best = best.min(start.elapsed());
        tries += 1;
    }
    Ok(1.0 / best.as_secs_f64().max(1e-9))
}

/// Elements that are copied to measure bandwidth.
const COPIED: usize = 1 << 23;

/// Invocations and rounds of the multiply-adds; a round is 16 vectors of 4.
const INVOCATIONS: u32 = 1 << 14;
const ROUNDS: u32 = 512;

static MULTIPLY_ADD: Kernel = Kernel {
    name: "multiply_add",
    source: "
        @group(0) @binding(0) var<uniform> rounds: vec4<u32>;
        @group(0) @binding(1) var<storage, read_write> out: array<f32>;
        @compute @workgroup_size(64)
        fn main(@builtin(global_invocation_id) id: vec3<u32>) {
            let a = vec4<f32>(1.0 - f32(id.x) * 1e-9);
            let b = vec4<f32>(f32(id.x) * 1e-9);
            var x: array<vec4<f32>, 16>;
            for (var i = 0u; i < 16u; i++) { x[i] = vec4<f32>(f32(i)); }
            for (var round = 0u; round < rounds.x; round++) {
                for (var i = 0u; i < 16u; i++) { x[i] = x[i] * a + b; }
            }
            var sum = vec4<f32>(0.0);
            for (var i = 0u; i < 16u; i++) { sum += x[i]; }
            out[id.x] = sum.x + sum.y + sum.z + sum.w;
        }",
    params: &[("rounds", Scalar::U32)],
    bindings: &[kernels::Binding { name: "out", access: Access::write, scalar: Scalar::F32, activation: false }],
    groups: |_| [INVOCATIONS / 64, 1, 1],
    serial: None,
    uniforms: &[],
    parts: None,
    only_parts: false,
    work: |_, _, _| Work { flops: f64::from(INVOCATIONS) * f64::from(ROUNDS) * 128.0, bytes: 0.0 },
    twin: |_| {},
};

static COPY: Kernel = Kernel {
    name: "copy",
    source: "
        @group(0) @binding(0) var<uniform> params: vec4<u32>;
        @group(0) @binding(1) var<storage, read> source: array<vec4<f32>>;
        @group(0) @binding(2) var<storage, read_write> out: array<vec4<f32>>;
        @compute @workgroup_size(256)
        fn main(@builtin(global_invocation_id) id: vec3<u32>) { out[id.x] = source[id.x]; }",
    params: &[("unused", Scalar::U32)],
    bindings: &[
        kernels::Binding { name: "source", access: Access::read, scalar: Scalar::F32, activation: false },
        kernels::Binding { name: "out", access: Access::write, scalar: Scalar::F32, activation: false },
    ],
    groups: |_| [COPIED as u32 / 1024, 1, 1],
    serial: None,
    uniforms: &[],
    parts: None,
    only_parts: false,
    work: |_, _, _| Work { flops: 0.0, bytes: 8.0 * COPIED as f64 },
    twin: |_| {},
};

/// Runs the measuring kernels on an engine whose `run` and `read` they go through.
pub(super) fn measure(engine: &mut dyn Engine) -> Result<Ceilings> {
    let region = |buffer: BufferId, len| Region { buffer, offset: 0, len };
    let source = region(engine.allocate("copied from", COPIED)?, COPIED);
    let out = region(engine.allocate("copied to", COPIED)?, COPIED);
    let first = Region { len: 1, ..out };
    let call = |kernel, params: u32, regions| Call {
        kernel,
        params: params.to_le_bytes().to_vec(),
        regions,
        ragged: Ragged::default(),
    };
    let mut rate = |call: Call| {
        best_rate(|| {
            engine.run("measure", std::slice::from_ref(&call))?;
            engine.read(first).map(drop)
        })
    };
    let multiply = call(&MULTIPLY_ADD, ROUNDS, vec![out]);
    let copy = call(&COPY, 0, vec![source, out]);
    let (flops, bytes) = (multiply.work(Activations::F32).flops, copy.work(Activations::F32).bytes);
    Ok(Ceilings { flops: rate(multiply)? * flops, bytes: rate(copy)? * bytes })
}

/// The CPU's, on the current pool of threads: matrix products of one size in every thread, and copies.
pub(super) fn measure_cpu() -> Result<Ceilings> {
    const SIDE: usize = 256;
    const EACH: usize = 8;
    let threads = rayon::current_num_threads();
    let (a, b) = (vec![1.0f32; SIDE * SIDE], vec![1.0f32; SIDE * SIDE]);
    let mut products = vec![0.0f32; threads * SIDE * SIDE];
    let products = best_rate(|| {
        parallel::chunks(&mut products, SIDE, SIDE, |_, out| {
            for _ in 0..EACH {
                kernels::square_product(out, &a, &b, SIDE);
            }
        });
        Ok(())
    })?;
    let source = vec![1u32; COPIED];
    let mut out = vec![0u32; COPIED];
    let copies = best_rate(|| {
        let each = COPIED / 64;
        parallel::chunks(&mut out, 1, each, |first, out| out.copy_from_slice(&source[first..first + out.len()]));
        Ok(())
    })?;
    Ok(Ceilings {
        flops: products * (threads * EACH * 2 * SIDE * SIDE * SIDE) as f64,
        bytes: copies * 8.0 * COPIED as f64,
    })
}
