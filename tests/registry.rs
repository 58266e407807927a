//! Every file in shaders/ is a registered kernel that is valid, is bound as the host binds it, keeps to WebGPU's default
//! limits and has a test.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use naga::proc::Layouter;
use naga::valid::{Capabilities, ValidationFlags, Validator};
use naga::{AddressSpace, Module, StorageAccess, TypeInner};
use prismrec::kernels::activations::{Activations, source};
use prismrec::kernels::{Access, KERNELS, Kernel, Scalar, UniformView, adam, find};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn names_in(directory: &Path, ending: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let file = entry.unwrap().file_name().into_string().unwrap();
        let name = file.strip_suffix(ending).unwrap_or_else(|| panic!("{file} does not end in {ending}"));
        names.insert(name.to_owned());
    }
    names
}

fn parse(kernel: &Kernel, activations: Activations) -> Module {
    let source = source(kernel.source, activations);
    naga::front::wgsl::parse_str(&source)
        .unwrap_or_else(|e| panic!("{}", e.emit_to_string_with_path(&source, kernel.name)))
}

/// A number of a binding or a parameter, and its bytes.
fn scalar(inner: &TypeInner) -> Option<(Scalar, usize)> {
    let scalar = match *inner {
        TypeInner::Vector { size: naga::VectorSize::Quad, scalar } => scalar,
        TypeInner::Scalar(scalar) | TypeInner::Atomic(scalar) => scalar,
        _ => return None,
    };
    match scalar {
        naga::Scalar::F32 => Some((Scalar::F32, 4)),
        naga::Scalar::F16 => Some((Scalar::F32, 2)),
        naga::Scalar::U32 => Some((Scalar::U32, 4)),
        _ => None,
    }
}

/// Every kernel as its text is, then as it is where activations are f16.
fn variants() -> impl Iterator<Item = (&'static Kernel, Activations)> {
    KERNELS.iter().flat_map(|kernel| [Activations::F32, Activations::F16].map(|activations| (*kernel, activations)))
}

#[test]
fn every_shader_is_registered_once() {
    let files = names_in(&folder("shaders"), ".wgsl");
    let registered: BTreeSet<String> = KERNELS.iter().map(|kernel| kernel.name.to_owned()).collect();
    assert_eq!(files, registered, "shaders/ (left) and kernels::KERNELS (right)");
    assert_eq!(registered.len(), KERNELS.len(), "a kernel is registered twice");
    for kernel in KERNELS {
        let file = folder("shaders").join(format!("{}.wgsl", kernel.name));
        assert_eq!(std::fs::read_to_string(file).unwrap(), kernel.source, "{}", kernel.name);
        assert!(std::ptr::eq(find(kernel.name).unwrap(), *kernel));
    }
    assert!(find("no_such_kernel").is_none());
}

#[test]
fn every_shader_is_valid() {
    for (kernel, activations) in variants() {
        let module = parse(kernel, activations);
        // Nothing beyond what WebGPU has by default, but for 16-bit floats where they are asked for.
        let capabilities = match activations {
            Activations::F32 => Capabilities::empty(),
            Activations::F16 => Capabilities::SHADER_FLOAT16,
        };
        if let Err(e) = Validator::new(ValidationFlags::all(), capabilities).validate(&module) {
            panic!("{}", e.emit_to_string_with_path(&source(kernel.source, activations), kernel.name));
        }
    }
}

