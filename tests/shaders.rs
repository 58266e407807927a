//! Kernels in other languages: every file is there, and is what it should be.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use naga::valid::{Capabilities, ValidationFlags, Validator};
use predicates::prelude::PredicateBooleanExt;
use prismrec::engine::Checks;
use prismrec::kernels::activations::Activations;
use prismrec::kernels::{KERNELS, find};
use prismrec::translate::{Language, entry_points, translate};
use tempfile::TempDir;

/// What `prismrec shaders` writes, by file name.
fn written(format: &str, more: &[&str]) -> (TempDir, Vec<(String, Vec<u8>)>) {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("a/b");
    let output = assert_cmd::Command::cargo_bin("prismrec")
        .unwrap()
        .args(["shaders", "--format", format, "--out"])
        .arg(&out)
        .args(more)
        .assert()
        .success()
        .get_output()
        .stdout
        .clone();
    let files: Vec<_> = fs::read_dir(&out)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
        .collect();
    let told = String::from_utf8(output).unwrap();
    assert!(told.starts_with(&format!("{} kernels, {} files in ", KERNELS.len(), files.len())), "{told}");
    (folder, files)
}

/// A file for each entry point.
fn expected(ending: &str) -> BTreeSet<String> {
    KERNELS
        .iter()
        .flat_map(|kernel| {
            entry_points(kernel).map(move |entry| match entry {
                "main" => format!("{}.{ending}", kernel.name),
                other => format!("{}.{other}.{ending}", kernel.name),
            })
        })
        .collect()
}

#[test]
fn every_format_has_a_file_for_each_entry_point() {
    for (format, ending, group_size, of_half) in [
        ("spirv", "spv", None, None),
        ("msl", "metal", None, Some("half")),
        ("hlsl", "hlsl", Some("[numthreads("), Some("half")),
        ("wgsl", "wgsl", None, Some("f16")),
    ] {
        let (_folder, files) = written(format, &[]);
        let (_folder, halves) = written(format, &["--activations", "f16"]);
        let has_activations = |name: &str| {
            let kernel = find(name.split('.').next().unwrap()).unwrap();
            kernel.bindings.iter().any(|binding| binding.activation)
        };
        let same = |name: &str, content: &[u8]| halves.iter().any(|(n, c)| n == name && c == content);
        let names: BTreeSet<String> = files.iter().map(|(name, _)| name.clone()).collect();
        assert_eq!(names, expected(ending));
        for (name, content) in files {
            assert!(content.len() > 200, "{name}: {} bytes", content.len());
            assert_eq!(same(&name, &content), !has_activations(&name), "{name}: whether both are the same");
            let entry = if name.contains(".serial.") { "serial" } else { "main" };
            if ending == "spv" {
                assert_eq!(content[..4], [0x03, 0x02, 0x23, 0x07], "{name}: SPIR-V's first word");
                continue;
            }
            let text = String::from_utf8(content).unwrap();
            // Metal reserves the name main; each other language keeps it.
            assert!(text.contains(entry), "{name}: no {entry}");
            assert!(!text.contains("override "), "{name}: a constant is left open");
            let half = halves.iter().find(|(n, _)| *n == name).map(|(_, half)| String::from_utf8_lossy(half));
            let said = |text: &str| of_half.is_some_and(|word| text.contains(word));
            assert_eq!(said(&half.unwrap()), has_activations(&name), "{name}: 16-bit floats");
            assert!(group_size.is_none_or(|size| text.contains(size)), "{name}");
            if ending == "metal" {
                assert_eq!(text.matches("kernel void ").count(), 1, "{name}: one entry point");
                assert!(text.contains("[[buffer(0)]]"), "{name}: the parameters are buffer 0");
            }
        }
    }
}

#[test]
fn wgsl_is_valid_again() {
    for (activations, capabilities) in
        [(Activations::F32, Capabilities::empty()), (Activations::F16, Capabilities::SHADER_FLOAT16)]
    {
        for kernel in KERNELS {
            for entry in entry_points(kernel) {
                let text = translate(kernel, entry, Language::Wgsl, Checks::Unchecked, activations).unwrap();
                let text = String::from_utf8(text).unwrap();
                let module = naga::front::wgsl::parse_str(&text).unwrap_or_else(|e| panic!("{}: {e}", kernel.name));
                assert!(module.overrides.is_empty(), "{}", kernel.name);
                assert_eq!(module.entry_points.len(), 1, "{}", kernel.name);
                if let Err(e) = Validator::new(ValidationFlags::all(), capabilities).validate(&module) {
                    panic!("{}", e.emit_to_string_with_path(&text, kernel.name));
                }
            }
        }
    }
}

#[test]
fn spirv_is_valid() {
    for more in [&[][..], &["--checked"], &["--activations", "f16"]] {
        let (folder, files) = written("spirv", more);
        for (name, content) in &files {
            let module = naga::front::spv::parse_u8_slice(content, &naga::front::spv::Options::default());
            let module = module.unwrap_or_else(|e| panic!("{name}: {e}"));
            let [entry] = &module.entry_points[..] else { panic!("{name}: {:?}", module.entry_points) };
            assert_eq!(entry.name, if name.contains(".serial.") { "serial" } else { "main" });
        }
        validate_with_khronos(&folder.path().join("a/b"), &files);
    }
}

fn validate_with_khronos(folder: &Path, files: &[(String, Vec<u8>)]) {
    for (name, _) in files {
        match Command::new("spirv-val").args(["--target-env", "vulkan1.1"]).arg(folder.join(name)).output() {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return println!("spirv-val is not installed"),
            Err(e) => panic!("spirv-val: {e}"),
            Ok(output) => assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr)),
        }
    }
}

#[test]
fn checks_are_written_where_they_are_asked_for() {
    let size = |language, checks| -> usize {
        let text = |kernel| translate(kernel, "main", language, checks, Activations::F32).unwrap();
        KERNELS.iter().map(|kernel| text(kernel).len()).sum()
    };
    for language in [Language::Spirv, Language::Msl, Language::Hlsl] {
        let (checked, unchecked) = (size(language, Checks::Checked), size(language, Checks::Unchecked));
        assert!(checked > unchecked + unchecked / 50, "{language:?}: {checked} against {unchecked} bytes");
    }
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let mut command = assert_cmd::Command::cargo_bin("prismrec").unwrap();
    command
        .args(["shaders", "--format", "wgsl", "--out"])
        .arg(file.join("out"))
        .assert()
        .code(1)
        .stderr(predicates::str::contains("cannot make the folder").and(predicates::str::contains("caused by")));
}
