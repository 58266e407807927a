//! What every engine promises, asked of all of them: the CPU, the GPU on each adapter of this machine with and without
//! shader checks, and the two together, split both ways.

use std::str::FromStr;

use prismrec::engine::{self, Checks, Engine, EngineChoice, EngineRequest, Split};
use prismrec::kernels::{BufferId, Call, Region, adam_rows, gather, linear, sum_slices};

/// Every engine that this machine has, new, with a name to print.
fn engines() -> Vec<(String, Box<dyn Engine>)> {
    let adapters = engine::adapters();
    assert!(
        !adapters.is_empty(),
        "no Vulkan, Metal or Direct3D 12 adapter: these tests need one. On Debian or Ubuntu `apt-get install \
         mesa-vulkan-drivers` installs one that computes on the CPU"
    );
    let cpu = EngineRequest { choice: EngineChoice::Cpu, threads: 2, ..Default::default() };
    let mut requests = vec![("cpu".to_owned(), cpu)];
    for adapter in adapters {
        let gpu = |checks| EngineRequest {
            choice: EngineChoice::Gpu,
            adapter: Some(adapter.name.clone()),
            threads: 2,
            checks,
            ..Default::default()
        };
        for checks in [Checks::Checked, Checks::Unchecked] {
            requests.push((format!("{} {checks:?}", adapter.name), gpu(checks)));
        }
        for split in ["cpu:gather", "gpu:gather", "cpu:sum_slices", "gpu:sum_slices"] {
            let split = Some(Split::from_str(split).unwrap());
            requests.push((
                format!("{} {}", adapter.name, split.as_ref().unwrap()),
                EngineRequest { split, ..gpu(Checks::Checked) },
            ));
        }
    }
    requests.into_iter().map(|(name, request)| (name, engine::open(&request).unwrap())).collect()
}

fn all(buffer: BufferId, len: usize) -> Region {
    Region { buffer, offset: 0, len }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

fn floats(elements: Vec<u32>) -> Vec<f32> {
    elements.into_iter().map(f32::from_bits).collect()
}

/// The call that adds the slices of `gradient` up into `sum`.
fn sum(gradient: Region, slices: u32, sum: Region) -> Call {
    let params = sum_slices::Params { elements: sum.len as u32, slices, stride: gradient.len as u32 / slices };
    sum_slices::call(params, sum_slices::Bindings { gradient, sum })
}

/// The call that takes the rows `items` of `table`, each as wide as `dim`.
fn rows(dim: u32, items: Region, table: Region, out: Region) -> Call {
    let params = gather::Params { first: 0, rows: items.len as u32, dim, base: 0, packed: 0 };
    gather::call(params, gather::Bindings { items, table, out })
}

#[test]
fn buffers_begin_as_zeros_and_keep_what_is_written() {
    for (name, mut engine) in engines() {
        let first = engine.allocate("first", 1000).unwrap();
        let second = engine.allocate("second", 3).unwrap();
        let empty = engine.allocate("empty", 0).unwrap();
        assert_eq!(engine.allocated_bytes(), 4016, "{name}");
        assert_eq!(engine.read(all(first, 1000)).unwrap(), vec![0; 1000], "{name}");
        assert_eq!(engine.read(all(empty, 1)).unwrap(), [0], "{name}");

        engine.write(Region { buffer: first, offset: 64, len: 64 }, &[7, 8, 9]).unwrap();
        engine.write(all(second, 3), &[1, 2, 3]).unwrap();
        let mut expected = vec![0; 1000];
        expected[64..67].copy_from_slice(&[7, 8, 9]);
        assert_eq!(engine.read(all(first, 1000)).unwrap(), expected, "{name}");
        assert_eq!(engine.read(Region { buffer: first, offset: 64, len: 2 }).unwrap(), [7, 8], "{name}");
        assert_eq!(engine.read(all(second, 3)).unwrap(), [1, 2, 3], "{name}");
        assert_eq!(engine.read(all(second, 0)).unwrap(), [0; 0], "{name}");
    }
}

#[test]
fn calls_see_the_calls_before_them_and_only_their_regions() {
    for (name, mut engine) in engines() {
        // y = x W^T + b, then rows 2, 0 of y, then the sum of those rows' two halves as slices, then its column sums.
        let x = engine.allocate("x", 3 * 2).unwrap();
        let weight = engine.allocate("weight", 64 + 4 * 2 + 4).unwrap();
        let y = engine.allocate("y", 128 + 3 * 4).unwrap();
        let items = engine.allocate("items", 2).unwrap();
        let taken = engine.allocate("taken", 2 * 4).unwrap();
        let halves = engine.allocate("halves", 4).unwrap();
        let total = engine.allocate("total", 64 + 2).unwrap();
        let weight_region = Region { buffer: weight, offset: 64, len: 12 };
        let y_region = Region { buffer: y, offset: 128, len: 12 };
        let total_region = Region { buffer: total, offset: 64, len: 2 };

        engine.write(all(x, 6), &bits(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])).unwrap();
        let w = [1.0, 0.0, 0.0, 1.0, 1.0, 1.0, 2.0, -1.0, /* bias */ 0.0, 10.0, 20.0, 30.0];
        engine.write(weight_region, &bits(&w)).unwrap();
        engine.write(all(items, 2), &[2, 0]).unwrap();
        let params = linear::Params {
            rows: 3,
            inner: 2,
            outer: 4,
            relu: 0,
            residual: 0,
            drop_below: 0,
            drop_scale: 1.0,
            drop_key: 0,
        };
        let residual = all(engine.allocate("no residual", 64).unwrap(), 12);
        let bindings = linear::Bindings { x: all(x, 6), weight: weight_region, residual, y: y_region };
        engine
            .run(
                "chain",
                &[
                    linear::call(params, bindings),
                    rows(4, all(items, 2), y_region, all(taken, 8)),
                    sum(all(taken, 8), 2, all(halves, 4)),
                    sum(all(halves, 4), 2, total_region),
                ],
            )
            .unwrap();

        let expected_y = [1.0, 12.0, 23.0, 30.0, 3.0, 14.0, 27.0, 32.0, 5.0, 16.0, 31.0, 34.0];
        assert_eq!(floats(engine.read(y_region).unwrap()), expected_y, "{name}");
        assert_eq!(engine.read(all(y, 128)).unwrap(), [0; 128], "{name}: written outside the region");
        assert_eq!(floats(engine.read(all(halves, 4)).unwrap()), [6.0, 28.0, 54.0, 64.0], "{name}");
        assert_eq!(floats(engine.read(total_region).unwrap()), [60.0, 92.0], "{name}");
    }
}