#[test]
fn every_shader_has_the_parameters_and_bindings_of_its_declaration() {
    for (kernel, activations) in variants() {
        let module = parse(kernel, activations);
        let mut params = None;
        let mut uniforms = Vec::new();
        let mut storage: Vec<(u32, String, Access, (Scalar, usize))> = Vec::new();
        for (_, variable) in module.global_variables.iter() {
            let Some(binding) = variable.binding else { continue };
            assert_eq!(binding.group, 0, "{}", kernel.name);
            let inner = &module.types[variable.ty].inner;
            match variable.space {
                AddressSpace::Uniform if binding.binding > 0 => {
                    assert_eq!(u64::from(inner.size(module.to_ctx())), UniformView::BYTES, "{}", kernel.name);
                    uniforms.push((binding.binding, variable.name.clone().unwrap()));
                }
                AddressSpace::Uniform => {
                    let TypeInner::Struct { members, .. } = inner else { panic!("{}: params", kernel.name) };
                    assert_eq!((binding.binding, variable.name.as_deref()), (0, Some("params")), "{}", kernel.name);
                    assert_eq!(module.types[variable.ty].name.as_deref(), Some("Params"), "{}", kernel.name);
                    let fields: Vec<_> = members
                        .iter()
                        .map(|m| (m.name.clone().unwrap(), scalar(&module.types[m.ty].inner), m.offset))
                        .collect();
                    assert!(params.replace(fields).is_none(), "{}: two uniform bindings", kernel.name);
                }
                AddressSpace::Storage { access } => {
                    let TypeInner::Array { base, .. } = *inner else { panic!("{}: {variable:?}", kernel.name) };
                    let access = if access.contains(StorageAccess::STORE) { Access::write } else { Access::read };
                    let inner = &module.types[base].inner;
                    let element = scalar(inner).expect("f32 or u32");
                    let name = variable.name.as_deref().unwrap();
                    // The other view of a binding, by whole vectors, bears the binding's name with a 4 behind it.
                    let name = match inner {
                        TypeInner::Vector { .. } => name.strip_suffix('4').expect("a vec4 view's name ends in 4"),
                        _ => name,
                    };
                    let this = (binding.binding, name.to_owned(), access, element);
                    if !storage.contains(&this) {
                        storage.push(this);
                    }
                }
                _ => panic!("{}: {variable:?}", kernel.name),
            }
        }
        let want: Vec<_> =
            (0..).zip(kernel.params).map(|(i, &(name, param))| (name.to_owned(), Some((param, 4)), 4 * i)).collect();
        assert_eq!(
            params.unwrap_or_default(),
            want,
            "{}: Params of the shader (left) and of Rust (right)",
            kernel.name
        );
        uniforms.sort();
        let first = kernel.bindings.len() as u32 + 1;
        let views: Vec<_> =
            (first..).zip(kernel.uniforms).map(|(i, view)| (i, format!("{}_uniform", view.binding))).collect();
        assert_eq!(uniforms, views, "{}: uniform views of the shader (left) and of Rust (right)", kernel.name);
        for view in kernel.uniforms {
            let viewed = kernel.bindings.iter().find(|b| b.name == view.binding).expect("a binding of that name");
            assert_eq!(viewed.access, Access::read, "{}", kernel.name);
        }
        storage.sort_by_key(|binding| binding.0);
        let want: Vec<_> = (1u32..)
            .zip(kernel.bindings)
            .map(|(i, binding)| {
                let stored = if binding.activation { activations } else { Activations::F32 };
                (i, binding.name.to_owned(), binding.access, (binding.scalar, stored.width()))
            })
            .collect();
        assert_eq!(storage, want, "{}: bindings of the shader (left) and of Rust (right)", kernel.name);
    }
}

#[test]
fn every_shader_keeps_to_the_default_limits_of_webgpu() {
    for kernel in KERNELS {
        let module = parse(kernel, Activations::F32);
        let entries: Vec<&str> = module.entry_points.iter().map(|entry| entry.name.as_str()).collect();
        let declared: &[&str] = if kernel.serial.is_some() { &["main", "serial"] } else { &["main"] };
        assert_eq!(entries, declared, "{}: entry points of the shader (left) and of Rust (right)", kernel.name);
        for entry in &module.entry_points {
            let [x, y, z] = entry.workgroup_size;
            assert!(x * y * z <= 256 && z <= 64, "{}: {:?} invocations", kernel.name, entry.workgroup_size);
        }
        assert!(kernel.bindings.len() <= 8, "{}: {} storage buffers", kernel.name, kernel.bindings.len());
        let mut layouts = Layouter::default();
        layouts.update(module.to_ctx()).unwrap();
        let shared: u32 = module
            .global_variables
            .iter()
            .filter(|(_, variable)| variable.space == AddressSpace::WorkGroup)
            .map(|(_, variable)| layouts[variable.ty].size.next_multiple_of(16))
            .sum();
        assert!(shared <= 16_384, "{}: {shared} bytes of group memory", kernel.name);
    }
}