#[test]
fn writes_and_reads_keep_their_place_between_many_runs() {
    for (name, mut engine) in engines() {
        let input = engine.allocate("input", 64).unwrap();
        let output = engine.allocate("output", 64).unwrap();
        let items = engine.allocate("items", 1).unwrap();
        let copied = engine.allocate("copied", 64).unwrap();
        let calls =
            [sum(all(input, 64), 1, all(output, 64)), rows(64, all(items, 1), all(output, 64), all(copied, 64))];
        // More runs than can be in flight; nothing waits until the end.
        let mut pending = Vec::new();
        for run in 0..20 {
            engine.write(all(input, 64), &bits(&[run as f32; 64])).unwrap();
            engine.run("run", &calls).unwrap();
            // After the run's calls, before the next run's: must not be seen by any call.
            engine.write(all(input, 64), &bits(&[-1.0; 64])).unwrap();
            pending.push(engine.read_later(all(copied, 64)).unwrap());
        }
        // Latest first, so that the order of collecting does not matter.
        for (run, pending) in pending.iter().enumerate().rev() {
            let values = floats(engine.collect(pending, true).unwrap().unwrap());
            assert_eq!(values, [run as f32; 64], "{name}");
            assert_eq!(engine.collect(pending, true).unwrap(), None, "{name}: collected before");
        }
    }
}

#[test]
fn a_read_can_be_polled_for() {
    for (name, mut engine) in engines() {
        let buffer = engine.allocate("buffer", 5000).unwrap();
        engine.write(all(buffer, 5000), &[3; 5000]).unwrap();
        let pending = engine.read_later(all(buffer, 5000)).unwrap();
        engine.write(all(buffer, 5000), &[4; 5000]).unwrap();
        let started = std::time::Instant::now();
        let elements = loop {
            if let Some(elements) = engine.collect(&pending, false).unwrap() {
                break elements;
            }
            assert!(started.elapsed().as_secs() < 60, "{name}: the read is never done");
            std::thread::yield_now();
        };
        assert_eq!(elements, [3; 5000], "{name}: the elements of then");
    }
}

#[test]
fn lists_of_calls_may_grow() {
    for (name, mut engine) in engines() {
        let buffers: Vec<_> = (0..2).map(|i| all(engine.allocate(&format!("buffer {i}"), 300).unwrap(), 300)).collect();
        for calls in [1, 10, 300] {
            let start: Vec<_> = (0..300).map(|i| (calls * i) as f32).collect();
            engine.write(buffers[0], &bits(&start)).unwrap();
            let list: Vec<_> = (0..calls).map(|i| sum(buffers[i % 2], 1, buffers[(i + 1) % 2])).collect();
            engine.run("there and back", &list).unwrap();
            assert_eq!(floats(engine.read(buffers[calls % 2]).unwrap()), start, "{name}: {calls} calls");
        }
        engine.run("nothing", &[]).unwrap();
    }
}

#[test]
fn large_buffers_go_over_whole() {
    // Longer than what is written or read back in one piece.
    let len = (64 << 18) + 77;
    for (name, mut engine) in engines() {
        let buffer = engine.allocate("large", len).unwrap();
        let elements: Vec<u32> = (0..len as u32).map(|i| i.wrapping_mul(0x9e37_79b1)).collect();
        engine.write(all(buffer, len), &elements).unwrap();
        assert!(engine.read(all(buffer, len)).unwrap() == elements, "{name}");
    }
}

#[test]
fn a_buffer_too_large_is_refused_by_name_and_spoils_nothing() {
    for (name, mut engine) in engines() {
        let message = engine.allocate("item_table", 1 << 60).unwrap_err().to_string();
        assert!(message.contains("item_table") && message.contains("MiB"), "{name}: {message}");
        let buffer = engine.allocate("small", 2).unwrap();
        engine.write(all(buffer, 2), &[1, 2]).unwrap();
        assert_eq!(engine.read(all(buffer, 2)).unwrap(), [1, 2], "{name}");
    }
}

#[test]
fn engines_say_what_they_run_on() {
    for (name, engine) in engines() {
        let description = engine.describe();
        let engine = match name.as_str() {
            "cpu" => "cpu",
            name if name.ends_with("cpu:gather") => "cpu up to gather, then gpu",
            name if name.ends_with("gpu:gather") => "gpu up to gather, then cpu",
            name if name.ends_with("cpu:sum_slices") => "cpu up to sum_slices, then gpu",
            name if name.ends_with("gpu:sum_slices") => "gpu up to sum_slices, then cpu",
            _ => "gpu",
        };
        assert_eq!(description.engine, engine, "{name}");
        assert!(!description.adapter.is_empty() && !description.limits.is_empty(), "{name}: {description:?}");
        assert_eq!(description.threads, if engine == "gpu" { 0 } else { 2 }, "{name}");
        if engine != "cpu" {
            assert!(name.starts_with(&description.adapter) && !description.driver.is_empty(), "{name}");
        }
    }
}

/// The message of the error that a request ends in.
fn refused(request: &EngineRequest) -> String {
    match engine::open(request) {
        Ok(_) => panic!("{request:?} was not refused"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn an_unknown_adapter_is_answered_with_those_there_are() {
    let adapter = Some("no such adapter".to_owned());
    for choice in [EngineChoice::Auto, EngineChoice::Gpu] {
        let message = refused(&EngineRequest { choice, adapter: adapter.clone(), ..Default::default() });
        assert!(message.contains("no such adapter"), "{message}");
        for there in engine::adapters() {
            assert!(message.contains(&there.name), "{message}");
        }
    }
}

#[test]
fn contradictions_are_refused() {
    let cpu = EngineRequest { choice: EngineChoice::Cpu, ..Default::default() };
    let message = refused(&EngineRequest { adapter: Some("llvmpipe".into()), ..cpu.clone() });
    assert!(message.contains("--adapter llvmpipe"), "{message}");
    let message = refused(&EngineRequest { split: Some("cpu:linear".parse().unwrap()), ..cpu });
    assert!(message.contains("--split cpu:linear"), "{message}");
}

/// A chunk of the item table that a step uses no row of, at a size whose shader looks at four elements at once.
#[test]
fn a_call_for_nothing_may_have_empty_regions() {
    for (name, mut engine) in engines() {
        let mut region = |name: &str, len: usize| all(engine.allocate(name, len).unwrap(), len);
        let nothing = adam_rows::Params {
            first: 0,
            rows: 0,
            dim: 4,
            base: 0,
            plane: 0,
            step: 1,
            update: 1,
            rate: 0.1,
            correction: 1.0,
            packed: 0,
            key: 0,
        };
        let regions = adam_rows::Bindings {
            items: region("items", 0),
            gradient: region("gradient", 0),
            working: region("working", 0),
            table: region("table", 4),
            first_moment: region("first moment", 4),
            second_moment: region("second moment", 4),
            updated: region("updated", 1),
        };
        let table = regions.table;
        engine.write(table, &bits(&[1.0, 2.0, 3.0, 4.0])).unwrap();
        engine.run("nothing", &[adam_rows::call(nothing, regions)]).unwrap();
        assert_eq!(floats(engine.read(table).unwrap()), [1.0, 2.0, 3.0, 4.0], "{name}");
    }
}