/// The part of a shader from `start` up to and with `end`.
fn part<'a>(source: &'a str, start: &str, end: &str) -> Option<&'a str> {
    let part = &source[source.find(start)?..];
    Some(&part[..part.find(end).unwrap() + end.len()])
}

#[test]
fn copies_in_shaders_are_the_same() {
    let mut masks = BTreeSet::new();
    let mut optimisers = BTreeSet::new();
    let mut roundings = BTreeSet::new();
    let mut widenings = BTreeSet::new();
    for kernel in KERNELS {
        let drops = kernel.params.iter().any(|(name, _)| *name == "drop_key");
        let mask = part(kernel.source, "fn drop_factor", "\n}\n");
        assert_eq!(drops, mask.is_some(), "{}: drop_factor belongs where there is a drop_key", kernel.name);
        masks.extend(mask);
        let rounding = part(kernel.source, "fn word(", "\n}\n");
        let rounds = kernel.params.iter().any(|(name, _)| *name == "key");
        assert_eq!(rounds, rounding.is_some(), "{}: word belongs where there is a key", kernel.name);
        roundings.extend(rounding);
        let widening = part(kernel.source, "fn numbers(", "\n}\n");
        let widens = kernel.has_packed().is_some() && !rounds;
        assert_eq!(widens, widening.is_some(), "{}: numbers belongs where there is packed without a key", kernel.name);
        widenings.extend(widening);
        let constant = kernel.source.contains("override packed: bool = false;");
        assert_eq!(kernel.has_packed().is_some(), constant, "{}: packed is a constant too", kernel.name);
        optimisers.extend(part(kernel.source, "const BETA1", "const EPSILON = 1e-8;\n"));
    }
    assert_eq!(masks.len(), 1, "{masks:#?}");
    assert_eq!(roundings.len(), 1, "{roundings:#?}");
    assert_eq!(widenings.len(), 1, "{widenings:#?}");
    let constants = format!(
        "const BETA1 = {};\nconst BETA2 = {};\nconst EPSILON = {:e};\n",
        adam::BETA1,
        adam::BETA2,
        adam::EPSILON
    );
    assert_eq!(optimisers, BTreeSet::from([constants.as_str()]));
}

#[test]
fn every_kernel_has_its_tests() {
    let modules = |tests: &str| -> String {
        let read = |module| std::fs::read_to_string(folder(tests).join(module + ".rs")).unwrap();
        names_in(&folder(tests), ".rs").into_iter().map(read).collect()
    };
    let (kernel_tests, gradient_tests) = (modules("tests/kernels"), modules("tests/gradients"));
    for kernel in KERNELS {
        let name = kernel.name;
        assert!(kernel_tests.contains(&format!("#[test]\nfn {name}() {{")), "tests/kernels has no test {name}");
        assert!(kernel_tests.contains(&format!("&{name}::KERNEL")), "tests/kernels never runs {name}");
        if name.ends_with("_backward") {
            assert!(gradient_tests.contains(&format!("{name}::twin(")), "tests/gradients never runs {name}");
        }
    }
}

/// Tint refuses what naga lets pass, such as barriers in control flow that is not uniform.
#[test]
fn every_shader_is_valid_for_tint_where_it_is_installed() {
    let folder = tempfile::tempdir().unwrap();
    for (kernel, activations) in variants() {
        let file = folder.path().join(format!("{}.wgsl", kernel.name));
        std::fs::write(&file, &*source(kernel.source, activations)).unwrap();
        match Command::new("tint").args(["-f", "wgsl", "-o", "/dev/null"]).arg(file).output() {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return println!("tint is not installed"),
            Err(e) => panic!("tint: {e}"),
            Ok(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr)),
        }
    }
}
